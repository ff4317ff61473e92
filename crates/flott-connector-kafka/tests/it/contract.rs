//! The contracts of sinks and sources, by the kit for connectors, with the real broker.
//!
//! Each case takes seconds, so a sample is run of the about 1,300 for sinks and 1,000 for sources: for sinks always the same, for sources it depends on how
//! often they were polled. All cases are run against the model (`src/tests/contract.rs`).

use crate::topics::{Aborts, Committed, LIMIT, Topics, committed_offsets, flush, name};
use flott::UserResult;
use flott::connectors::kafka::{
    DeliveryGuarantee, KafkaPartitioner, KafkaSink, KafkaSource, OffsetsInitializer, TopicPartition,
};
use flott::env::Env;
use flott::message::StringFormat;
use flott_connector_kafka::client::{Client, Cluster, OffsetPosition};
use flott_services::{Kafka, Signal, wait_until};
use flott_testkit::contract::{
    Budget, RecordId, SinkContract, SinkFault, SinkLimits, SinkPromise, SinkSubject, SourceContract,
    SourceEvent, SourceStart, SourceSubject, Wakeup,
};
use flott_types::CheckpointId;
use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::{BaseProducer, BaseRecord};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

const N_PARTITIONS: i32 = 3;

fn parse(value: &str) -> RecordId {
    let (partition, number) = value.split_once('/').unwrap();
    RecordId { partition: partition.parse().unwrap(), number: number.parse().unwrap() }
}

struct Sink<'a, 'b> {
    broker: &'a RefCell<&'b mut Kafka>,
    cluster: Cluster,
    topic: String,
    guarantee: DeliveryGuarantee,
    env: Env,
    committed: Committed,
    /// What was read, and up to where.
    read: (BTreeMap<TopicPartition, i64>, Vec<RecordId>),
}

impl<'a, 'b> Sink<'a, 'b> {
    fn new(broker: &'a RefCell<&'b mut Kafka>, guarantee: DeliveryGuarantee) -> Self {
        let (servers, topic) = (broker.borrow().bootstrap_servers(), name("contract-sink"));
        let topics = Topics::at(&servers);
        topics.create(&topic, N_PARTITIONS);
        let (cluster, committed) = (Cluster::at(servers), topics.all_committed(&topic));
        let (env, read) = (Env::real().unwrap(), (BTreeMap::new(), Vec::new()));
        Self { broker, cluster, topic, guarantee, env, committed, read }
    }

    /// What the ids of its transactions begin with.
    fn prefix(&self) -> String {
        format!("{}-", self.topic)
    }

    fn open_transactions(&self) -> UserResult<Vec<String>> {
        let mut open = self.cluster.open_transactions(&self.prefix())?;
        let mut is_open = Vec::new();
        for id in open.drain(..) {
            // The others may only come to be.
            if self.cluster.open_transaction(&id)?.is_some() {
                is_open.push(id);
            }
        }
        Ok(is_open)
    }

    /// Up to where committed records can be read, for each partition.
    fn ends(&self) -> UserResult<BTreeMap<TopicPartition, i64>> {
        let partitions = (0..N_PARTITIONS).map(|partition| TopicPartition::new(&self.topic, partition));
        Ok(self.cluster.offsets(&partitions.collect::<Vec<_>>(), OffsetPosition::Latest)?)
    }

    /// What the broker does with what is open when its time-out has passed: it takes the id over, and aborts.
    fn time_out(&self) -> UserResult {
        for id in self.open_transactions()? {
            self.cluster.abort_transaction(&id)?;
        }
        Ok(())
    }
}

