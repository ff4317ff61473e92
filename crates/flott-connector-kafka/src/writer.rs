//! Writes the records of one subtask.

use crate::client::{Client, OutgoingRecord, Producer, SendOutcome};
use crate::config::TopicSelection;
use crate::config::{KafkaPartitioner, KeyEncoder, Of, SinkConfig, Topic};
use crate::record::Header;
use crate::transactional::Transactions;
use flott_api::message::MessageEncoder;
use flott_api::{BadRecords, SinkWriter, UserResult};
use flott_types::{CheckpointId, NO_TIMESTAMP, RecordBatch, Result, SubtaskIndex, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// As Kafka has it.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Turns records into those of Kafka.
pub(crate) struct Encoder<T> {
    topic: Topic<T>,
    value: Box<dyn MessageEncoder<T>>,
    key: Option<KeyEncoder<T>>,
    headers: Option<Of<T, Vec<Header>>>,
    is_tombstone: Option<Of<T, bool>>,
    partitions: Partitions,
    /// What was encoded last, in memory that is used again and again.
    encoded: Encoded,
}

/// A record of Kafka, but for its partition.
#[derive(Debug, Default)]
struct Encoded {
    topic: String,
    key: Option<Vec<u8>>,
    /// Whether that is the key of this record, and not of an earlier one.
    has_key: bool,
    value: Vec<u8>,
    is_tombstone: bool,
    headers: Vec<Header>,
}

/// Chooses partitions.
struct Partitions {
    partitioner: KafkaPartitioner,
    client: Arc<dyn Client>,
    subtask: SubtaskIndex,
    n_written: u32,
    /// How many a topic had when it was first written to.
    counts: BTreeMap<String, u32>,
}

impl Partitions {
    fn choose(&mut self, topic: &str, key: Option<&[u8]>) -> Result<Option<i32>> {
        let chosen = match &self.partitioner {
            KafkaPartitioner::Default => return Ok(None),
            KafkaPartitioner::Fixed => self.subtask.0,
            KafkaPartitioner::RoundRobin => {
                self.n_written = self.n_written.wrapping_add(1);
                self.n_written.wrapping_add(self.subtask.0)
            }
            KafkaPartitioner::Custom(choose) => {
                choose(key, count(&mut self.counts, self.client.as_ref(), topic)?)
            }
        };
        let n_partitions = count(&mut self.counts, self.client.as_ref(), topic)?;
        Ok(i32::try_from(chosen % n_partitions).ok())
    }
}

fn count(counts: &mut BTreeMap<String, u32>, client: &dyn Client, topic: &str) -> Result<u32> {
    if let Some(count) = counts.get(topic) {
        return Ok(*count);
    }
    let partitions = client.partitions(&TopicSelection::Topics(BTreeSet::from([topic.to_owned()])))?;
    let count = (partitions.len() as u32).max(1);
    counts.insert(topic.to_owned(), count);
    Ok(count)
}

impl<T: 'static> Encoder<T> {
    pub(crate) fn new(
        config: &SinkConfig<T>,
        topic: Topic<T>,
        client: Arc<dyn Client>,
        subtask: SubtaskIndex,
    ) -> Result<Self> {
        let partitioner = config.partitioner.clone();
        Ok(Self {
            topic,
            value: config.value.create_encoder()?,
            key: config.key.as_ref().map(|create| create()).transpose()?,
            encoded: Encoded { key: config.key.as_ref().map(|_| Vec::new()), ..Encoded::default() },
            headers: config.headers.clone(),
            is_tombstone: config.is_tombstone.clone(),
            partitions: Partitions { partitioner, client, subtask, n_written: 0, counts: BTreeMap::new() },
        })
    }

    /// Encodes a record, which the next call of [`Encoder::outgoing`] has. An error is the record's own.
    fn encode(&mut self, record: &T) -> UserResult {
        let Encoded { topic, key: key_bytes, has_key, value, is_tombstone, headers } = &mut self.encoded;
        *has_key = false;
        match &self.topic {
            Topic::Named(name) if topic.is_empty() => name.clone_into(topic),
            Topic::Named(_) => {}
            Topic::Of(topic_of) => {
                *topic = topic_of(record);
                check_topic_name(topic)?;
            }
        }
        if let (Some(encode), Some(bytes)) = (&mut self.key, key_bytes) {
            bytes.clear();
            encode(record, bytes).map_err(|error| format!("cannot encode the key: {error}"))?;
            *has_key = true;
        }
        value.clear();
        *is_tombstone = self.is_tombstone.as_ref().is_some_and(|is_tombstone| is_tombstone(record));
        if !*is_tombstone {
            let encoded = self.value.encode(record, value);
            encoded.map_err(|error| format!("cannot encode the value: {error}"))?;
        }
        *headers = self.headers.as_ref().map(|headers| headers(record)).unwrap_or_default();
        Ok(())
    }

    /// What was encoded last, with its partition.
    fn outgoing(&mut self, timestamp: Timestamp) -> Result<OutgoingRecord<'_>> {
        let Encoded { topic, key, value, is_tombstone, headers, .. } = &self.encoded;
        let key = key.as_deref();
        Ok(OutgoingRecord {
            topic,
            partition: self.partitions.choose(topic, key)?,
            key,
            value: (!is_tombstone).then_some(value.as_slice()),
            timestamp: (timestamp != NO_TIMESTAMP).then_some(timestamp),
            headers,
        })
    }
}

