//! A transactional sink into memory, as it should be and with mistakes.

use flott_api::{Committable, Committer, Sink, SinkContext, SinkGeneration, SinkWriter, UserResult};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{RecordId, SinkFault, SinkPromise, SinkSubject};
use flott_types::{CheckpointId, RecordBatch, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// Records are visible when they are prepared.
    CommitsWhatIsPrepared,
    /// An error of a commit is logged (FLINK-24773).
    SwallowsCommitErrors,
    /// What was committed is remembered by the number of its checkpoint (Iceberg 10892, 18098).
    RemembersCheckpointNumbers,
    /// Closing aborts what was prepared, too (FLINK-17327).
    AbortsOnClose,
    /// A restore aborts what the restored checkpoint has prepared, too.
    AbortsWhatIsNeeded,
    /// A restore also aborts what its neighbours have begun.
    AbortsOfNeighbours,
    /// A restore aborts nothing (FLINK-23854).
    AbortsNothing,
    /// An attempt that wakes up aborts what its successor has begun.
    AbortsAsZombie,
    /// A commit that comes again is done again (Iceberg 16008).
    CommitsAgain,
    /// What is not found was committed, one believes (FLINK-7784).
    TakesMissingForCommitted,
    /// The last checkpoint has no committables.
    ForgetsTheLast,
    /// The first error of the writer is forgotten, with the records.
    SwallowsWriteErrors,
    /// Only the writer that prepared can commit.
    CommitsOnlyItsOwn,
}

struct Transaction {
    records: Vec<RecordId>,
    subtask: u32,
    /// The last checkpoint before it.
    mark: u64,
    generation: SinkGeneration,
}

#[derive(Default)]
struct Outside {
    open: BTreeMap<String, Transaction>,
    committed: BTreeMap<String, Vec<RecordId>>,
    /// For the mistakes.
    visible: Vec<RecordId>,
    numbers: BTreeSet<(u32, u64)>,
    n_requests: u64,
    fault: Option<(SinkFault, u64)>,
}

impl Outside {
    /// A request, with its fault.
    fn request<T>(&mut self, apply: impl FnOnce(&mut Self) -> T) -> UserResult<T> {
        self.n_requests += 1;
        let fault = self.fault.filter(|(_, at)| *at == self.n_requests).map(|(fault, _)| fault);
        if fault == Some(SinkFault::FailRequest) {
            return Err("the request failed".into());
        }
        let reply = apply(self);
        if fault == Some(SinkFault::LoseReply) { Err("the reply is lost".into()) } else { Ok(reply) }
    }
}

#[derive(Clone)]
pub(super) struct ToySink {
    outside: Arc<Mutex<Outside>>,
    mistake: Mistake,
}

impl ToySink {
    pub(super) fn new(mistake: Mistake) -> Self {
        Self { outside: Arc::default(), mistake }
    }

    fn outside(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap()
    }
}

impl Sink<RecordId> for ToySink {
    type Writer = ToyWriter;

    fn create_writer(&self, ctx: SinkContext) -> Result<ToyWriter> {
        let mark = ctx.restored_checkpoint.map_or(0, |id| id.0);
        let sink = self.clone();
        Ok(ToyWriter { sink, ctx, mark, n_begun: 0, open: None, prepared: Vec::new() })
    }

    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(ToyCommitter { sink: self.clone(), run: ctx.run_id })))
    }
}

pub(super) struct ToyWriter {
    sink: ToySink,
    ctx: SinkContext,
    mark: u64,
    n_begun: u64,
    open: Option<String>,
    prepared: Vec<String>,
}

impl ToyWriter {
    fn generation(&self) -> SinkGeneration {
        self.ctx.generation.unwrap_or(SinkGeneration { history: 0, job: 0, subtask: 0 })
    }
}

impl SinkWriter<RecordId> for ToyWriter {
    fn write(&mut self, batch: RecordBatch<RecordId>) -> UserResult {
        let records: Vec<RecordId> = batch.into_iter().map(|(record, _)| record).collect();
        let (mark, subtask, generation) = (self.mark, self.ctx.subtask.0, self.generation());
        let name = self.open.get_or_insert_with(|| {
            self.n_begun += 1;
            format!("{}-{}-{}", self.ctx.subtask, self.ctx.run_id, self.n_begun)
        });
        let written = self.sink.outside().request(|outside| {
            let begun = || Transaction { records: Vec::new(), subtask, mark, generation };
            outside.open.entry(name.clone()).or_insert_with(begun).records.extend(records);
        });
        if self.sink.mistake == Mistake::SwallowsWriteErrors { Ok(()) } else { written }
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        self.mark = checkpoint_id.0;
        let Some(name) = self.open.take() else { return Ok(Vec::new()) };
        let mistake = self.sink.mistake;
        if is_final && mistake == Mistake::ForgetsTheLast {
            return Ok(Vec::new());
        }
        if mistake == Mistake::CommitsWhatIsPrepared {
            let mut outside = self.sink.outside();
            let records = outside.open.remove(&name).map(|open| open.records).unwrap_or_default();
            outside.committed.insert(name.clone(), records);
        }
        self.prepared.push(name.clone());
        let payload = format!("{} {name}", self.ctx.run_id);
        Ok(vec![payload.into_bytes()])
    }

