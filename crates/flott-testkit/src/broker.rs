//! A model of Apache Kafka's brokers, as far as a connector's promises rest on them: a state machine with a clock that is moved by hand.
//!
//! Modelled are partitions with offsets and time; transactions with their ids, producer ids and epochs, fencing, markers that take offsets,
//! time-outs, ids that are forgotten, and ends that take a while (`CONCURRENT_TRANSACTIONS`); the last stable offset and what readers of committed
//! records see; offsets of consumer groups; answers that lack partitions; requests that fail or whose reply is lost. The rules are those of
//! the protocol before KIP-890, which clients that end transactions by id speak: an end does not change the epoch.
//!
//! It is *not* a broker that listens anywhere, and knows nothing of replicas: what is appended is durable.

mod delayed;
mod log;
mod transactions;

pub use log::{BrokerRecord, Isolation};
pub use transactions::{ProducerIdentity, TransactionDescription, TransactionState};

use delayed::{Network, Produce, Request, Sequences};
use log::PartitionLog;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::task::Waker;
use transactions::Transaction;

/// What a broker answers instead: the names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are documented by Kafka")]
pub enum BrokerError {
    UnknownTopicOrPartition,
    OffsetOutOfRange,
    ProducerFenced,
    InvalidProducerIdMapping,
    InvalidTxnState,
    ConcurrentTransactions,
    TransactionalIdNotFound,
    OutOfOrderSequenceNumber,
    /// No answer has come: it is not known whether the request was carried out.
    NetworkException,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for BrokerError {}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerFault {
    /// It does not arrive.
    Lost,
    /// It is carried out, and the reply does not arrive.
    ReplyLost,
    /// No answer comes, and it arrives when there were so many further requests: if it is one of records, or one that begins or ends a transaction; and one
    /// that takes an id over, if [`SimBroker::with_delayed_ids`] says so. Others are lost.
    Late(u64),
    /// It is carried out and answered, and arrives a second time when there were so many further requests. Other requests than those come once.
    Twice(u64),
}

/// The brokers of a cluster.
#[derive(Debug)]
pub struct SimBroker {
    topics: BTreeMap<String, Vec<PartitionLog>>,
    transactions: BTreeMap<String, Transaction>,
    groups: BTreeMap<(String, String, i32), i64>,
    next_producer_id: i64,
    now_ms: i64,
    /// How many requests an end of a transaction takes.
    end_delay: u32,
    /// Ids that are not used for so long are forgotten.
    id_expiration_ms: i64,
    n_requests: u64,
    faults: BTreeMap<u64, BrokerFault>,
    is_incomplete: bool,
    wakers: Vec<Waker>,
    /// Whether nothing is appended of a transaction that is not open.
    verifies: bool,
    /// Whether requests that take an id over can arrive late.
    delays_ids: bool,
    network: Network,
    /// Of the next request that is sent.
    sent: Sequences,
    /// Of the next request that is appended.
    appended: Sequences,
}

impl Default for SimBroker {
    fn default() -> Self {
        Self {
            topics: BTreeMap::new(),
            transactions: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_producer_id: 1000,
            now_ms: 1_600_000_000_000,
            end_delay: 0,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1000,
            n_requests: 0,
            faults: BTreeMap::new(),
            is_incomplete: false,
            wakers: Vec::new(),
            verifies: true,
            delays_ids: false,
            network: Network::default(),
            sent: Sequences::new(),
            appended: Sequences::new(),
        }
    }
}

type Answer<T> = Result<T, BrokerError>;

impl SimBroker {
    /// A cluster without topics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends of transactions take so many requests, during which their ids are busy.
    #[must_use]
    pub fn end_delay(mut self, requests: u32) -> Self {
        self.end_delay = requests;
        self
    }

    /// Appends records of a transaction whether it is open or not, as brokers before Apache Kafka 3.6, and later ones with
    /// `transaction.partition.verification.enable` off. What is appended behind the end is a transaction that nobody knows and nobody ends.
    #[must_use]
    pub fn without_verification(mut self) -> Self {
        self.verifies = false;
        self
    }

    /// Delays and doubles requests that take an id over (`InitProducerId`), too. Nothing in them tells that they are of the past, whatever the version: one
    /// that arrives behind a later one of the same id, when the transaction that was begun since is to be committed, aborts that.
    #[must_use]
    pub fn with_delayed_ids(mut self) -> Self {
        self.delays_ids = true;
        self
    }

    /// A topic with so many partitions, or further partitions for it.
    pub fn create_partitions(&mut self, topic: &str, n_partitions: usize) {
        let partitions = self.topics.entry(topic.to_owned()).or_default();
        partitions.resize_with(partitions.len().max(n_partitions), PartitionLog::default);
    }