impl SinkSubject for Sink<'_, '_> {
    type Record = String;
    type Sink = KafkaSink<String>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn sink(&mut self) -> UserResult<KafkaSink<String>> {
        Ok(KafkaSink::new(self.broker.borrow().proxied_servers(), StringFormat)
            .topic(&self.topic)
            .partitioner(KafkaPartitioner::RoundRobin)
            .transactional_id_prefix(&self.topic)
            .delivery_guarantee(self.guarantee))
    }
    fn promise(&self) -> SinkPromise {
        match self.guarantee {
            DeliveryGuarantee::ExactlyOnce => SinkPromise::Transactional,
            DeliveryGuarantee::AtLeastOnce | DeliveryGuarantee::None => SinkPromise::AtLeastOnce,
        }
    }
    fn limits(&self) -> SinkLimits {
        SinkLimits { zombies_hold_back: true, waits_for_neighbours: true, ..SinkLimits::default() }
    }
    fn record(&self, id: RecordId) -> String {
        id.to_string()
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        // What is decided is seen a moment later.
        self.cluster.await_ends(&self.prefix())?;
        let ends = self.ends()?;
        if ends != self.read.0 {
            let read = self.committed.read(N_PARTITIONS);
            self.read = (ends, read.iter().map(|(_, _, value)| parse(value)).collect());
        }
        Ok(self.read.1.clone())
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        self.open_transactions()
    }
    fn settle(&mut self) -> UserResult {
        self.time_out()
    }
    fn faults(&self) -> Vec<SinkFault> {
        vec![SinkFault::Disconnect, SinkFault::Restart, SinkFault::Expire]
    }
    fn inject(&mut self, fault: SinkFault, _: u64) -> UserResult {
        match fault {
            SinkFault::Expire => self.time_out()?,
            SinkFault::Restart => {
                let mut broker = self.broker.borrow_mut();
                broker.stop(Signal::Kill)?;
                broker.start_again()?;
                drop(broker);
                // It takes connections before it knows of its partitions.
                let has_started = wait_until(LIMIT, || self.ends().is_ok());
                assert!(has_started, "{:?}", self.ends());
            }
            SinkFault::Disconnect
            | SinkFault::FailRequest
            | SinkFault::LoseReply
            | SinkFault::LateRequest { .. }
            | SinkFault::DuplicateRequest { .. } => {
                self.broker.borrow().proxy().cut();
            }
        }
        Ok(())
    }
}

fn check_sink(broker: &mut Kafka, guarantee: DeliveryGuarantee, budget: Budget) {
    let broker = RefCell::new(broker);
    let report = SinkContract::new().budget(budget).run(|| Ok(Sink::new(&broker, guarantee)));
    println!("{}", report.unwrap_or_else(|failure| panic!("{failure}")).cases.join(" "));
}

pub(crate) fn the_sink_keeps_its_contract_exactly_once(broker: &mut Kafka) {
    check_sink(broker, DeliveryGuarantee::ExactlyOnce, Budget::Sample { cases: 10, seed: 9 });
}

pub(crate) fn the_sink_keeps_its_contract_at_least_once(broker: &mut Kafka) {
    check_sink(broker, DeliveryGuarantee::AtLeastOnce, Budget::Sample { cases: 5, seed: 48 });
}

struct Source<'a> {
    broker: &'a Kafka,
    cluster: Cluster,
    topics: Topics,
    topic: String,
    producer: BaseProducer,
    aborts: Aborts,
    committed: Committed,
    /// Asks for the offsets that the source has committed.
    group: BaseConsumer,
    configure: fn(KafkaSource<String>) -> KafkaSource<String>,
    start: SourceStart,
    env: Env,
    n_partitions: i32,
    /// Of the records of each partition.
    offsets: BTreeMap<i32, Vec<i64>>,
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        self.broker.proxy().set_closed(false);
    }
}

impl<'a> Source<'a> {
    fn new(
        broker: &'a Kafka,
        start: SourceStart,
        configure: fn(KafkaSource<String>) -> KafkaSource<String>,
    ) -> Self {
        let (servers, topic) = (broker.bootstrap_servers(), name("contract-source"));
        let topics = Topics::at(&servers);
        topics.create(&topic, N_PARTITIONS);
        Self {
            broker,
            cluster: Cluster::at(servers),
            producer: topics.producer(),
            aborts: topics.aborts(),
            group: topics.of_group(&topic),
            committed: topics.all_committed(&topic),
            topics,
            topic,
            configure,
            start,
            env: Env::real().unwrap(),
            n_partitions: N_PARTITIONS,
            offsets: BTreeMap::new(),
        }
    }

    /// Offsets without records, in all partitions.
    fn gaps(&self) -> UserResult {
        self.aborts
            .write(&self.topic, (0..self.n_partitions).map(|partition| (partition, "aborted".to_owned())));
        Ok(self.cluster.await_ends(&self.aborts.id)?)
    }
}

