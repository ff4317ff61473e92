//! A real cluster.

use super::consumer::{Context, RdConsumer};
use super::coordinator::Coordinators;
use super::error::{FIRST_WAIT, awaits_coordinator, cannot, passes};
use super::producer::{RdProducer, delivery_limit};
use super::{Client, CommitOutcome, Consumer, OffsetPosition, Producer, TransactionHandle};
use crate::config::Properties;
use crate::config::TopicSelection;
use crate::offsets::TopicPartition;
use flott_types::{Error, ErrorKind, Result};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The group of consumers that nobody named: the client wants one, and nothing is committed to it.
const NO_GROUP: &str = "flott";

/// How long the client may take to hand over what it has to tell: without any time it stops at the first event that is nobody's business.
const HANDOVER: Duration = Duration::from_millis(5);

/// How long to wait before a group's coordinator is asked again that is not there yet.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

/// What is read ahead, unless the user says otherwise. The client's own limits are made for few consumers in a process, and its pause when the limit
/// is reached for a world in which that is an exception.
const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    ("group.id", NO_GROUP),
    ("isolation.level", "read_committed"),
    // For each partition, since each has a queue of its own.
    ("queued.max.messages.kbytes", "4096"),
    ("fetch.queue.backoff.ms", "2"),
    // Records that are gone are not skipped silently.
    ("auto.offset.reset", "error"),
];

/// What the source is built on.
const CONSUMER_FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
];

const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    // As the clients for Java do, so that both write a key to the same partition.
    ("partitioner", "murmur2_random"),
    ("enable.idempotence", "true"),
    ("compression.type", "lz4"),
];

/// A Kafka cluster that is reached with the properties of a source or sink.
pub struct Cluster {
    properties: Properties,
    /// For questions about metadata and offsets, made when the first is asked.
    asking: Mutex<Option<Arc<BaseConsumer<Context>>>>,
    coordinators: Coordinators,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("properties", &self.properties).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster at `bootstrap_servers`, with no other properties.
    pub fn at(bootstrap_servers: impl Into<String>) -> Self {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", bootstrap_servers);
        Self::new(properties)
    }

    pub(crate) fn new(properties: Properties) -> Self {
        let coordinators = Coordinators::new(properties.clone());
        Self { properties, asking: Mutex::new(None), coordinators }
    }

    /// Waits until no transaction whose id begins with `prefix` is being ended any more: what was decided before is then seen. For tests, which read
    /// right behind a commit.
    ///
    /// # Errors
    /// If one of the brokers does not answer, or an end takes longer than `request.timeout.ms`.
    pub fn await_ends(&self, prefix: &str) -> Result<()> {
        self.coordinators.await_ends(prefix)
    }

    fn asking(&self) -> Result<Arc<BaseConsumer<Context>>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(consumer) = &*asking {
            return Ok(Arc::clone(consumer));
        }
        let config = self.properties.config(CONSUMER_DEFAULTS, CONSUMER_FIXED)?;
        let consumer: BaseConsumer<Context> = config
            .create_with_context(Context::default())
            .map_err(|error| self.cannot("connect to the Kafka cluster", error))?;
        let consumer = Arc::new(consumer);
        *asking = Some(Arc::clone(&consumer));
        Ok(consumer)
    }

    /// Asks the cluster, for no longer than a request may take.
    fn ask<T>(
        &self,
        what: &str,
        call: impl Fn(&BaseConsumer<Context>, Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        let asking = self.asking()?;
        let timeout = self.properties.request_timeout();
        let mut answer = call(&asking, timeout.min(FIRST_WAIT));
        if answer.as_ref().is_err_and(passes) {
            // The client hands over what it has to tell.
            while asking.poll(HANDOVER).is_some() {}
            let what = format!("{what} at {}", self.properties.bootstrap_servers());
            if let Some(trouble) = asking.context().trouble.take(&what) {
                return Err(trouble);
            }
            answer = call(&asking, timeout);
        }
        // A broker that has just started does not know at once which groups it coordinates, and does not keep who asks waiting.
        let mut waited = Duration::ZERO;
        while answer.as_ref().is_err_and(awaits_coordinator) && waited < timeout {
            drop(asking.poll(COORDINATOR_PAUSE));
            waited += COORDINATOR_PAUSE;
            answer = call(&asking, timeout);
        }
        answer.map_err(|error| self.cannot(what, error))
    }

    fn cannot(&self, what: &str, error: KafkaError) -> Error {
        cannot(&format!("{what} at {}", self.properties.bootstrap_servers()), error)
    }

    /// The partitions of a topic, as the cluster has just told. An answer with a hole is none (FLINK-6006).
    fn partitions_of(&self, topic: &MetadataTopic) -> Result<Vec<TopicPartition>> {
        let name = topic.name();
        match topic.error() {
            None => {}
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
                return Err(Error::user(format!(
                    "there is no topic '{name}' at {}",
                    self.properties.bootstrap_servers()
                )));
            }
            Some(error) => {
                let error = KafkaError::MetadataFetch(Code::from(error));
                return Err(self.cannot(&format!("find the partitions of topic '{name}'"), error));
            }
        }
        if topic.partitions().is_empty() {
            let message = format!("topic '{name}' has no partitions yet");
            return Err(Error::new(ErrorKind::Retry, message));
        }
        // A partition without a leader exists: reading it waits for the leader.
        Ok(topic.partitions().iter().map(|partition| TopicPartition::new(name, partition.id())).collect())
    }
}

