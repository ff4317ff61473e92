//! A transactional sink on a model of Kafka's brokers that uses a transactional id again when its transaction is committed, as it should be and with
//! mistakes that show only when a request arrives late.

use flott_api::{Committable, Committer, Sink, SinkContext, SinkGeneration, SinkWriter, UserResult};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::broker::{
    BrokerError, BrokerFault, BrokerRecord, Isolation, ProducerIdentity, SimBroker, TransactionState,
};
use flott_testkit::contract::{RecordId, SinkFault, SinkLimits, SinkPromise, SinkSubject};
use flott_types::{CheckpointId, RecordBatch, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

const TOPIC: &str = "topic";
const PARTITIONS: u32 = 3;
const TIMEOUT_MS: i64 = 60_000;
/// How often a request is sent that is not answered, or that comes too soon.
const TRIES_MAX: usize = 3;

/// How a transaction is told from the next of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Epochs {
    /// Each end changes the epoch (KIP-890).
    ChangeWithEnds,
    /// The id is taken over for each.
    ChangeWithTakeovers,
    /// A mistake: by nothing.
    Stay,
    /// A mistake: by nothing; and what has got no answer is aborted and written again.
    StayAndWriteAgain,
}

/// What is known of the newest transaction of an id.
struct Begun {
    subtask: u32,
    /// The last checkpoint before it.
    mark: u64,
    generation: SinkGeneration,
}

/// The ids of a run of a subtask that can be used again, by their numbers.
type Pool = BTreeMap<u64, ProducerIdentity>;

struct Outside {
    broker: SimBroker,
    begun: BTreeMap<String, Begun>,
    pools: BTreeMap<(u32, u64), Pool>,
    /// The committables of transactions that are committed, so that nobody asks for their end again when their ids are used by others.
    committed: BTreeSet<Vec<u8>>,
}

#[derive(Clone)]
pub(super) struct ToyPoolSink {
    outside: Arc<Mutex<Outside>>,
    epochs: Epochs,
}

/// Asks until there is an answer.
fn patiently<T>(
    mut ask: impl FnMut() -> std::result::Result<T, BrokerError>,
) -> std::result::Result<T, BrokerError> {
    let mut answer = ask();
    for _ in 1..TRIES_MAX {
        if !matches!(answer, Err(BrokerError::ConcurrentTransactions | BrokerError::NetworkException)) {
            break;
        }
        answer = ask();
    }
    answer
}

impl ToyPoolSink {
    pub(super) fn new(epochs: Epochs) -> Self {
        let mut broker = SimBroker::new();
        broker.create_partitions(TOPIC, PARTITIONS as usize);
        let outside =
            Outside { broker, begun: BTreeMap::new(), pools: BTreeMap::new(), committed: BTreeSet::new() };
        Self { outside: Arc::new(Mutex::new(outside)), epochs }
    }

    fn outside(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap()
    }

    /// Ends a transaction, and says who has the id then.
    fn end(
        &self,
        id: &str,
        identity: ProducerIdentity,
        is_commit: bool,
    ) -> std::result::Result<ProducerIdentity, BrokerError> {
        let mut outside = self.outside();
        match self.epochs {
            Epochs::ChangeWithEnds => patiently(|| outside.broker.end_txn_and_bump(id, identity, is_commit)),
            Epochs::ChangeWithTakeovers | Epochs::Stay | Epochs::StayAndWriteAgain => {
                patiently(|| outside.broker.end_txn(id, identity, is_commit)).map(|()| identity)
            }
        }
    }
}

impl Sink<RecordId> for ToyPoolSink {
    type Writer = ToyPoolWriter;

    fn create_writer(&self, ctx: SinkContext) -> Result<ToyPoolWriter> {
        let mark = ctx.restored_checkpoint.map_or(0, |id| id.0);
        Ok(ToyPoolWriter { sink: self.clone(), ctx, mark, n_ids: 0, n_begun: 0, open: None })
    }

    fn create_committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(ToyPoolCommitter(self.clone()))))
    }
}

struct Open {
    number: u64,
    id: String,
    identity: ProducerIdentity,
}

pub(super) struct ToyPoolWriter {
    sink: ToyPoolSink,
    ctx: SinkContext,
    mark: u64,
    n_ids: u64,
    n_begun: u64,
    open: Option<Open>,
}

impl ToyPoolWriter {
    fn generation(&self) -> SinkGeneration {
        self.ctx.generation.unwrap_or(SinkGeneration { history: 0, job: 0, subtask: 0 })
    }

    fn partition(&self) -> i32 {
        (self.ctx.subtask.0 % PARTITIONS) as i32
    }

    fn id(&self) -> UserResult<Open> {
        let (subtask, run) = (self.ctx.subtask.0, self.ctx.run_id);
        let mut outside = self.sink.outside();
        let free = outside.pools.entry((subtask, run)).or_default().pop_first();
        let (number, known) = free.map_or((self.n_ids, None), |(number, identity)| (number, Some(identity)));
        let id = format!("{subtask}-{run}-{number}");
        let identity = match known {
            Some(identity) if self.sink.epochs != Epochs::ChangeWithTakeovers => identity,
            Some(_) | None => patiently(|| outside.broker.init_producer_id(&id, TIMEOUT_MS))?,
        };
        Ok(Open { number, id, identity })
    }

    fn begin(&mut self, open: &Open) -> UserResult {
        let (mark, subtask, generation) = (self.mark, self.ctx.subtask.0, self.generation());
        let mut outside = self.sink.outside();
        outside.begun.insert(open.id.clone(), Begun { subtask, mark, generation });
        outside.broker.add_partition(&open.id, open.identity, TOPIC, self.partition())?;
        Ok(())
    }

