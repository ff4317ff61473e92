//! The client of [`SimBroker`].

use crate::client::{
    Client, CommitOutcome, Consumer, Fetched, OffsetPosition, OutgoingRecord, PartitionHandle, Producer,
    SendOutcome, TransactionHandle,
};
use crate::config::TopicSelection;
use crate::offsets::TopicPartition;
use crate::record::{Header, Message};
use flott_testkit::broker::{
    BrokerError, BrokerRecord, Isolation, ProducerIdentity, SimBroker, TransactionDescription,
    TransactionState,
};
use flott_types::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

/// As by default.
const TRANSACTION_TIMEOUT_MS: i64 = 15 * 60 * 1000;
/// More than that no record may have.
pub(super) const MESSAGE_BYTES_MAX: usize = 1000;
/// Of ids that nobody is to use again.
const FENCED_TIMEOUT_MS: i64 = 59_999;
/// How often what passes is tried again.
const TRIES_MAX: usize = 20;
pub(super) const GROUP: &str = "group";

/// Shared by all who use the cluster.
#[derive(Clone, Default)]
pub(super) struct SimClient(Arc<Mutex<SimBroker>>);

impl fmt::Debug for SimClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimClient")
    }
}

fn failed(error: BrokerError) -> Error {
    let kind = match error {
        BrokerError::UnknownTopicOrPartition => ErrorKind::UserError,
        BrokerError::OffsetOutOfRange => ErrorKind::FailJob,
        BrokerError::ProducerFenced | BrokerError::InvalidProducerIdMapping => ErrorKind::Fenced,
        BrokerError::InvalidTxnState
        | BrokerError::OutOfOrderSequenceNumber
        | BrokerError::ConcurrentTransactions
        | BrokerError::TransactionalIdNotFound
        | BrokerError::NetworkException => ErrorKind::Retry,
    };
    Error::new(kind, error.to_string())
}

impl SimClient {
    pub(super) fn new(broker: SimBroker) -> Self {
        Self(Arc::new(Mutex::new(broker)))
    }

    pub(super) fn broker(&self) -> MutexGuard<'_, SimBroker> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Tries again while the end of a transaction is under way.
    fn patiently<T>(
        &self,
        mut ask: impl FnMut(&mut SimBroker) -> std::result::Result<T, BrokerError>,
    ) -> std::result::Result<T, BrokerError> {
        let mut answer = ask(&mut self.broker());
        for _ in 0..TRIES_MAX {
            if !matches!(answer, Err(BrokerError::ConcurrentTransactions)) {
                break;
            }
            answer = ask(&mut self.broker());
        }
        answer
    }
}

impl Client for SimClient {
    fn partitions(&self, topics: &TopicSelection) -> Result<Vec<TopicPartition>> {
        let all = self.broker().metadata().map_err(failed)?;
        let all = all.into_iter().map(|(topic, partition)| TopicPartition { topic, partition });
        Ok(all.filter(|it| topics.contains(&it.topic)).collect())
    }

    fn offsets(
        &self,
        partitions: &[TopicPartition],
        position: OffsetPosition,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut broker = self.broker();
        let mut found = BTreeMap::new();
        for it in partitions {
            let (start, end) =
                broker.offsets(&it.topic, it.partition, Isolation::ReadCommitted).map_err(failed)?;
            let offset = match position {
                OffsetPosition::Earliest => start,
                OffsetPosition::Latest => end,
                OffsetPosition::Timestamp(at) => {
                    broker.offset_for_time(&it.topic, it.partition, at).map_err(failed)?.unwrap_or(end)
                }
            };
            found.insert(it.clone(), offset);
        }
        Ok(found)
    }