/// The offset that the cluster told for each partition; all of them, or an error.
fn told(list: &TopicPartitionList) -> Result<BTreeMap<TopicPartition, Offset>> {
    let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        let partition = TopicPartition::new(element.topic(), element.partition());
        match element.error() {
            Ok(()) => Ok((partition, element.offset())),
            Err(error) => Err(cannot(&format!("find an offset of partition {partition}"), error)),
        }
    };
    list.elements().iter().map(offset).collect()
}

fn list(partitions: &[TopicPartition], offset: Offset) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        let added = list.add_partition_offset(topic, *partition, offset);
        added.map_err(|error| cannot("ask for offsets", error))?;
    }
    Ok(list)
}

impl Client for Cluster {
    fn partitions(&self, topics: &TopicSelection) -> Result<Vec<TopicPartition>> {
        let names: Vec<Option<&str>> = match topics {
            TopicSelection::Topics(topics) => topics.iter().map(|topic| Some(topic.as_str())).collect(),
            TopicSelection::Pattern(_) => vec![None],
            TopicSelection::Partitions(partitions) => return Ok(partitions.iter().cloned().collect()),
        };
        let mut found = Vec::new();
        for name in names {
            let what = "find the topics of the Kafka cluster";
            let metadata = self.ask(what, |asking, timeout| asking.fetch_metadata(name, timeout))?;
            for topic in metadata.topics().iter().filter(|topic| topics.contains(topic.name())) {
                found.extend(self.partitions_of(topic)?);
            }
        }
        found.sort();
        Ok(found)
    }

    fn offsets(
        &self,
        partitions: &[TopicPartition],
        position: OffsetPosition,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let at = match position {
            OffsetPosition::Earliest => Offset::Beginning,
            OffsetPosition::Latest => Offset::End,
            OffsetPosition::Timestamp(timestamp) => Offset::Offset(timestamp.max(0)),
        };
        let asked = list(partitions, at)?;
        let answer = self.ask("find offsets of Kafka partitions", |asking, timeout| {
            asking.offsets_for_times(asked.clone(), timeout)
        })?;
        let (mut found, mut at_end) = (BTreeMap::new(), Vec::new());
        for (partition, offset) in told(&answer)? {
            match offset {
                Offset::Offset(offset) => {
                    found.insert(partition, offset);
                }
                // No record is as late.
                Offset::End if position != OffsetPosition::Latest => at_end.push(partition),
                other => {
                    let message =
                        format!("the cluster told {other:?} for the offset of partition {partition}");
                    return Err(Error::new(ErrorKind::Retry, message));
                }
            }
        }
        found.extend(self.offsets(&at_end, OffsetPosition::Latest)?);
        match partitions.iter().find(|partition| !found.contains_key(*partition)) {
            None => Ok(found),
            Some(missing) => {
                let message = format!("the cluster told no offset of partition {missing}");
                Err(Error::new(ErrorKind::Retry, message))
            }
        }
    }

    fn committed_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        let Some(group) = self.properties.get("group.id") else {
            return Err(Error::user(
                "no consumer group has committed offsets to start at: name it with group_id()",
            ));
        };
        let asked = list(partitions, Offset::Invalid)?;
        let what = format!("find the offsets that group '{group}' has committed");
        let answer = self.ask(&what, |asking, timeout| asking.committed_offsets(asked.clone(), timeout))?;
        let answer = told(&answer)?;
        let offset = |(partition, offset)| match offset {
            Offset::Offset(offset) => Some((partition, offset)),
            _ => None,
        };
        Ok(answer.into_iter().filter_map(offset).collect())
    }

    fn consumer(&self) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(RdConsumer::new(&self.properties.config(CONSUMER_DEFAULTS, CONSUMER_FIXED)?)?))
    }

    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        let mut config = self.properties.config(PRODUCER_DEFAULTS, &[])?;
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
        }
        let mut producer = RdProducer::new(&config, delivery_limit(&self.properties))?;
        if let Some(id) = transactional_id {
            producer.begin_transaction(id, self.properties.request_timeout())?;
        }
        Ok(Box::new(producer))
    }

    fn open_transactions(&self, prefix: &str) -> Result<Vec<String>> {
        self.coordinators.open_transactions(prefix)
    }

    fn open_transaction(&self, transactional_id: &str) -> Result<Option<TransactionHandle>> {
        self.coordinators.open_transaction(transactional_id)
    }

    fn commit_transaction(&self, transaction: &TransactionHandle) -> Result<CommitOutcome> {
        self.coordinators.commit(transaction)
    }

    fn abort_transaction(&self, transactional_id: &str) -> Result<()> {
        self.coordinators.abort(transactional_id)
    }
}
