//! A destination with transactions that outlives every process, and checks each commit.

use super::cut::{Cut, begins_anew, read_cut, read_retained_cut};
use super::expected::{Expected, Row};
use super::plan::{Job, Phase};
use super::world::World;
use flott_api::{Committable, Committer, Sink, SinkContext, SinkWriter, UserResult};
use flott_types::{CheckpointId, RecordBatch, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of a transaction.
pub(crate) type TransactionId = u64;

#[derive(Clone, Debug, Default)]
struct Transactions {
    next: TransactionId,
    /// What was prepared, and whether it was committed.
    known: BTreeMap<TransactionId, (Vec<Row>, bool)>,
    /// For which checkpoint.
    prepared_for: BTreeMap<TransactionId, CheckpointId>,
    /// Commits that were compared with a durable checkpoint.
    n_checked: u64,
    /// The highest checkpoint with which something was committed.
    n_commits: u64,
    /// Commits with a checkpoint that has records in flight.
    n_in_flight: u64,
    /// Commits with a checkpoint that goes on from earlier ones.
    n_increments: u64,
}

/// The destination; clones are the same.
#[derive(Clone)]
pub(crate) struct Store {
    transactions: Arc<Mutex<Transactions>>,
    world: World,
    job: Arc<Job>,
    expected: Arc<Expected>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(world: &World, job: &Job) -> Self {
        let expected = Arc::new(job.expected());
        Self { transactions: Arc::default(), world: world.clone(), job: Arc::new(job.clone()), expected }
    }

    /// A copy in another world.
    pub(crate) fn in_world(&self, world: &World) -> Self {
        let transactions = Arc::new(Mutex::new(self.lock().clone()));
        Self { transactions, world: world.clone(), ..self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Transactions> {
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits that were compared with a checkpoint, and all commits.
    pub(crate) fn n_checked(&self) -> (u64, u64) {
        let transactions = self.lock();
        (transactions.n_checked, transactions.n_commits)
    }

    /// Commits with a checkpoint that has records in flight.
    pub(crate) fn n_in_flight(&self) -> u64 {
        self.lock().n_in_flight
    }

    /// Commits with a checkpoint that goes on from earlier ones.
    pub(crate) fn n_increments(&self) -> u64 {
        self.lock().n_increments
    }

    /// What a reader of committed data sees.
    pub(crate) fn committed(&self) -> Vec<Row> {
        let transactions = self.lock();
        transactions
            .known
            .values()
            .filter(|(_, is_committed)| *is_committed)
            .flat_map(|(rows, _)| rows.clone())
            .collect()
    }

    /// Takes the destination back to what was committed by a checkpoint: the others' transactions are undone.
    pub(crate) fn take_back(&self, to: &Cut) {
        let mut transactions = self.lock();
        let Transactions { known, prepared_for, .. } = &mut *transactions;
        for (id, (rows, is_committed)) in known {
            // What was read before the checkpoint may have been prepared behind it, if it was on its way.
            let is_before = prepared_for.get(id).is_some_and(|of| *of <= to.id);
            let is_older = (is_before || !to.flight.is_open())
                && rows.iter().all(|row| self.expected.get(row).is_some_and(|due| to.covers(*due).1));
            *is_committed &= is_older && !to.listed.contains(id);
        }
    }

    /// Compares what is committed, with what the newest durable checkpoint promises to commit, with the reference up to there.
    fn check(&self, transactions: &mut Transactions, of: CheckpointId, when: &str) {
        if begins_anew(&self.world) {
            return;
        }
        let newest = match read_cut(&self.world.disk, &self.job) {
            Ok(None) => read_retained_cut(&self.world.disk, of, &self.job),
            newest => newest,
        };
        let cut = match newest {
            Ok(Some(cut)) => cut,
            Ok(None) => {
                self.world
                    .violation(format!("{when} a commit of checkpoint {of} there is no durable checkpoint"));
                return;
            }
            Err(error) => {
                self.world.violation(format!("{when} a commit of checkpoint {of}: {error}"));
                return;
            }
        };
        let is_seen = |id: &TransactionId, is_committed: bool| is_committed || cut.listed.contains(id);
        let seen = transactions.known.iter().filter(|(id, (_, is_committed))| is_seen(id, *is_committed));
        let rows: Vec<&Row> = seen.flat_map(|(_, (rows, _))| rows).collect();
        let state = self.world.compare_state(&self.job, &cut);
        if let Err(what) = state.and_then(|()| compare(&self.job, &self.expected, &cut, &rows)) {
            self.world.violation(format!(
                "{when} a commit of checkpoint {of}, with checkpoint {} the newest that is durable: {what}",
                cut.id
            ));
        }
        let lost = cut.listed.iter().find(|id| !transactions.known.contains_key(id));
        if let Some(lost) = lost {
            self.world
                .violation(format!("checkpoint {} lists transaction {lost}, which nobody knows", cut.id));
        }
        transactions.n_checked += 1;
        transactions.n_in_flight += u64::from(cut.flight.n_subtasks > 0);
        transactions.n_increments += u64::from(cut.goes_on);
    }

    fn commit(&self, committables: &[Committable]) -> io::Result<()> {
        let mut transactions = self.lock();
        transactions.n_commits += 1;
        let of =
            committables.iter().map(|committable| committable.checkpoint_id).max().unwrap_or(CheckpointId(0));
        self.check(&mut transactions, of, "before");
        for committable in committables {
            let id = transaction_id(&committable.payload)?;
            let lost = || io::Error::other(format!("transaction {id} is lost"));
            transactions.known.get_mut(&id).ok_or_else(lost)?.1 = true;
        }
        self.check(&mut transactions, of, "behind");
        Ok(())
    }
}

/// What is wrong with rows that are committed, or certain to be, as of a checkpoint.
pub(crate) fn compare(
    job: &Job,
    expected: &Expected,
    cut: &Cut,
    rows: &[&Row],
) -> std::result::Result<(), String> {
    let mut seen = BTreeSet::new();
    for row in rows {
        let Some(due) = expected.get(*row) else { return Err(format!("{row:?} is wrong")) };
        if !seen.insert(*row) && !job.at_least_once {
            return Err(format!("{row:?} is there twice"));
        }
        if !cut.covers_row(row, *due).1 && !job.at_least_once {
            return Err(format!("{row:?}, due at {due:?}, comes too early; {}", cut.positions()));
        }
    }
    match expected.iter().find(|(row, due)| cut.covers_row(row, **due).0 && !seen.contains(row)) {
        Some((row, due)) => Err(format!("{row:?}, due at {due:?}, is missing; {}", cut.positions())),
        None => Ok(()),
    }
}

/// The number in the payload of a committable.
pub(crate) fn transaction_id(payload: &[u8]) -> io::Result<TransactionId> {
    let bytes = payload.try_into().map_err(|_| io::Error::other("not the number of a transaction"))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Sink<Row> for Store {
    type Writer = StoreWriter;
    fn create_writer(&self, _: SinkContext) -> Result<StoreWriter> {
        Ok(StoreWriter { store: self.clone(), rows: Vec::new() })
    }
    fn create_committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(StoreCommitter(self.clone()))))
    }
}

pub(crate) struct StoreWriter {
    store: Store,
    rows: Vec<Row>,
}

impl SinkWriter<Row> for StoreWriter {
    fn write(&mut self, batch: RecordBatch<Row>) -> UserResult {
        let Self { store, rows } = self;
        Ok(store.world.event(Phase::Write, || {
            rows.extend(batch.into_columns().0);
            Ok(())
        })?)
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, _: bool) -> UserResult<Vec<Vec<u8>>> {
        let Self { store, rows } = self;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let id = store.world.event(Phase::Prepare, || {
            let mut transactions = store.lock();
            transactions.next += 1;
            let id = transactions.next;
            transactions.known.insert(id, (std::mem::take(rows), false));
            transactions.prepared_for.insert(id, checkpoint_id);
            Ok(id)
        })?;
        Ok(vec![id.to_le_bytes().to_vec()])
    }

    fn restore(&mut self, _: Vec<Vec<u8>>, _: Option<CheckpointId>) -> UserResult {
        Ok(self.store.world.event(Phase::Restore, || Ok(()))?)
    }
}

struct StoreCommitter(Store);

impl Committer for StoreCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        Ok(self.0.world.event(Phase::Commit, || self.0.commit(committables))?)
    }
}
