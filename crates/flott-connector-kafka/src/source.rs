//! What users see: the source and its options.

use crate::client::{Client, Cluster};
use crate::config::{EnumeratorOptions, Properties, ReaderOptions, TopicSelection};
use crate::enumerator::KafkaEnumerator;
use crate::offsets::{OffsetsInitializer, TopicPartition};
use crate::reader::KafkaReader;
use crate::record::{KafkaRecord, RecordSchema, ValueOnly, Whole};
use crate::split::KafkaSplit;
use flott_api::message::DeserializationSchema;
use flott_api::{Boundedness, EnumeratorInit, Source, SourceReader, SourceReaderContext, SplitEnumerator};
use flott_types::{Data, Error, Result};
use regex_lite::Regex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// As in Flink.
const DISCOVERY_INTERVAL_DEFAULT: Duration = Duration::from_secs(5 * 60);

/// Reads topics of Apache Kafka: one split a partition.
///
/// Records have the timestamps that Kafka gives them, until a watermark strategy assigns others; watermarks are kept by partition. With
/// checkpoints each record is processed exactly once in the state of the job; what a reader with `isolation.level = read_committed` may not see
/// is not read, which is the default here.
pub struct KafkaSource<T> {
    properties: Properties,
    client: Option<Arc<dyn Client>>,
    topics: Option<TopicSelection>,
    schema: Arc<dyn RecordSchema<T>>,
    starting: OffsetsInitializer,
    /// Where partitions end, and whether the source does when they have.
    stopping: Option<(OffsetsInitializer, Boundedness)>,
    discovery_interval: Option<Duration>,
    commits_offsets: bool,
}

impl<T> Clone for KafkaSource<T> {
    fn clone(&self) -> Self {
        Self {
            properties: self.properties.clone(),
            client: self.client.clone(),
            topics: self.topics.clone(),
            schema: Arc::clone(&self.schema),
            starting: self.starting.clone(),
            stopping: self.stopping.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for KafkaSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource")
            .field("topics", &self.topics)
            .field("properties", &self.properties)
            .finish_non_exhaustive()
    }
}

impl<T: Data> KafkaSource<T> {
    /// Reads the values of records from the cluster at `bootstrap_servers`, `host:port` pairs with commas between them.
    pub fn new(bootstrap_servers: impl Into<String>, value: impl DeserializationSchema<T>) -> Self {
        Self::with_schema(bootstrap_servers, ValueOnly(value))
    }

    /// Reads what `schema` makes of records.
    pub fn with_schema(bootstrap_servers: impl Into<String>, schema: impl RecordSchema<T>) -> Self {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", bootstrap_servers);
        Self {
            properties,
            client: None,
            topics: None,
            schema: Arc::new(schema),
            starting: OffsetsInitializer::earliest(),
            stopping: None,
            discovery_interval: Some(DISCOVERY_INTERVAL_DEFAULT),
            commits_offsets: true,
        }
    }

    /// Reads from `client` instead of a real cluster, for tests.
    #[must_use]
    pub fn client(self, client: Arc<dyn Client>) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Which topics: `topic`.
    #[must_use]
    pub fn topics<S: Into<String>>(self, topics: impl IntoIterator<Item = S>) -> Self {
        Self { topics: Some(TopicSelection::Topics(topics.into_iter().map(Into::into).collect())), ..self }
    }

    /// Topics whose whole name matches a regular expression: `topic-pattern`. New ones are found while the job runs.
    ///
    /// # Errors
    /// If `pattern` is none.
    pub fn topic_pattern(self, pattern: &str) -> Result<Self> {
        let regex = Regex::new(pattern).map_err(|error| {
            Error::user(format!("the topic pattern '{pattern}' is no regular expression")).with_source(error)
        })?;
        Ok(Self { topics: Some(TopicSelection::Pattern(regex)), ..self })
    }

    /// These partitions and no others.
    #[must_use]
    pub fn partitions(self, partitions: impl IntoIterator<Item = TopicPartition>) -> Self {
        Self { topics: Some(TopicSelection::Partitions(partitions.into_iter().collect())), ..self }
    }