/// What brokers would refuse with the whole batch.
fn check_topic_name(name: &str) -> UserResult {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty()
        || name.len() > TOPIC_NAME_BYTES_MAX
        || matches!(name, "." | "..")
        || !name.bytes().all(is_plain)
    {
        return Err(
            "no topic can have this name: it is 1 to 249 ASCII letters, digits, '.', '_' and '-'".into()
        );
    }
    Ok(())
}

/// Where records go, and what is promised of them.
pub(crate) enum Destination {
    Plain {
        producer: Box<dyn Producer>,
        /// Whether a checkpoint waits for the brokers.
        flushes: bool,
    },
    Transactional(Box<Transactions>),
}

impl Destination {
    pub(crate) fn plain(producer: Box<dyn Producer>, flushes: bool) -> Self {
        Self::Plain { producer, flushes }
    }

    fn send(&mut self, record: &OutgoingRecord<'_>) -> Result<SendOutcome> {
        match self {
            Self::Plain { producer, .. } => producer.send(record),
            Self::Transactional(transactions) => transactions.send(record),
        }
    }
}

/// Writes the records of one subtask.
pub struct KafkaWriter<T> {
    encoder: Encoder<T>,
    destination: Destination,
    bad_records: BadRecords,
}

impl<T> fmt::Debug for KafkaWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaWriter").finish_non_exhaustive()
    }
}

impl<T: 'static> KafkaWriter<T> {
    pub(crate) fn new(encoder: Encoder<T>, destination: Destination, bad_records: BadRecords) -> Self {
        Self { encoder, destination, bad_records }
    }

    fn flush_all(&mut self) -> UserResult {
        match &mut self.destination {
            Destination::Plain { producer, flushes: true } => Ok(producer.flush()?),
            Destination::Plain { flushes: false, .. } | Destination::Transactional(_) => Ok(()),
        }
    }
}

impl<T: Send + 'static> SinkWriter<T> for KafkaWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        let Self { encoder, destination, bad_records } = self;
        for (record, timestamp) in batch {
            let refused = match encoder.encode(&record) {
                Err(error) => error,
                Ok(()) => match destination.send(&encoder.outgoing(timestamp)?)? {
                    SendOutcome::Taken => continue,
                    SendOutcome::Refused(why) => why.into(),
                },
            };
            let Encoded { topic, key, has_key, .. } = &encoder.encoded;
            let key = key.as_deref().filter(|_| *has_key);
            bad_records.reject_message(format_args!("topic '{topic}'"), key, &record, refused)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> UserResult {
        match &mut self.destination {
            // No checkpoint may come that would wait.
            Destination::Plain { producer, .. } => Ok(producer.flush()?),
            Destination::Transactional(_) => Ok(()),
        }
    }

    fn prepare_commit(&mut self, _: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        self.flush_all()?;
        match &mut self.destination {
            Destination::Plain { .. } => Ok(Vec::new()),
            Destination::Transactional(transactions) => {
                Ok(transactions.prepare(is_final)?.into_iter().collect())
            }
        }
    }

    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        match &mut self.destination {
            Destination::Plain { .. } => Ok(Vec::new()),
            Destination::Transactional(transactions) => Ok(transactions.snapshot()?),
        }
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>, _: Option<CheckpointId>) -> UserResult {
        match &mut self.destination {
            Destination::Plain { .. } => Ok(()),
            Destination::Transactional(transactions) => Ok(transactions.restore(&entries)?),
        }
    }
}