    fn produce(&self, records: &[BrokerRecord]) -> std::result::Result<(), BrokerError> {
        let Some(Open { id, identity, .. }) = &self.open else { return Ok(()) };
        let mut outside = self.sink.outside();
        outside.broker.produce(TOPIC, self.partition(), Some((id.as_str(), *identity)), records)
    }
}

impl SinkWriter<RecordId> for ToyPoolWriter {
    fn write(&mut self, batch: RecordBatch<RecordId>) -> UserResult {
        let record = |id: RecordId| BrokerRecord {
            value: Some(id.to_string().into_bytes()),
            ..BrokerRecord::default()
        };
        let records: Vec<BrokerRecord> = batch.into_iter().map(|(id, _)| record(id)).collect();
        let is_new = self.open.is_none();
        if is_new {
            let open = self.id()?;
            self.n_ids = self.n_ids.max(open.number + 1);
            self.n_begun += 1;
            self.begin(&open)?;
            self.open = Some(open);
        }
        let written = self.produce(&records);
        let writes_again = self.sink.epochs == Epochs::StayAndWriteAgain && is_new;
        if let (Err(BrokerError::NetworkException), true, Some(open)) =
            (written, writes_again, self.open.take_if(|_| writes_again && written.is_err()))
        {
            self.sink.end(&open.id, open.identity, false)?;
            self.begin(&open)?;
            self.open = Some(open);
            return Ok(self.produce(&records)?);
        }
        Ok(written?)
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, _: bool) -> UserResult<Vec<Vec<u8>>> {
        self.mark = checkpoint_id.0;
        let Some(Open { number, id, identity }) = self.open.take() else { return Ok(Vec::new()) };
        let ProducerIdentity { producer_id, epoch } = identity;
        let (subtask, run, n_begun) = (self.ctx.subtask.0, self.ctx.run_id, self.n_begun);
        Ok(vec![format!("{id} {producer_id} {epoch} {subtask} {run} {number} {n_begun}").into_bytes()])
    }

    fn finish(&mut self) -> UserResult {
        Ok(())
    }

    fn restore(&mut self, _: Vec<Vec<u8>>, restored: Option<CheckpointId>) -> UserResult {
        let (from, mine) = (restored.map_or(0, |id| id.0), self.generation());
        let mut outside = self.sink.outside();
        for (id, state) in outside.broker.list_transactions("")? {
            let is_leftover = outside.begun.get(&id).is_some_and(|begun| {
                begun.mark >= from
                    && begun.subtask % self.ctx.parallelism == self.ctx.subtask.0
                    && begun.generation.subtask <= mine.subtask
            });
            if is_leftover && state == TransactionState::Ongoing {
                patiently(|| outside.broker.init_producer_id(&id, TIMEOUT_MS))?;
            }
        }
        Ok(())
    }
}

struct ToyPoolCommitter(ToyPoolSink);

impl ToyPoolCommitter {
    fn commit_one(&self, committable: &Committable) -> UserResult {
        if self.0.outside().committed.contains(&committable.payload) {
            return Ok(());
        }
        let payload = String::from_utf8(committable.payload.clone())?;
        let parts: Vec<&str> = payload.split(' ').collect();
        let [id, producer_id, epoch, subtask, run, number, _] = parts.as_slice() else {
            return Err("no payload of this sink".into());
        };
        let identity = ProducerIdentity { producer_id: producer_id.parse()?, epoch: epoch.parse()? };
        match self.0.end(id, identity, true) {
            Ok(identity) => {
                let mut outside = self.0.outside();
                let pool = outside.pools.entry((subtask.parse()?, run.parse()?)).or_default();
                pool.insert(number.parse()?, identity);
                outside.committed.insert(committable.payload.clone());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Committer for ToyPoolCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        committables.iter().try_for_each(|committable| self.commit_one(committable))
    }
}

impl SinkSubject for ToyPoolSink {
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
    fn limits(&self) -> SinkLimits {
        SinkLimits { zombies_hold_back: true, waits_for_neighbours: true, ..SinkLimits::default() }
    }
    fn record(&self, id: RecordId) -> RecordId {
        id
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let parse = |record: &BrokerRecord| {
            let text = std::str::from_utf8(record.value.as_deref().unwrap_or_default())?;
            let (partition, number) = text.split_once('/').ok_or("a record that nobody wrote")?;
            Ok(RecordId { partition: partition.parse()?, number: number.parse()? })
        };
        self.outside().broker.read_all(TOPIC, Isolation::ReadCommitted).iter().map(parse).collect()
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        let broker = &self.outside().broker;
        Ok(broker.open_transactions().difference(&broker.stray_transactions()).cloned().collect())
    }
    fn settle(&mut self) -> UserResult {
        self.outside().broker.advance(TIMEOUT_MS);
        Ok(())
    }
    fn faults(&self) -> Vec<SinkFault> {
        let delays = || [2, 5, 8].into_iter();
        let late = delays().map(|by| SinkFault::LateRequest { by });
        let twice = delays().map(|by| SinkFault::DuplicateRequest { by });
        [SinkFault::FailRequest, SinkFault::LoseReply].into_iter().chain(late).chain(twice).collect()
    }
    fn inject(&mut self, fault: SinkFault, nth: u64) -> UserResult {
        let fault = match fault {
            SinkFault::LoseReply => BrokerFault::ReplyLost,
            SinkFault::LateRequest { by } => BrokerFault::Late(by),
            SinkFault::DuplicateRequest { by } => BrokerFault::Twice(by),
            _ => BrokerFault::Lost,
        };
        self.outside().broker.fail(nth, fault);
        Ok(())
    }
    fn requests(&mut self) -> Option<u64> {
        Some(self.outside().broker.n_requests())
    }
}
