//! The contracts of sources and sinks, by the kit for connectors.

mod batches;

use super::model::{GROUP, MESSAGE_BYTES_MAX, SimClient};
use crate::{DeliveryGuarantee, KafkaPartitioner, KafkaSink, KafkaSource, OffsetsInitializer};
use flott_api::UserResult;
use flott_api::message::StringFormat;
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::broker::{BrokerFault, BrokerRecord, Isolation, SimBroker};
use flott_testkit::contract::{
    RecordId, SinkContract, SinkFault, SinkLimits, SinkPromise, SinkSubject, SourceContract, SourceEvent,
    SourceStart, SourceSubject, Wakeup,
};
use flott_types::CheckpointId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TOPIC: &str = "topic";
const TRANSACTION_TIMEOUT_MS: i64 = 15 * 60 * 1000;

fn parse(value: &[u8]) -> UserResult<RecordId> {
    let text = std::str::from_utf8(value)?;
    let (partition, number) = text.split_once('/').ok_or("a record that nobody wrote")?;
    Ok(RecordId { partition: partition.parse()?, number: number.parse()? })
}

fn cluster(mut broker: SimBroker) -> SimClient {
    broker.create_partitions(TOPIC, 3);
    SimClient::new(broker)
}

struct KafkaSinkSubject {
    world: Simulation,
    client: SimClient,
    guarantee: DeliveryGuarantee,
}

impl SinkSubject for KafkaSinkSubject {
    type Record = String;
    type Sink = KafkaSink<String>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn sink(&mut self) -> UserResult<KafkaSink<String>> {
        Ok(KafkaSink::new("nowhere:9092", StringFormat)
            .client(Arc::new(self.client.clone()))
            .topic(TOPIC)
            .partitioner(KafkaPartitioner::RoundRobin)
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
    fn bad_record(&self) -> Option<String> {
        Some("x".repeat(MESSAGE_BYTES_MAX + 1))
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let mut broker = self.client.broker();
        // What is decided is seen a moment later.
        broker.finish_ends();
        let records = broker.read_all(TOPIC, Isolation::ReadCommitted);
        records.iter().map(|record| parse(record.value.as_deref().unwrap_or_default())).collect()
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        let broker = self.client.broker();
        Ok(broker.open_transactions().difference(&broker.stray_transactions()).cloned().collect())
    }
    fn settle(&mut self) -> UserResult {
        self.client.broker().advance(TRANSACTION_TIMEOUT_MS);
        Ok(())
    }
    fn faults(&self) -> Vec<SinkFault> {
        let delays = || [0, 2, 9].into_iter();
        let late = delays().map(|by| SinkFault::LateRequest { by });
        let twice = delays().map(|by| SinkFault::DuplicateRequest { by });
        let others = [SinkFault::FailRequest, SinkFault::LoseReply, SinkFault::Expire];
        others.into_iter().chain(late).chain(twice).collect()
    }
    fn inject(&mut self, fault: SinkFault, nth: u64) -> UserResult {
        let mut broker = self.client.broker();
        match fault {
            SinkFault::FailRequest => broker.fail(nth, BrokerFault::Lost),
            SinkFault::LoseReply => broker.fail(nth, BrokerFault::ReplyLost),
            SinkFault::LateRequest { by } => broker.fail(nth, BrokerFault::Late(by)),
            SinkFault::DuplicateRequest { by } => broker.fail(nth, BrokerFault::Twice(by)),
            SinkFault::Expire => broker.advance(TRANSACTION_TIMEOUT_MS),
            SinkFault::Disconnect | SinkFault::Restart => {}
        }
        Ok(())
    }
    fn requests(&mut self) -> Option<u64> {
        Some(self.client.broker().n_requests())
    }
}

fn check_sink(guarantee: DeliveryGuarantee, broker: fn() -> SimBroker) {
    let subject = || Ok(KafkaSinkSubject { world: Simulation::new(1), client: cluster(broker()), guarantee });
    let report = SinkContract::new().run(subject).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 500, "{}", report.cases.len());
}

#[test]
fn exactly_once_it_keeps_the_contract_of_sinks() {
    check_sink(DeliveryGuarantee::ExactlyOnce, SimBroker::new);
}

#[test]
fn exactly_once_it_keeps_it_while_ends_of_transactions_take_a_while() {
    check_sink(DeliveryGuarantee::ExactlyOnce, || SimBroker::new().end_delay(3));
}

#[test]
fn exactly_once_it_keeps_it_with_brokers_that_do_not_verify_that_a_transaction_is_open() {
    check_sink(DeliveryGuarantee::ExactlyOnce, || SimBroker::new().without_verification());
}

/// What Kafka itself does not promise: a late request to take an id over aborts a transaction that a complete checkpoint has. That is never silent.
#[test]
fn an_id_that_is_taken_over_late_loses_a_transaction_and_that_is_said() {
    let subject = || {
        let (world, client) = (Simulation::new(1), cluster(SimBroker::new().with_delayed_ids()));
        Ok(KafkaSinkSubject { world, client, guarantee: DeliveryGuarantee::ExactlyOnce })
    };
    let failure = SinkContract::new().of("request-").run(subject).expect_err("a transaction is aborted");
    for violation in &failure.violations {
        assert!(violation.case.contains("-again-after-"), "{violation}");
        let is_said = violation.steps.iter().any(|step| step.contains("records are lost: ProducerFenced"));
        assert!(is_said && violation.message.contains("the job does not end"), "{violation}");
    }
}

#[test]
fn at_least_once_it_keeps_it() {
    check_sink(DeliveryGuarantee::AtLeastOnce, SimBroker::new);
}

struct KafkaSourceSubject {
    world: Simulation,
    client: SimClient,
    configure: fn(KafkaSource<String>) -> KafkaSource<String>,
    start: SourceStart,
    /// Offsets of partitions, by the number of the record behind them.
    n_partitions: i32,
    n_transactions: u32,
    numbers: BTreeMap<i32, u64>,
}

impl KafkaSourceSubject {
    fn new(configure: fn(KafkaSource<String>) -> KafkaSource<String>, start: SourceStart) -> Self {
        Self {
            world: Simulation::new(1),
            client: cluster(SimBroker::new()),
            configure,
            start,
            n_partitions: 3,
            n_transactions: 0,
            numbers: BTreeMap::new(),
        }
    }