    /// Whoever asks for partitions is not told of the first of each topic.
    pub fn set_incomplete(&mut self, is_incomplete: bool) {
        self.is_incomplete = is_incomplete;
    }

    /// The `nth` request from now on, counted from 0, goes wrong.
    pub fn fail(&mut self, nth: u64, fault: BrokerFault) {
        self.faults.insert(self.n_requests + nth, fault);
    }

    /// The number of requests so far.
    pub fn n_requests(&self) -> u64 {
        self.n_requests
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Lets time pass: transactions time out, and ids are forgotten.
    pub fn advance(&mut self, ms: i64) {
        self.now_ms = self.now_ms.saturating_add(ms);
        let timed_out: Vec<String> = self
            .transactions
            .iter()
            .filter(|(_, transaction)| transaction.has_timed_out(self.now_ms))
            .map(|(id, _)| id.clone())
            .collect();
        for id in timed_out {
            self.abort_and_fence(&id);
            self.finish_end(&id);
        }
        let (now, expiration) = (self.now_ms, self.id_expiration_ms);
        self.transactions.retain(|_, transaction| !transaction.is_forgotten(now, expiration));
        self.wake_all();
    }

    /// A request that goes wrong if somebody wants so.
    fn request<T>(&mut self, carry_out: impl FnOnce(&mut Self) -> Answer<T>) -> Answer<T> {
        self.request_of(None, carry_out)
    }

    /// As above, for one that can arrive late.
    fn request_of<T>(
        &mut self,
        request: Option<Request>,
        carry_out: impl FnOnce(&mut Self) -> Answer<T>,
    ) -> Answer<T> {
        let at = self.n_requests;
        self.n_requests += 1;
        let ending: Vec<String> = self.transactions.keys().cloned().collect();
        for id in ending {
            if self.transactions.get_mut(&id).is_some_and(Transaction::passes_request) {
                self.finish_end(&id);
            }
        }
        self.deliver(at);
        let lost = Err(BrokerError::NetworkException);
        match (self.faults.get(&at).copied(), request) {
            (Some(BrokerFault::Lost), _) | (Some(BrokerFault::Late(_)), None) => lost,
            (Some(BrokerFault::ReplyLost), _) => {
                // Nobody hears whether it was refused.
                drop(carry_out(self));
                lost
            }
            (Some(BrokerFault::Late(by)), Some(request)) => {
                self.network.delay(request, at + 1 + by);
                lost
            }
            (Some(BrokerFault::Twice(by)), Some(request)) => {
                self.network.delay(request, at + 1 + by);
                carry_out(self)
            }
            (None, _) | (Some(BrokerFault::Twice(_)), None) => carry_out(self),
        }
    }

    /// Lets ends of transactions that are under way come to their end, as they do when nobody asks for a while.
    pub fn finish_ends(&mut self) {
        let ids: Vec<String> = self.transactions.keys().cloned().collect();
        ids.iter().for_each(|id| self.finish_end(id));
    }

    fn log(&mut self, topic: &str, partition: i32) -> Answer<&mut PartitionLog> {
        let idx = usize::try_from(partition).map_err(|_| BrokerError::UnknownTopicOrPartition)?;
        let log = self.topics.get_mut(topic).and_then(|partitions| partitions.get_mut(idx));
        log.ok_or(BrokerError::UnknownTopicOrPartition)
    }

    fn wake_all(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Wakes when anything has changed that a reader may see.
    pub fn wake_on_change(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }

    /// The partitions of all topics. The answer may lack some.
    ///
    /// # Errors
    /// If the request goes wrong.
    pub fn metadata(&mut self) -> Answer<Vec<(String, i32)>> {
        self.request(|broker| {
            let n_missing = usize::from(broker.is_incomplete);
            let of = |(topic, partitions): (&String, &Vec<PartitionLog>)| {
                (n_missing..partitions.len()).map(|idx| (topic.clone(), idx as i32)).collect::<Vec<_>>()
            };
            Ok(broker.topics.iter().flat_map(of).collect())
        })
    }

    /// The first offset of a partition, and the one behind the last record that such a reader can see.
    ///
    /// # Errors
    /// If there is no such partition, or the request goes wrong.
    pub fn offsets(&mut self, topic: &str, partition: i32, isolation: Isolation) -> Answer<(i64, i64)> {
        self.request(|broker| broker.log(topic, partition).map(|log| (log.start(), log.end(isolation))))
    }

    /// The offset of the first record whose timestamp is not less.
    ///
    /// # Errors
    /// As [`SimBroker::offsets`].
    pub fn offset_for_time(&mut self, topic: &str, partition: i32, ms: i64) -> Answer<Option<i64>> {
        self.request(|broker| broker.log(topic, partition).map(|log| log.offset_for_time(ms)))
    }

    /// Appends records to a partition: as part of a transaction if the producer has one. Requests of a producer are numbered, as those of idempotent
    /// producers are: one that comes again is answered and not appended again.
    ///
    /// # Errors
    /// [`BrokerError::ProducerFenced`] if somebody has taken the transactional id over or the transaction has timed out,
    /// [`BrokerError::InvalidTxnState`] if the partition was not added, [`BrokerError::OutOfOrderSequenceNumber`] if one before it has not arrived; if
    /// there is no such partition, or the request goes wrong.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        producer: Option<(&str, ProducerIdentity)>,
        records: &[BrokerRecord],
    ) -> Answer<()> {
        let sequence = producer.map_or(0, |(_, identity)| {
            let next = self.sent.entry((identity, topic.to_owned(), partition)).or_default();
            *next += 1;
            *next - 1
        });
        let producer = producer.map(|(id, identity)| (id.to_owned(), identity));
        let (topic, records) = (topic.to_owned(), records.to_vec());
        let produce = Produce { topic, partition, producer, sequence, records };
        self.request_of(Some(Request::Produce(produce.clone())), |broker| broker.append(&produce))
    }

    fn append(&mut self, produce: &Produce) -> Answer<()> {
        let Produce { topic, partition, producer, sequence, records } = produce;
        let (now, place) = (self.now_ms, (topic.clone(), *partition));
        if let Some((id, identity)) = producer {
            let transaction = self.transactions.get(id).ok_or(BrokerError::InvalidProducerIdMapping)?;
            transaction.check(*identity)?;
            let is_open =
                transaction.state() == TransactionState::Ongoing && transaction.partitions.contains(&place);
            // What was appended before is answered, whether the transaction is open or not.
            let next = self.appended.entry((*identity, place.0, place.1)).or_default();
            match sequence.cmp(next) {
                Ordering::Less => return Ok(()),
                Ordering::Equal => {}
                Ordering::Greater => return Err(BrokerError::OutOfOrderSequenceNumber),
            }
            if !is_open && self.verifies {
                return Err(BrokerError::InvalidTxnState);
            }
            *next += 1;
        }
        let log = self.log(topic, *partition)?;
        let producer_id = producer.as_ref().map(|(_, identity)| identity.producer_id);
        records.iter().for_each(|record| log.append(record.clone(), producer_id, now));
        self.wake_all();
        Ok(())
    }

    /// Reads the first record at `offset` or behind it that such a reader can see, and says where to read on; without a record, where it has come
    /// to.
    ///
    /// # Errors
    /// [`BrokerError::OffsetOutOfRange`]; if there is no such partition.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        isolation: Isolation,
    ) -> Answer<(Option<(i64, BrokerRecord)>, i64)> {
        self.log(topic, partition)?.fetch(offset, isolation)
    }

