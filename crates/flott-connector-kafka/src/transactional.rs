//! The transactions of one subtask: one for each checkpoint, each with a producer of its own.
//!
//! To take a transactional id over costs the client tens to hundreds of milliseconds, most of which it waits. So the producers for the next
//! transactions are made by threads while records still go into this one ([`Spares`]).

mod spares;

use crate::client::{Client, OutgoingRecord, Producer, SendOutcome, TransactionHandle};
use crate::committer::Prepared;
use crate::name::{Generation, Held, Name, Successor, sink_prefix};
use flott_api::SinkContext;
use flott_env::Env;
use flott_types::{CheckpointId, Error, ErrorKind, Result};
use spares::{Spare, Spares};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use tracing::{debug, info, warn};

/// How soon after the start to look for transactions of attempts that were taken for dead.
const LOOK_PAUSE_MS_MIN: i64 = 1_000;
/// How long such a transaction holds readers up at most, about, as long as the job runs.
const LOOK_PAUSE_MS_MAX: i64 = 30_000;

/// How many entries of earlier runs are handed down.
const INHERITED_MAX: usize = 128;

/// A transaction that is written to.
struct Open {
    producer: Box<dyn Producer>,
    id: String,
    n_records: u64,
}

/// The transactions of one subtask of a sink.
pub(crate) struct Transactions {
    client: Arc<dyn Client>,
    env: Env,
    sink_prefix: String,
    subtask: u32,
    parallelism: u32,
    run: u64,
    generation: Option<Generation>,
    restored: Option<CheckpointId>,
    /// Of earlier attempts, when this one began: what a checkpoint may have, and what is aborted.
    seen: BTreeSet<String>,
    /// What earlier runs have left in checkpoints is handed down: one of them may wake after those who were told of it are gone.
    inherited: Vec<Held>,
    /// When to look again, in milliseconds since the epoch, and how long after that.
    look_at: i64,
    look_pause_ms: i64,
    /// The number of the transaction that is open, or else of the next.
    number: u64,
    open: Option<Open>,
    /// The producers of the next transactions.
    spares: Spares<Result<Box<dyn Producer>>>,
    /// The last call failed: nobody waits for the cluster on the way out.
    has_failed: bool,
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Transactions {
    pub(crate) fn new(client: Arc<dyn Client>, prefix: &str, ctx: &SinkContext) -> Self {
        Self {
            client,
            env: ctx.env.clone(),
            sink_prefix: sink_prefix(prefix, ctx),
            subtask: ctx.subtask.0,
            parallelism: ctx.parallelism,
            run: ctx.run_id,
            generation: ctx.generation.map(Generation::new),
            seen: BTreeSet::new(),
            inherited: Vec::new(),
            look_at: i64::MAX,
            look_pause_ms: LOOK_PAUSE_MS_MIN,
            restored: ctx.restored_checkpoint,
            number: 0,
            open: None,
            spares: Spares::default(),
            has_failed: false,
        }
    }

    fn id(&self, number: u64) -> String {
        let Self { subtask, run, restored, .. } = *self;
        let generation = self.generation.unwrap_or_default();
        Name { subtask, run, generation, restored, number }.id(&self.sink_prefix)
    }

    /// Has threads make the producers of the next transactions.
    fn make_spares(&mut self) {
        // In a simulation threads cannot be waited for: they are made when they are needed.
        if !self.env.may_block() {
            return;
        }
        while let Some((ahead, sender)) = self.spares.order() {
            let (client, id) = (Arc::clone(&self.client), self.id(self.number + ahead));
            // If nobody wants it any more it is dropped, with a transaction of which the brokers know nothing.
            let make = async move { drop(sender.send(client.producer(Some(&id)))) };
            drop(self.env.spawn_subtask("kafka transaction", make));
        }
    }

    fn take_spare(&mut self) -> Result<Box<dyn Producer>> {
        match self.spares.next() {
            Some(Spare::Made(made)) => made,
            Some(Spare::Coming(coming)) => {
                // The first could not have been made sooner.
                if self.number > 0 {
                    self.spares.order_sooner();
                }
                coming.recv().map_err(|_| Error::subtask("the thread that makes producers has ended"))?
            }
            None => self.client.producer(Some(&self.id(self.number))),
        }
    }

    /// Sends a record in the open transaction.
    pub(crate) fn send(&mut self, record: &OutgoingRecord<'_>) -> Result<SendOutcome> {
        if self.open.is_none() {
            self.has_failed = true;
            let producer = self.take_spare()?;
            self.open = Some(Open { producer, id: self.id(self.number), n_records: 0 });
            self.has_failed = false;
        }
        let open = self.open.as_mut().expect("it was just opened");
        let outcome = open.producer.send(record)?;
        open.n_records += u64::from(outcome == SendOutcome::Taken);
        Ok(outcome)
    }

    /// Makes what was written durable and returns what is needed to commit it; nothing if nothing was written.
    pub(crate) fn prepare(&mut self, is_final: bool) -> Result<Option<Vec<u8>>> {
        self.look_again()?;
        // Brokers know of no transaction before it has a record: one without stays for the records that come next.
        let Some(mut open) = self.open.take_if(|open| open.n_records > 0) else { return Ok(None) };
        self.has_failed = true;
        open.producer.flush()?;
        let Open { producer, id, n_records } = open;
        let Some(transaction) = self.client.open_transaction(&id)? else {
            return Err(Error::new(
                ErrorKind::Retry,
                format!(
                    "transaction '{id}' is not open any more: its time-out has passed (transaction.timeout.ms), or somebody has taken its id over"
                ),
            ));
        };
        debug!(transaction = id, n_records, "prepared");
        // What was written stays: the transaction belongs to the id, not to this producer.
        drop(producer);
        self.number += 1;
        if !is_final {
            self.make_spares();
        }
        self.has_failed = false;
        Ok(Some(flott_state::encode("a prepared transaction", &Prepared { transaction, n_records })?))
    }

    /// What is needed after a restart to tell transactions of this checkpoint from later ones.
    pub(crate) fn snapshot(&self) -> Result<Vec<Vec<u8>>> {
        let generation = self.generation.unwrap_or_default().number;
        let own = Held { subtask: self.subtask, run: self.run, generation, next: self.number };
        let encode = |held: &Held| flott_state::encode("the number of a transaction", held);
        self.inherited.iter().chain([&own]).map(encode).collect()
    }

    /// Aborts what earlier attempts have left open and no checkpoint has: readers would wait for it (FLINK-23854). So is what they have not begun
    /// yet: an attempt may only stand still, or its last requests be on their way.
    pub(crate) fn restore(&mut self, entries: &[Vec<u8>]) -> Result<()> {
        let held = entries.iter().map(|entry| flott_state::decode("the number of a transaction", entry));
        let held: Vec<Held> = held.collect::<Result<_>>()?;
        let open = self.client.open_transactions(&self.sink_prefix)?;
        let successor = self.successor(&held);
        for id in &open {
            if Name::parse(id, &self.sink_prefix).is_some_and(|name| successor.aborts(&name)) {
                info!(transaction = id, "a transaction of an earlier attempt is aborted");
                self.client.abort_transaction(id)?;
            }
        }
        debug!(sink = self.sink_prefix, ?held, "looked for transactions that earlier attempts have left");
        self.seen = open.into_iter().collect();
        self.inherited = held;
        self.inherited.sort_by_key(|held| held.generation);
        self.inherited.drain(..self.inherited.len().saturating_sub(INHERITED_MAX));
        self.look_at = self.env.processing_time().saturating_add(self.look_pause_ms);
        self.make_spares();
        Ok(())
    }

    fn successor<'a>(&self, held: &'a [Held]) -> Successor<'a> {
        let Self { subtask, parallelism, run, generation, restored, .. } = *self;
        Successor { subtask, parallelism, run, generation, restored, held }
    }

    /// Aborts what attempts have begun since that were taken for dead: they end when they notice, but what they have prepared stays open.
    /// Looked for soon after the start, and then less and less often.
    fn look_again(&mut self) -> Result<()> {
        let now = self.env.processing_time();
        if self.generation.is_none() || now < self.look_at {
            return Ok(());
        }
        self.look_pause_ms = (2 * self.look_pause_ms).min(LOOK_PAUSE_MS_MAX);
        self.look_at = now.saturating_add(self.look_pause_ms);
        let successor = self.successor(&[]);
        for id in self.client.open_transactions(&self.sink_prefix)? {
            let name = Name::parse(&id, &self.sink_prefix).filter(|_| !self.seen.contains(&id));
            if name.is_some_and(|name| successor.aborts_late(&name)) {
                info!(transaction = id, "a transaction of an attempt that was taken for dead is aborted");
                self.client.abort_transaction(&id)?;
            }
        }
        Ok(())
    }
}

impl Drop for Transactions {
    /// A job that is cancelled leaves nothing open that readers would wait for. What was prepared is not touched.
    fn drop(&mut self) {
        let Some(Open { producer, id, .. }) = self.open.take() else { return };
        if self.has_failed || std::thread::panicking() {
            return;
        }
        drop(producer);
        if let Err(error) = self.client.abort_transaction(&id) {
            warn!(error = %error.report(), transaction = id, "a transaction stays open until its time-out");
        }
    }
}

/// What a transaction is called in a message.
pub(crate) fn describe(transaction: &TransactionHandle) -> String {
    let TransactionHandle { transactional_id, producer_id, epoch } = transaction;
    format!("'{transactional_id}' (producer {producer_id}, epoch {epoch})")
}