    /// Offsets without records.
    fn gap(&mut self, partition: i32) -> UserResult {
        let id = format!("transaction-{}", self.n_transactions);
        self.n_transactions += 1;
        let mut broker = self.client.broker();
        let identity = broker.init_producer_id(&id, TRANSACTION_TIMEOUT_MS)?;
        broker.add_partition(&id, identity, TOPIC, partition)?;
        let aborted = BrokerRecord { value: Some(b"aborted".to_vec()), ..BrokerRecord::default() };
        broker.produce(TOPIC, partition, Some((&id, identity)), &[aborted])?;
        Ok(broker.end_txn(&id, identity, false)?)
    }
}

impl SourceSubject for KafkaSourceSubject {
    type Source = KafkaSource<String>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn source(&mut self) -> UserResult<KafkaSource<String>> {
        let source = KafkaSource::new("nowhere:9092", StringFormat)
            .client(Arc::new(self.client.clone()))
            .topics([TOPIC])
            .group_id(GROUP)
            .partition_discovery_interval(Some(Duration::from_secs(1)));
        Ok((self.configure)(source))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let mut records = Vec::new();
        for idx in 0..n {
            let partition = (idx % self.n_partitions as u64) as i32;
            let next = self.numbers.entry(partition).or_insert(0);
            let number = *next;
            *next += 1;
            if number % 2 == 1 {
                self.gap(partition)?;
            }
            let id = RecordId { partition: partition as u32, number };
            let record = BrokerRecord { value: Some(id.to_string().into_bytes()), ..BrokerRecord::default() };
            self.client.broker().produce(TOPIC, partition, None, &[record])?;
            records.push(id);
        }
        Ok(records)
    }
    fn identify(&self, record: &String) -> RecordId {
        parse(record.as_bytes()).expect("a record")
    }
    fn start(&self) -> SourceStart {
        self.start
    }
    fn acknowledged(&mut self) -> UserResult<Option<BTreeMap<u32, u64>>> {
        let mut broker = self.client.broker();
        let mut acknowledged = BTreeMap::new();
        for partition in 0..self.n_partitions {
            let Some(offset) = broker.committed_offset(GROUP, TOPIC, partition)? else { continue };
            // Of the next record that the reader would see, the number.
            let (next, _) = broker.fetch(TOPIC, partition, offset, Isolation::ReadCommitted)?;
            let end = self.numbers.get(&partition).copied().unwrap_or(0);
            let number = match next {
                Some((_, record)) => parse(record.value.as_deref().unwrap_or_default())?.number,
                None => end,
            };
            acknowledged.insert(partition as u32, number);
        }
        Ok(Some(acknowledged))
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![
            SourceEvent::AddPartition,
            SourceEvent::HideMetadata,
            SourceEvent::ShowMetadata,
            SourceEvent::GapAtEnd,
        ]
    }
    fn happen(&mut self, event: SourceEvent) -> UserResult {
        match event {
            SourceEvent::AddPartition => {
                self.n_partitions += 1;
                self.client.broker().create_partitions(TOPIC, self.n_partitions as usize);
            }
            SourceEvent::HideMetadata => self.client.broker().set_incomplete(true),
            SourceEvent::ShowMetadata => self.client.broker().set_incomplete(false),
            SourceEvent::GapAtEnd => (0..self.n_partitions).try_for_each(|partition| self.gap(partition))?,
            SourceEvent::Disconnect | SourceEvent::PowerFailure => {}
        }
        Ok(())
    }
    fn wait(&mut self, _: &Wakeup) {
        // Its threads have their turn.
        let env = self.world.env();
        self.world.run(async move { env.sleep(Duration::from_secs(1)).await }).expect("ends");
    }
}

fn check_source(start: SourceStart, configure: fn(KafkaSource<String>) -> KafkaSource<String>) {
    check_source_of(|| Ok(KafkaSourceSubject::new(configure, start)));
}

fn check_source_of<S: SourceSubject>(subject: impl FnMut() -> UserResult<S>) {
    let report = SourceContract::new().run(subject).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 300, "{}", report.cases.len());
}

#[test]
fn from_the_first_record_it_keeps_the_contract_of_sources() {
    check_source(SourceStart::Everything, |source| source);
}

#[test]
fn from_the_newest_record_it_keeps_it() {
    check_source(SourceStart::NewOnly, |source| source.starting_offsets(OffsetsInitializer::latest()));
}

#[test]
fn bounded_it_keeps_it() {
    check_source(SourceStart::Everything, |source| source.bounded(OffsetsInitializer::latest()));
}