    fn finish(&mut self) -> UserResult {
        Ok(())
    }

    fn restore(&mut self, _: Vec<Vec<u8>>, restored: Option<CheckpointId>) -> UserResult {
        let (from, mistake, mine) = (restored.map_or(0, |id| id.0), self.sink.mistake, self.generation());
        let is_of_subtask = |open: &Transaction| open.subtask % self.ctx.parallelism == self.ctx.subtask.0;
        let is_of_later = |open: &Transaction| open.generation.subtask > mine.subtask;
        let is_leftover = |open: &Transaction| match mistake {
            Mistake::AbortsNothing => false,
            Mistake::AbortsWhatIsNeeded => is_of_subtask(open) && !is_of_later(open),
            Mistake::AbortsOfNeighbours => open.mark >= from && !is_of_later(open),
            Mistake::AbortsAsZombie => open.mark >= from && is_of_subtask(open),
            _ => open.mark >= from && is_of_subtask(open) && !is_of_later(open),
        };
        self.sink.outside().request(|outside| outside.open.retain(|_, open| !is_leftover(open)))
    }
}

impl Drop for ToyWriter {
    fn drop(&mut self) {
        if self.sink.mistake == Mistake::AbortsOnClose {
            let mut outside = self.sink.outside();
            self.prepared.iter().chain(&self.open).for_each(|name| {
                outside.open.remove(name);
            });
        }
    }
}

struct ToyCommitter {
    sink: ToySink,
    run: u64,
}

impl ToyCommitter {
    fn commit_one(&self, committable: &Committable) -> UserResult {
        let payload = String::from_utf8(committable.payload.clone())?;
        let (run, name) = payload.split_once(' ').ok_or("no payload of this sink")?;
        let mistake = self.sink.mistake;
        if mistake == Mistake::CommitsOnlyItsOwn && run != self.run.to_string() {
            return Ok(());
        }
        let number = (committable.subtask.0, committable.checkpoint_id.0);
        self.sink.outside().request(|outside| -> UserResult {
            if mistake == Mistake::RemembersCheckpointNumbers && !outside.numbers.insert(number) {
                outside.open.remove(name);
                return Ok(());
            }
            if let Some(committed) = outside.committed.get(name) {
                if mistake == Mistake::CommitsAgain {
                    outside.visible.extend(committed.clone());
                }
                return Ok(());
            }
            match outside.open.remove(name) {
                Some(open) => {
                    outside.committed.insert(name.to_owned(), open.records);
                    Ok(())
                }
                None if mistake == Mistake::TakesMissingForCommitted => Ok(()),
                None => Err(format!("transaction {name} is lost").into()),
            }
        })?
    }
}

impl Committer for ToyCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let done = committables.iter().try_for_each(|committable| self.commit_one(committable));
        if self.sink.mistake == Mistake::SwallowsCommitErrors { Ok(()) } else { done }
    }
}

impl SinkSubject for ToySink {
    type Record = RecordId;
    type Sink = Self;

    fn env(&self) -> Env {
        Simulation::new(1).env()
    }
    fn sink(&mut self) -> UserResult<Self> {
        Ok(self.clone())
    }
    fn promise(&self) -> SinkPromise {
        SinkPromise::Transactional
    }
    fn limits(&self) -> flott_testkit::contract::SinkLimits {
        flott_testkit::contract::SinkLimits { zombies_leave_something: true, ..Default::default() }
    }
    fn record(&self, id: RecordId) -> RecordId {
        id
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let outside = self.outside();
        Ok(outside.committed.values().flatten().chain(&outside.visible).copied().collect())
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        Ok(self.outside().open.keys().map(|name| format!("transaction {name}")).collect())
    }
    fn faults(&self) -> Vec<SinkFault> {
        vec![SinkFault::FailRequest, SinkFault::LoseReply, SinkFault::Expire]
    }
    fn inject(&mut self, fault: SinkFault, nth: u64) -> UserResult {
        let mut outside = self.outside();
        if fault == SinkFault::Expire {
            outside.open.clear();
        } else {
            outside.fault = Some((fault, outside.n_requests + nth + 1));
        }
        Ok(())
    }
    fn requests(&mut self) -> Option<u64> {
        Some(self.outside().n_requests)
    }
}
