//! Writes the records of one subtask.

use crate::client::{Client, OutgoingRecord, Producer};
use crate::record::Header;
use crate::sink::{KafkaPartitioner, KeyEncoder, Of, SinkConfig, Topic};
use crate::source::TopicSelection;
use crate::transactional::Transactions;
use flott_api::message::MessageEncoder;
use flott_api::{SinkWriter, UserResult};
use flott_types::{CheckpointId, NO_TIMESTAMP, RecordBatch, Result, SubtaskIndex, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Turns records into those of Kafka.
pub(crate) struct Encoder<T> {
    topic: Topic<T>,
    value: Box<dyn MessageEncoder<T>>,
    key: Option<KeyEncoder<T>>,
    headers: Option<Of<T, Vec<Header>>>,
    is_tombstone: Option<Of<T, bool>>,
    partitions: Partitions,
    /// Used again and again.
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
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
            headers: config.headers.clone(),
            is_tombstone: config.is_tombstone.clone(),
            partitions: Partitions { partitioner, client, subtask, n_written: 0, counts: BTreeMap::new() },
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
        })
    }

    fn send(&mut self, record: &T, timestamp: Timestamp, producer: &mut dyn Producer) -> UserResult {
        self.key_bytes.clear();
        self.value_bytes.clear();
        if let Some(key) = &mut self.key {
            key(record, &mut self.key_bytes).map_err(|error| format!("cannot encode the key: {error}"))?;
        }
        let is_tombstone = self.is_tombstone.as_ref().is_some_and(|is_tombstone| is_tombstone(record));
        if !is_tombstone {
            let encoded = self.value.encode(record, &mut self.value_bytes);
            encoded.map_err(|error| format!("cannot encode the value: {error}"))?;
        }
        let named;
        let topic = match &self.topic {
            Topic::Named(topic) => topic,
            Topic::Of(topic) => {
                named = topic(record);
                &named
            }
        };
        let key = self.key.as_ref().map(|_| self.key_bytes.as_slice());
        let headers = self.headers.as_ref().map(|headers| headers(record)).unwrap_or_default();
        producer.send(&OutgoingRecord {
            topic,
            partition: self.partitions.choose(topic, key)?,
            key,
            value: (!is_tombstone).then_some(self.value_bytes.as_slice()),
            timestamp: (timestamp != NO_TIMESTAMP).then_some(timestamp),
            headers: &headers,
        })?;
        Ok(())
    }
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
}

/// Writes the records of one subtask.
pub struct KafkaWriter<T> {
    encoder: Encoder<T>,
    destination: Destination,
}

impl<T> fmt::Debug for KafkaWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaWriter").finish_non_exhaustive()
    }
}

impl<T: 'static> KafkaWriter<T> {
    pub(crate) fn new(encoder: Encoder<T>, destination: Destination) -> Self {
        Self { encoder, destination }
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
        if batch.is_empty() {
            return Ok(());
        }
        let n_records = batch.len() as u64;
        let producer: &mut dyn Producer = match &mut self.destination {
            Destination::Plain { producer, .. } => producer.as_mut(),
            Destination::Transactional(transactions) => transactions.write(n_records)?,
        };
        batch.into_iter().try_for_each(|(record, timestamp)| self.encoder.send(&record, timestamp, producer))
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