    /// The consumer group in which offsets are committed when checkpoints are complete: `properties.group.id`.
    #[must_use]
    pub fn group_id(self, group: impl Into<String>) -> Self {
        self.property("group.id", group)
    }

    /// An option of the client, `properties.*`: [its list](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md).
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.set(name, value);
        self
    }

    /// Where partitions are read from, if the job starts from nothing: `scan.startup.mode`. The first record, by default.
    #[must_use]
    pub fn starting_offsets(self, starting: OffsetsInitializer) -> Self {
        Self { starting, ..self }
    }

    /// Ends the source when each partition has been read up to these offsets, which are found when the job starts: `scan.bounded.mode`.
    #[must_use]
    pub fn bounded(self, stopping: OffsetsInitializer) -> Self {
        Self { stopping: Some((stopping, Boundedness::Bounded)), ..self }
    }

    /// Reads each partition up to these offsets, which are found when the job starts, or finds the partition: Flink's `setUnbounded`.
    ///
    /// The source stays unbounded: it goes on to look for partitions, and ends only if it does not
    /// ([`KafkaSource::partition_discovery_interval`] `None`, or single [`KafkaSource::partitions`]).
    #[must_use]
    pub fn unbounded_until(self, stopping: OffsetsInitializer) -> Self {
        Self { stopping: Some((stopping, Boundedness::ContinuousUnbounded)), ..self }
    }

    /// How often to look for new partitions and, with a pattern, topics; `None` for never: `scan.topic-partition-discovery.interval`. What is
    /// found is read from its first record.
    #[must_use]
    pub fn partition_discovery_interval(self, interval: Option<Duration>) -> Self {
        Self { discovery_interval: interval, ..self }
    }

    /// Whether offsets are committed to the consumer group, if there is one, when checkpoints are complete: `commit.offsets.on.checkpoint`.
    #[must_use]
    pub fn commit_offsets_on_checkpoint(self, commits_offsets: bool) -> Self {
        Self { commits_offsets, ..self }
    }

    fn connect(&self) -> Arc<dyn Client> {
        self.client.clone().unwrap_or_else(|| Arc::new(Cluster::new(self.properties.clone())))
    }
}

impl<K: Data, V: Data> KafkaSource<KafkaRecord<K, V>> {
    /// Reads records with their keys, headers, positions and timestamps.
    pub fn records(
        bootstrap_servers: impl Into<String>,
        key: impl DeserializationSchema<K>,
        value: impl DeserializationSchema<V>,
    ) -> Self {
        Self::with_schema(bootstrap_servers, Whole { key: Arc::new(key), value: Arc::new(value) })
    }
}

impl<T: Data> Source for KafkaSource<T> {
    type Record = T;
    type Split = KafkaSplit;

    fn boundedness(&self) -> Boundedness {
        self.stopping.as_ref().map_or(Boundedness::ContinuousUnbounded, |(_, boundedness)| *boundedness)
    }

    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<KafkaSplit>>> {
        let topics = self.topics.clone().ok_or_else(|| {
            Error::user(
                "the Kafka source has no topics: name them with topics(), topic_pattern() or partitions()",
            )
        })?;
        let is_bounded = Source::boundedness(self) == Boundedness::Bounded;
        let fixed = is_bounded || matches!(topics, TopicSelection::Partitions(_));
        let options = EnumeratorOptions {
            topics,
            starting: self.starting.clone(),
            stopping: self.stopping.as_ref().map(|(stopping, _)| stopping.clone()),
            discovery_interval: self.discovery_interval.filter(|_| !fixed),
        };
        Ok(Box::new(KafkaEnumerator::new(self.connect(), options, init)?))
    }

    fn create_reader(
        &self,
        _: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = T, Split = KafkaSplit>>> {
        let commits_offsets = self.commits_offsets && self.properties.get("group.id").is_some();
        let deserializer = self.schema.create_deserializer()?;
        Ok(Box::new(KafkaReader::new(self.connect(), deserializer, ReaderOptions { commits_offsets })?))
    }
}