    /// Deletes the records below an offset, as retention does.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn delete_records(&mut self, topic: &str, partition: i32, below: i64) -> Answer<()> {
        self.log(topic, partition).map(|log| log.delete_below(below))
    }

    /// Commits an offset for a consumer group.
    ///
    /// # Errors
    /// If the request goes wrong.
    pub fn commit_offset(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> Answer<()> {
        self.request(|broker| {
            broker.groups.insert((group.to_owned(), topic.to_owned(), partition), offset);
            Ok(())
        })
    }

    /// What a consumer group has committed.
    ///
    /// # Errors
    /// If the request goes wrong.
    pub fn committed_offset(&mut self, group: &str, topic: &str, partition: i32) -> Answer<Option<i64>> {
        self.request(|broker| {
            Ok(broker.groups.get(&(group.to_owned(), topic.to_owned(), partition)).copied())
        })
    }

    /// All records of a topic that such a reader sees, by partition and offset.
    pub fn read_all(&self, topic: &str, isolation: Isolation) -> Vec<BrokerRecord> {
        let partitions = self.topics.get(topic).into_iter().flatten();
        partitions.flat_map(|log| log.visible(isolation)).cloned().collect()
    }

    /// The ids of transactions that are open.
    pub fn open_transactions(&self) -> BTreeSet<String> {
        let open = self.transactions.iter().filter(|(_, it)| it.state() == TransactionState::Ongoing);
        open.map(|(id, _)| id.clone()).collect()
    }

    /// Those of them that nobody has begun but a late request, and that have no records: they hold no reader up, and end with their time-out.
    pub fn stray_transactions(&self) -> BTreeSet<String> {
        let open = self.open_transactions().into_iter();
        open.filter(|id| self.transactions.get(id).is_some_and(Transaction::is_stray)).collect()
    }
}

#[cfg(test)]
mod tests;
