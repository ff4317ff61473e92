//! What the source and the sink want of Kafka.
//!
//! Everything goes through [`Client`], of which there are two: [`Cluster`], the real one, and in tests a model of a broker with faults. The
//! traits are public for that model and for no other use.

mod answers;
mod cluster;
mod connection;
mod consumer;
mod coordinator;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod producer;
#[cfg(feature = "kafka-ssl")]
mod tls;

pub use cluster::Cluster;

use crate::config::TopicSelection;
use crate::offsets::TopicPartition;
use crate::record::{Header, Message};
use flott_types::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::task::Waker;

/// A cluster, as seen by one source or sink. Calls may wait for the network, but no longer than `request.timeout.ms`.
pub trait Client: fmt::Debug + Send + Sync {
    /// The partitions of the selected topics, in order.
    ///
    /// # Errors
    /// If the cluster does not answer or answers incompletely: then the kind is `Retry`. A topic that was named and does not exist is the user's
    /// error.
    fn partitions(&self, topics: &TopicSelection) -> Result<Vec<TopicPartition>>;

    /// The offset of each partition: all of them, or an error. Under `read_committed` the latest is that of the first open transaction.
    ///
    /// # Errors
    /// If the cluster does not answer for one of them.
    fn offsets(
        &self,
        partitions: &[TopicPartition],
        position: OffsetPosition,
    ) -> Result<BTreeMap<TopicPartition, i64>>;

    /// The offsets that the consumer group has committed; partitions without are left out.
    ///
    /// # Errors
    /// If there is no group, or the cluster does not answer.
    fn committed_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>>;

    /// A consumer that reads nothing yet.
    ///
    /// # Errors
    /// If the properties are wrong.
    fn consumer(&self) -> Result<Box<dyn Consumer>>;

    /// A producer. With a transactional id it takes that id over: a transaction that is open under it is aborted, and who had the id before is
    /// fenced. Its transaction is begun.
    ///
    /// # Errors
    /// If the properties are wrong or the cluster does not answer.
    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>>;

    /// The transactional ids that begin with `prefix` and under which a transaction is open, or may come to be: its producer has taken the id and
    /// nobody has taken it over, and nothing was committed or aborted under it. On all brokers.
    ///
    /// # Errors
    /// If one of the brokers does not answer.
    fn open_transactions(&self, prefix: &str) -> Result<Vec<String>>;

    /// Which transaction is open under an id, and by whom; `None` if there is none.
    ///
    /// # Errors
    /// If the cluster does not answer.
    fn open_transaction(&self, transactional_id: &str) -> Result<Option<TransactionHandle>>;

    /// Commits a transaction, or finds that it has been.
    ///
    /// # Errors
    /// If the cluster does not answer: whether it was committed is not known then, and this can be called again.
    fn commit_transaction(&self, transaction: &TransactionHandle) -> Result<CommitOutcome>;

    /// Aborts the transaction that is open under an id, if there is one, and fences who has the id.
    ///
    /// # Errors
    /// If the cluster does not answer.
    fn abort_transaction(&self, transactional_id: &str) -> Result<()>;
}

/// Where in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetPosition {
    /// The first record that there is.
    Earliest,
    /// Behind the last record that can be read.
    Latest,
    /// The first record whose timestamp is not less, in milliseconds since the epoch; the latest position if there is none.
    Timestamp(i64),
}

/// A transaction of one producer. It holds until the producer id or its epoch changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionHandle {
    /// The transactional id.
    pub transactional_id: String,
    /// Whose it is.
    pub producer_id: i64,
    /// How often the id was taken over.
    pub epoch: i16,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is committed, now or since long.
    Committed,
    /// It will never be: it was aborted, because of its time-out or by somebody who has taken its id over. The text is Kafka's.
    Lost(String),
    /// The cluster does not know the id, or not any more: it forgets those that were not used for `transactional.id.expiration.ms`.
    Unknown,
}

/// Reads partitions.
pub trait Consumer: Send {
    /// Reads partitions from these offsets on, beside those that it reads already; returns a handle for each, in order.
    ///
    /// # Errors
    /// If the client refuses.
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<Vec<PartitionHandle>>;

    /// Reads a partition no further.
    ///
    /// # Errors
    /// If the client refuses.
    fn unassign(&mut self, handle: PartitionHandle) -> Result<()>;

    /// Reads at most `records_max` records of a partition, without waiting. `take` may stop it behind any record.
    ///
    /// # Errors
    /// If the partition cannot be read on: its topic is gone, its offset is out of range, access is denied. Records before are taken.
    fn fetch(
        &mut self,
        handle: PartitionHandle,
        records_max: usize,
        take: &mut dyn FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<Fetched>;

    /// Whom to wake when a partition that had nothing to read has something.
    fn set_waker(&mut self, waker: &Waker);

    /// Lets the client do what it has to do from time to time.
    ///
    /// # Errors
    /// If the client has failed for good: it is not authorized, for example. Brokers that are away for a while are no error.
    fn serve(&mut self) -> Result<()>;

    /// Commits the offsets of the next records to the consumer group, without waiting for the answer. Failures are logged: nothing depends on
    /// these offsets.
    fn commit_offsets(&mut self, offsets: &[(TopicPartition, i64)]);
}

/// A partition that a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionHandle(pub usize);

/// What [`Consumer::fetch`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// At least one record was taken.
    Records,
    /// There is nothing now: the waker is woken when there is.
    Nothing,
    /// The end of the partition, behind any number of records: since the partition was assigned, or since the end before, it has been read up to what was its latest offset at some
    /// time in between. Told once each time that the end is reached.
    EndOfPartition,
}

/// A record on its way to Kafka.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingRecord<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The partition; the client chooses by the key if there is none.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In milliseconds since the epoch; the time of sending if there is none.
    pub timestamp: Option<i64>,
    /// The headers.
    pub headers: &'a [Header],
}

/// What became of a record that was handed to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The client has it.
    Taken,
    /// The client does not take this record, whatever the brokers say: it is too large. The text is for people.
    Refused(String),
}

/// Writes records.
pub trait Producer: Send {
    /// Hands a record to the client, and waits if that has too many that were not sent.
    ///
    /// # Errors
    /// If the client cannot take any record now, or an earlier one could not be sent.
    fn send(&mut self, record: &OutgoingRecord<'_>) -> Result<SendOutcome>;

    /// Waits until everything that was handed over is written, by as many replicas as `acks` says.
    ///
    /// # Errors
    /// If one of the records could not be written.
    fn flush(&mut self) -> Result<()>;
}