    fn committed_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut broker = self.broker();
        let mut found = BTreeMap::new();
        for it in partitions {
            if let Some(offset) = broker.committed_offset(GROUP, &it.topic, it.partition).map_err(failed)? {
                found.insert(it.clone(), offset);
            }
        }
        Ok(found)
    }

    fn consumer(&self) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(SimConsumer { client: self.clone(), reading: BTreeMap::new(), next_handle: 0 }))
    }

    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        let transaction = match transactional_id {
            None => None,
            Some(id) => {
                let identity = self.patiently(|broker| broker.init_producer_id(id, TRANSACTION_TIMEOUT_MS));
                Some((id.to_owned(), identity.map_err(failed)?))
            }
        };
        Ok(Box::new(SimProducer { client: self.clone(), transaction, queued: Vec::new(), failure: None }))
    }

    fn open_transactions(&self, prefix: &str) -> Result<Vec<String>> {
        let mut broker = self.broker();
        let mut found = Vec::new();
        for (id, state) in broker.list_transactions(prefix).map_err(failed)? {
            let may_begin = match state {
                TransactionState::Ongoing => true,
                TransactionState::Empty => {
                    broker.describe_transaction(&id).map_err(failed)?.timeout_ms != FENCED_TIMEOUT_MS
                }
                _ => false,
            };
            if may_begin {
                found.push(id);
            }
        }
        Ok(found)
    }

    fn open_transaction(&self, transactional_id: &str) -> Result<Option<TransactionHandle>> {
        match self.broker().describe_transaction(transactional_id) {
            Ok(TransactionDescription { identity, state: TransactionState::Ongoing, .. }) => {
                Ok(Some(TransactionHandle {
                    transactional_id: transactional_id.to_owned(),
                    producer_id: identity.producer_id,
                    epoch: identity.epoch,
                }))
            }
            Ok(_) | Err(BrokerError::TransactionalIdNotFound) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn commit_transaction(&self, transaction: &TransactionHandle) -> Result<CommitOutcome> {
        let TransactionHandle { transactional_id: id, producer_id, epoch } = transaction;
        let identity = ProducerIdentity { producer_id: *producer_id, epoch: *epoch };
        let why = match self.patiently(|broker| broker.end_txn(id, identity, true)) {
            Ok(()) => return Ok(CommitOutcome::Committed),
            Err(error @ (BrokerError::NetworkException | BrokerError::ConcurrentTransactions)) => {
                return Err(failed(error));
            }
            Err(error) => error,
        };
        match self.broker().describe_transaction(id) {
            Ok(_) => Ok(CommitOutcome::Lost(why.to_string())),
            Err(BrokerError::TransactionalIdNotFound) => Ok(CommitOutcome::Unknown),
            Err(error) => Err(failed(error)),
        }
    }

    fn abort_transaction(&self, transactional_id: &str) -> Result<()> {
        let taken = self.patiently(|broker| broker.init_producer_id(transactional_id, FENCED_TIMEOUT_MS));
        taken.map(|_| ()).map_err(failed)
    }
}

struct Reading {
    partition: TopicPartition,
    position: i64,
    /// The end that was told last.
    told_end: Option<i64>,
}

struct SimConsumer {
    client: SimClient,
    reading: BTreeMap<PartitionHandle, Reading>,
    next_handle: usize,
}

impl Consumer for SimConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<Vec<PartitionHandle>> {
        let assigned = partitions.iter().map(|(partition, offset)| {
            let handle = PartitionHandle(self.next_handle);
            self.next_handle += 1;
            let reading = Reading { partition: partition.clone(), position: *offset, told_end: None };
            self.reading.insert(handle, reading);
            handle
        });
        Ok(assigned.collect())
    }

    fn unassign(&mut self, handle: PartitionHandle) -> Result<()> {
        self.reading.remove(&handle);
        Ok(())
    }

    fn fetch(
        &mut self,
        handle: PartitionHandle,
        records_max: usize,
        take: &mut dyn FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<Fetched> {
        let Some(Reading { partition, position, told_end }) = self.reading.get_mut(&handle) else {
            return Ok(Fetched::Nothing);
        };
        let mut n_taken = 0;
        while n_taken < records_max {
            let TopicPartition { topic, partition: number } = &*partition;
            let fetched = self.client.broker().fetch(topic, *number, *position, Isolation::ReadCommitted);
            let (found, next) = fetched.map_err(failed)?;
            *position = next;
            let Some((offset, record)) = found else {
                if n_taken == 0 && *told_end != Some(next) {
                    *told_end = Some(next);
                    return Ok(Fetched::EndOfPartition);
                }
                break;
            };
            n_taken += 1;
            let headers = || {
                let header = |(name, value): &(String, Option<Vec<u8>>)| Header {
                    name: name.clone(),
                    value: value.clone(),
                };
                record.headers.iter().map(header).collect()
            };
            let message = Message {
                partition,
                offset,
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            };
            if take(&message).is_break() {
                break;
            }
        }
        Ok(if n_taken > 0 { Fetched::Records } else { Fetched::Nothing })
    }

    fn set_waker(&mut self, waker: &Waker) {
        self.client.broker().wake_on_change(waker);
    }

    fn serve(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit_offsets(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (partition, offset) in offsets {
            // Nothing depends on them.
            self.client.broker().commit_offset(GROUP, &partition.topic, partition.partition, *offset).ok();
        }
    }
}

struct SimProducer {
    client: SimClient,
    transaction: Option<(String, ProducerIdentity)>,
    queued: Vec<(String, i32, BrokerRecord)>,
    failure: Option<BrokerError>,
}

impl SimProducer {
    /// What a thread of the client does at some time.
    fn send_queued(&mut self) {
        for (topic, partition, record) in self.queued.drain(..) {
            let mut broker = self.client.broker();
            let transaction = self.transaction.as_ref().map(|(id, identity)| (id.as_str(), *identity));
            let added = match transaction {
                Some((id, identity)) => broker.add_partition(id, identity, &topic, partition),
                None => Ok(()),
            };
            let written = added.and_then(|()| broker.produce(&topic, partition, transaction, &[record]));
            if let Err(error) = written {
                self.failure.get_or_insert(error);
            }
        }
    }

    fn check(&self) -> Result<()> {
        self.failure.map_or(Ok(()), |error| Err(failed(error)))
    }
}

impl Producer for SimProducer {
    fn send(&mut self, record: &OutgoingRecord<'_>) -> Result<SendOutcome> {
        if record.value.is_some_and(|value| value.len() > MESSAGE_BYTES_MAX) {
            return Ok(SendOutcome::Refused("too large".to_owned()));
        }
        let headers = record.headers.iter().map(|header| (header.name.clone(), header.value.clone()));
        let sent = BrokerRecord {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp: record.timestamp,
            headers: headers.collect(),
        };
        self.queued.push((record.topic.to_owned(), record.partition.unwrap_or(0), sent));
        // Some are under way already when the barrier comes, or the end of the process.
        if self.queued.len() > 2 {
            self.send_queued();
        }
        self.check().map(|()| SendOutcome::Taken)
    }

    fn flush(&mut self) -> Result<()> {
        self.send_queued();
        self.check()
    }
}