impl SourceSubject for Source<'_> {
    type Source = KafkaSource<String>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn source(&mut self) -> UserResult<KafkaSource<String>> {
        let source = KafkaSource::new(self.broker.proxied_servers(), StringFormat)
            .topics([&self.topic])
            .group_id(&self.topic)
            .partition_discovery_interval(Some(Duration::from_secs(1)))
            // Connections come back, and readers see that soon.
            .property("reconnect.backoff.max.ms", "500")
            .property("request.timeout.ms", "2000");
        Ok((self.configure)(source))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let mut records = Vec::new();
        for idx in 0..n {
            let partition = (idx % self.n_partitions as u64) as i32;
            if partition == 0 && idx > 0 {
                flush(&self.producer);
                self.gaps()?;
            }
            let n_before = self.offsets.get(&partition).map_or(0, Vec::len) as u64;
            let id =
                RecordId { partition: partition as u32, number: n_before + idx / self.n_partitions as u64 };
            let text = id.to_string();
            let record = BaseRecord::<(), str>::to(&self.topic).partition(partition).payload(&text);
            self.producer.send(record).map_err(|(error, _)| error)?;
            records.push(id);
        }
        flush(&self.producer);
        self.offsets.clear();
        for (partition, offset, _) in self.committed.read(self.n_partitions) {
            self.offsets.entry(partition).or_default().push(offset);
        }
        Ok(records)
    }
    fn identify(&self, record: &String) -> RecordId {
        parse(record)
    }
    fn start(&self) -> SourceStart {
        self.start
    }
    fn acknowledged(&mut self) -> UserResult<Option<BTreeMap<u32, u64>>> {
        // The number of the next record that the reader would see.
        let number = |(partition, offset): (i32, i64)| {
            let offsets = self.offsets.get(&partition).map(Vec::as_slice).unwrap_or_default();
            (partition as u32, offsets.partition_point(|at| *at < offset) as u64)
        };
        Ok(Some(
            committed_offsets(&self.group, &self.topic, self.n_partitions).into_iter().map(number).collect(),
        ))
    }
    /// While the client library looks for the group's coordinator it may send two commits in the wrong order.
    fn acknowledges_late(&self) -> bool {
        true
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![
            SourceEvent::AddPartition,
            SourceEvent::HideMetadata,
            SourceEvent::ShowMetadata,
            SourceEvent::Disconnect,
            SourceEvent::GapAtEnd,
        ]
    }
    fn happen(&mut self, event: SourceEvent) -> UserResult {
        let proxy = self.broker.proxy();
        match event {
            SourceEvent::AddPartition => {
                self.n_partitions += 1;
                self.topics.add_partitions(&self.topic, self.n_partitions);
                // Who has written knows of those that were there before.
                (self.producer, self.aborts) = (self.topics.producer(), self.topics.aborts());
            }
            SourceEvent::HideMetadata | SourceEvent::Disconnect => {
                proxy.set_closed(event == SourceEvent::HideMetadata);
                proxy.cut();
            }
            SourceEvent::ShowMetadata => proxy.set_closed(false),
            SourceEvent::GapAtEnd => self.gaps()?,
            SourceEvent::PowerFailure => return Err("the connector keeps nothing itself".into()),
        }
        Ok(())
    }
    fn wait(&mut self, wakeup: &Wakeup) {
        wakeup.wait_at_most(Duration::from_millis(150));
    }
}

fn check_source(
    broker: &Kafka,
    start: SourceStart,
    configure: fn(KafkaSource<String>) -> KafkaSource<String>,
    budget: Budget,
) {
    let report = SourceContract::new().budget(budget).run(|| Ok(Source::new(broker, start, configure)));
    println!("{}", report.unwrap_or_else(|failure| panic!("{failure}")).cases.join(" "));
}

pub(crate) fn the_source_keeps_its_contract_from_the_first_record(broker: &mut Kafka) {
    check_source(broker, SourceStart::Everything, |source| source, Budget::Sample { cases: 8, seed: 1 });
}

pub(crate) fn the_source_keeps_its_contract_from_the_newest_record(broker: &mut Kafka) {
    let latest = |source: KafkaSource<String>| source.starting_offsets(OffsetsInitializer::latest());
    check_source(broker, SourceStart::NewOnly, latest, Budget::Sample { cases: 5, seed: 2 });
}

pub(crate) fn the_bounded_source_keeps_its_contract(broker: &mut Kafka) {
    let bounded = |source: KafkaSource<String>| source.bounded(OffsetsInitializer::latest());
    check_source(broker, SourceStart::Everything, bounded, Budget::Sample { cases: 4, seed: 3 });
}
