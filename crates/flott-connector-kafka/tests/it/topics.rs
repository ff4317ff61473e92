//! Topics of a test: made, filled and read without the connector.

use flott_services::{block_on, wait_for};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How long one reader waits before another one asks.
const READER_LIMIT: Duration = Duration::from_secs(15);

/// Topics of one broker.
pub(crate) struct Topics {
    pub(crate) servers: String,
}

/// A name that no other test has.
pub(crate) fn name(what: &str) -> String {
    static N: AtomicU64 = AtomicU64::new(0);
    format!("{what}-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed))
}

impl Topics {
    pub(crate) fn at(servers: impl Into<String>) -> Self {
        Self { servers: servers.into() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// Makes a topic and waits until the broker shows it.
    pub(crate) fn create(&self, topic: &str, n_partitions: i32) {
        self.create_with(topic, n_partitions, &[]);
    }

    /// The same with settings of the topic.
    pub(crate) fn create_with(&self, topic: &str, n_partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, n_partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        let made = block_on(self.admin().create_topics(&[new], &AdminOptions::new())).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        self.wait_for_partitions(topic, n_partitions as usize);
    }

    pub(crate) fn add_partitions(&self, topic: &str, n_partitions: i32) {
        let new = NewPartitions::new(topic, n_partitions as usize);
        let made = block_on(self.admin().create_partitions(&[new], &AdminOptions::new())).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        self.wait_for_partitions(topic, n_partitions as usize);
    }

    fn wait_for_partitions(&self, topic: &str, n_partitions: usize) {
        let consumer: BaseConsumer = self.config().create().unwrap();
        wait_for("the partitions of a topic", || {
            let metadata = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
            metadata.topics().iter().any(|it| {
                it.partitions().len() == n_partitions && it.partitions().iter().all(|it| it.leader() >= 0)
            })
        });
    }

    pub(crate) fn producer(&self) -> BaseProducer {
        self.producer_with(&[])
    }

    /// One with these properties, too.
    pub(crate) fn producer_with(&self, properties: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        config.set("linger.ms", "0").set("enable.idempotence", "true");
        for (name, value) in properties {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    /// Writes records to one partition and waits for the broker.
    pub(crate) fn produce(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = String>) {
        let producer = self.producer();
        for value in values {
            let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.poll(Duration::ZERO);
        }
        flush(&producer);
    }

    /// Writes one record, of any bytes, to the first partition and waits for the broker.
    pub(crate) fn produce_bytes(&self, topic: &str, value: &[u8]) {
        let producer = self.producer();
        let record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        flush(&producer);
    }

    /// Writes records in a transaction and aborts it: their offsets, and that of the end, hold no record.
    pub(crate) fn produce_aborted(
        &self,
        topic: &str,
        partition: i32,
        values: impl IntoIterator<Item = String>,
    ) {
        self.aborts().write(topic, values.into_iter().map(|value| (partition, value)));
    }

    /// A producer of transactions that are aborted.
    pub(crate) fn aborts(&self) -> Aborts {
        let id = name("aborts");
        let producer: BaseProducer = self.config().set("transactional.id", &id).create().unwrap();
        producer.init_transactions(LIMIT).unwrap();
        Aborts { producer, id }
    }

    /// Who reads all of a topic, again and again.
    pub(crate) fn all_committed(&self, topic: &str) -> Committed {
        let mut config = self.config();
        config
            .set("group.id", "test")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false");
        config.set("fetch.wait.max.ms", "5").set("enable.partition.eof", "true");
        Committed { consumer: config.create().unwrap(), topic: topic.to_owned() }
    }

    /// Who knows what a consumer group has committed.
    pub(crate) fn of_group(&self, group: &str) -> BaseConsumer {
        self.config().set("group.id", group).create().unwrap()
    }

    /// A reader of everything in a topic that can be read under `isolation`.
    pub(crate) fn reader(&self, topic: &str, isolation: &str) -> Reader {
        let mut config = self.config();
        config.set("group.id", "test").set("isolation.level", isolation).set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "20");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            all.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        Reader(consumer)
    }

    /// The values that can be read under `read_committed`, when there are `n` of them; sorted. Waits a little for more. A reader that is told nothing
    /// at all may have been told of no partitions: another one asks again.
    pub(crate) fn committed(&self, topic: &str, n: usize) -> Vec<String> {
        let started = Instant::now();
        loop {
            let values = self.reader(topic, "read_committed").values(n, READER_LIMIT);
            if values.len() >= n || started.elapsed() > LIMIT {
                return values;
            }
        }
    }
}

/// Writes in transactions that are aborted.
pub(crate) struct Aborts {
    producer: BaseProducer,
    /// The transactional id.
    pub(crate) id: String,
}

impl Aborts {
    /// Writes records, each to its partition.
    pub(crate) fn write(&self, topic: &str, records: impl IntoIterator<Item = (i32, String)>) {
        self.producer.begin_transaction().unwrap();
        for (partition, value) in records {
            let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        flush(&self.producer);
        self.producer.abort_transaction(LIMIT).unwrap();
    }
}

/// Reads what of a topic is committed.
pub(crate) struct Committed {
    consumer: BaseConsumer,
    topic: String,
}

impl Committed {
    /// All that is there now in so many partitions: partition, offset and value.
    pub(crate) fn read(&self, n_partitions: i32) -> Vec<(i32, i64, String)> {
        let mut all = TopicPartitionList::new();
        for partition in 0..n_partitions {
            all.add_partition_offset(&self.topic, partition, Offset::Beginning).unwrap();
        }
        self.consumer.assign(&all).unwrap();
        let (mut records, mut at_end) = (Vec::new(), BTreeSet::new());
        let started = Instant::now();
        while at_end.len() < n_partitions as usize {
            assert!(started.elapsed() < LIMIT, "topic '{}' is not read to its end", self.topic);
            match self.consumer.poll(Duration::from_millis(50)) {
                Some(Ok(it)) => records.push((it.partition(), it.offset(), text(it.payload()))),
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(at_end.insert(partition)),
                // The broker may be away for a while.
                Some(Err(_)) | None => {}
            }
        }
        self.consumer.unassign().unwrap();
        // What is on its way of this read is none of the next one's.
        while self.consumer.poll(Duration::from_millis(1)).is_some() {}
        records.sort();
        records
    }
}

/// The offsets that a group has committed, by partition.
pub(crate) fn committed_offsets(group: &BaseConsumer, topic: &str, n_partitions: i32) -> Vec<(i32, i64)> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, n_partitions - 1);
    let mut told = None;
    // A broker that was just started does not know for a while that it is the group's coordinator.
    wait_for("the offsets of a group", || {
        told = group.committed_offsets(asked.clone(), LIMIT).ok();
        told.is_some()
    });
    let told = told.expect("they were waited for");
    let told = told.elements().into_iter().map(|it| (it.partition(), it.offset().to_raw()));
    told.filter_map(|(partition, offset)| offset.filter(|it| *it >= 0).map(|it| (partition, it))).collect()
}

pub(crate) fn flush(producer: &BaseProducer) {
    let started = Instant::now();
    while producer.in_flight_count() > 0 {
        assert!(started.elapsed() < LIMIT, "records are not written");
        producer.flush(Duration::ZERO).ok();
        producer.poll(Duration::from_millis(1));
    }
}

pub(crate) struct Reader(BaseConsumer);

impl Reader {
    pub(crate) fn poll(&self, wait: Duration) -> Option<BorrowedMessage<'_>> {
        match self.0.poll(wait) {
            Some(Ok(message)) => Some(message),
            // The broker may be away for a while.
            Some(Err(_)) | None => None,
        }
    }

    /// The first `n` values, in the order of their offsets if there is one partition.
    pub(crate) fn bytes(&self, n: usize) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        wait_for("records", || {
            if let Some(message) = self.poll(Duration::from_millis(50)) {
                values.push(message.payload().unwrap_or_default().to_vec());
            }
            values.len() == n
        });
        values
    }

    /// What there is, sorted: until nothing has come for a while behind `n` of them, or for `limit`.
    pub(crate) fn values(&self, n: usize, limit: Duration) -> Vec<String> {
        let (mut values, mut last) = (Vec::new(), Instant::now());
        while last.elapsed() < if values.len() < n { limit } else { Duration::from_millis(400) } {
            if let Some(message) = self.poll(Duration::from_millis(50)) {
                values.push(text(message.payload()));
                last = Instant::now();
            }
        }
        values.sort();
        values
    }
}

pub(crate) fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}
