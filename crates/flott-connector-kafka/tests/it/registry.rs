//! Avro and Protocol Buffers with the schemas of a real registry, through topics of a real broker.

use crate::Servers;
use crate::formats::read;
use crate::mistakes::says;
use crate::topics::{LIMIT, Topics, name};
use flott::connectors::kafka::{DeliveryGuarantee, KafkaSink, KafkaSource, OffsetsInitializer};
use flott::formats::avro::AvroFormat;
use flott::formats::protobuf::ProtobufFormat;
use flott::formats::registry::{Reference, Schema, SchemaRegistry, SchemaType};
use flott::message::SerializationSchema;
use flott::prelude::*;
use flott::sinks::collect_sink;
use flott_services::wait_until;
use flott_types::{Data, RestartStrategyType};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: i32,
}

const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "sensor", "type": "string"}, {"name": "value", "type": "int"}]}"#;

/// What came later: a field more, before the others, and a wider number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newer {
    unit: String,
    sensor: String,
    value: f64,
}

const NEWER: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "unit", "type": "string", "default": "V"}, {"name": "sensor", "type": "string"}, {"name": "value", "type": "double"}]}"#;

/// The same with a number that those who read the first can read, too.
const NEWER_AS_NARROW: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "unit", "type": "string", "default": "V"}, {"name": "sensor", "type": "string"}, {"name": "value", "type": "int"}]}"#;

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Order {
    #[prost(uint64, tag = "1")]
    id: u64,
}

const ORDER: &str = "syntax = \"proto3\"; message Order { uint64 id = 1; }";

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct NewerOrder {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    note: String,
}

const NEWER_ORDER: &str = "syntax = \"proto3\"; message Order { uint64 id = 1; string note = 2; }";

impl Servers {
    /// A client of the registry that has looked nothing up yet.
    fn registry(&self) -> SchemaRegistry {
        SchemaRegistry::new(&self.registry.url())
    }

    /// A new topic, and the subject of its values.
    fn topic(&self, what: &str) -> (String, String) {
        let topic = name(what);
        Topics::at(self.broker.bootstrap_servers()).create(&topic, 1);
        let subject = format!("{topic}-value");
        (topic, subject)
    }

    /// Writes records exactly once.
    fn write<T: Data + Sync>(
        &self,
        topic: &str,
        format: impl SerializationSchema<T>,
        records: Vec<T>,
    ) -> flott::Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let mut env = crate::jobs::environment(dir.path(), 1);
        env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::None));
        let sink = KafkaSink::new(self.broker.bootstrap_servers(), format)
            .topic(topic)
            .delivery_guarantee(DeliveryGuarantee::ExactlyOnce);
        env.from_collection(records).sink_to(sink);
        env.execute("write").map(drop)
    }
}

fn reading(sensor: &str, value: i32) -> Reading {
    Reading { sensor: sensor.to_owned(), value }
}

fn newer(unit: &str, sensor: &str, value: f64) -> Newer {
    Newer { unit: unit.to_owned(), sensor: sensor.to_owned(), value }
}

pub(crate) fn avro_of_several_versions_is_read_as_the_readers(servers: &mut Servers) {
    let kafka = servers.broker.bootstrap_servers();
    let (topic, subject) = servers.topic("avro");
    let format = |schema: &str| AvroFormat::confluent(servers.registry(), schema).subject(&subject);
    servers.write(&topic, format(READING), vec![reading("a", 1), reading("b", 2)]).unwrap();
    // A reader of the earlier version is there when messages of a later one come.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Narrow {
        unit: String,
        sensor: String,
        value: i32,
    }
    let narrow = Narrow { unit: "A".to_owned(), sensor: "c".to_owned(), value: 3 };
    servers.write(&topic, format(NEWER_AS_NARROW), vec![narrow]).unwrap();
    let as_first: Vec<Reading> = read(&kafka, &topic, format(READING));
    assert_eq!(as_first, [reading("a", 1), reading("b", 2), reading("c", 3)]);
    // And one of the latest version reads them all.
    servers.write(&topic, format(NEWER), vec![newer("A", "d", 0.5)]).unwrap();
    let as_last: Vec<Newer> = read(&kafka, &topic, format(NEWER));
    let expected = [newer("V", "a", 1.0), newer("V", "b", 2.0), newer("A", "c", 3.0), newer("A", "d", 0.5)];
    assert_eq!(as_last, expected);
    let versions = [1, 2, 3].map(|version| servers.registry().version(&subject, version).unwrap().schema);
    assert_eq!(versions, [READING, NEWER_AS_NARROW, NEWER]);
}

pub(crate) fn protobuf_of_several_versions_is_read_as_the_readers(servers: &mut Servers) {
    let kafka = servers.broker.bootstrap_servers();
    let (topic, subject) = servers.topic("protobuf");
    let first = ProtobufFormat::<Order>::confluent(servers.registry()).subject(&subject, ORDER);
    let later = ProtobufFormat::<NewerOrder>::confluent(servers.registry()).subject(&subject, NEWER_ORDER);
    let newer = |id, note: &str| NewerOrder { id, note: note.to_owned() };
    servers.write(&topic, first.clone(), vec![Order { id: 1 }]).unwrap();
    servers.write(&topic, later.clone(), vec![newer(2, "later")]).unwrap();
    assert_eq!(read(&kafka, &topic, first), [Order { id: 1 }, Order { id: 2 }]);
    assert_eq!(read(&kafka, &topic, later), [newer(1, ""), newer(2, "later")]);
    let schema = servers.registry().version(&subject, 2).unwrap();
    assert_eq!((schema.schema_type, schema.schema.as_str()), (SchemaType::Protobuf, NEWER_ORDER));
}

/// A schema that was registered with references, as Java programs do it for types that several use.
pub(crate) fn schemas_that_use_others_are_found(servers: &mut Servers) {
    let (topic, subject) = servers.topic("references");
    let registry = servers.registry();
    let unit = r#"{"type": "enum", "name": "Unit", "namespace": "org.example", "symbols": ["V", "A"]}"#;
    let unit_subject = name("unit");
    registry.register(&unit_subject, &Schema::new(SchemaType::Avro, unit)).unwrap();
    let with = |unit: &str| {
        format!(r#"{{"type": "record", "name": "Measured", "fields": [{{"name": "unit", "type": {unit}}}]}}"#)
    };
    let reference = Reference { name: "org.example.Unit".to_owned(), subject: unit_subject, version: 1 };
    let schema =
        Schema { references: vec![reference], ..Schema::new(SchemaType::Avro, with("\"org.example.Unit\"")) };
    let id = registry.register(&subject, &schema).unwrap();

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Measured {
        unit: String,
    }
    let topics = Topics::at(servers.broker.bootstrap_servers());
    topics.produce_bytes(&topic, &[&[0][..], &id.to_be_bytes(), b"\x02"].concat());
    let format = AvroFormat::confluent(servers.registry(), with(unit));
    let read: Vec<Measured> = read(&topics.servers, &topic, format);
    assert_eq!(read, [Measured { unit: "A".to_owned() }]);
}

pub(crate) fn what_the_registry_refuses_is_told(servers: &mut Servers) {
    let (topic, subject) = servers.topic("refused");
    let format = |schema: &str| AvroFormat::confluent(servers.registry(), schema).subject(&subject);
    servers.write(&topic, format(READING), vec![reading("a", 1)]).unwrap();
    // Who reads with this cannot read what is there: a field that lacks has no default.
    let schema = READING.replacen(r#""fields": ["#, r#""fields": [{"name": "unit", "type": "string"}, "#, 1);
    let record = |sensor: &str| newer("V", sensor, 1.0);
    let error = servers.write(&topic, format(&schema), vec![record("b")]).unwrap_err();
    says(&error.report(), &[&subject, "409", "compatib", "change the schema"]);
    let orders = ProtobufFormat::<Order>::confluent(servers.registry());
    let orders = orders.subject(name("no-schema"), "message Order { uint64 id = ; }");
    let error = servers.write(&topic, orders, vec![Order { id: 1 }]).unwrap_err();
    says(&error.report(), &["no-schema", "422"]);
    let elsewhere = SchemaRegistry::new(&servers.registry.url().replace("/v7", "/no-such-path"));
    let format = AvroFormat::confluent(elsewhere, READING).subject(&subject);
    let error = servers.write(&topic, format, vec![reading("a", 1)]).unwrap_err();
    says(&error.report(), &["404", "is that the registry's URL?"]);
}

/// They fail the job unless bad records are tolerated; those beside them are read.
pub(crate) fn schemas_that_the_registry_does_not_have_make_bad_records(servers: &mut Servers) {
    let kafka = servers.broker.bootstrap_servers();
    let (topic, subject) = servers.topic("unknown");
    let format = || AvroFormat::confluent(servers.registry(), READING).subject(&subject);
    let orders =
        ProtobufFormat::<Order>::confluent(servers.registry()).subject(format!("{subject}-proto"), ORDER);
    servers.write(&topic, format(), vec![reading("a", 1)]).unwrap();
    let topics = Topics::at(&kafka);
    topics.produce_bytes(&topic, b"\0\x7f\0\0\x01\x02a\x02");
    topics.produce_bytes(&topic, br#"{"sensor": "a"}"#);
    servers.write(&topic, orders, vec![Order { id: 1 }]).unwrap();
    servers.write(&topic, format(), vec![reading("b", 2)]).unwrap();
    let run = |on_error| {
        let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
        env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::None));
        let source =
            KafkaSource::new(&kafka, format()).topics([&topic]).bounded(OffsetsInitializer::latest());
        let read = env.from_source_with(source, WatermarkStrategy::no_watermarks(), "kafka", on_error);
        let ((sink, records), (letters, bad)) = (collect_sink::<Reading>(), collect_sink::<BadRecord>());
        read.bad_records().sink_to(letters);
        read.stream().sink_to(sink);
        env.execute("unknown").map(|_| (records.take(), bad.take()))
    };
    let error = run(OnError::Fail).unwrap_err().report();
    says(&error, &[&format!("{topic}-0"), "schema 2130706433, which the registry does not have"]);
    let (records, bad) = run(OnError::SideOutput).unwrap();
    assert_eq!(records, [reading("a", 1), reading("b", 2)]);
    let why: Vec<&str> = bad.iter().map(|bad| bad.message.as_str()).collect();
    let [unknown, unframed, protobuf] = why.as_slice() else { panic!("{why:?}") };
    says(unknown, &["which the registry does not have"]);
    says(unframed, &["begins with byte 123"]);
    says(protobuf, &["which is Protobuf and not Avro"]);
}

/// The restart strategy decides; when the registry is there again the job goes on.
pub(crate) fn a_registry_that_is_away_is_asked_again(servers: &mut Servers) {
    let kafka = servers.broker.bootstrap_servers();
    let (input, subject) = servers.topic("away");
    let (output, output_subject) = servers.topic("back");
    let format = AvroFormat::confluent(servers.registry(), READING).subject(&subject);
    servers.write(&input, format, vec![reading("a", 1), reading("b", 2)]).unwrap();
    let proxied = SchemaRegistry::new(&servers.registry.proxied_url()).retries(1, Duration::from_millis(1));
    let proxy = servers.registry.proxy();
    let start = |strategy| {
        let dir = tempfile::tempdir().unwrap();
        let mut env = crate::jobs::environment(dir.path(), 1);
        env.set(options::RESTART_STRATEGY, Some(strategy));
        env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 1_000);
        env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(50));
        let reads = AvroFormat::confluent(proxied.clone(), READING);
        let source = KafkaSource::new(&kafka, reads.clone()).topics([&input]);
        let sink = KafkaSink::new(&kafka, reads.subject(&output_subject))
            .topic(&output)
            .delivery_guarantee(DeliveryGuarantee::ExactlyOnce);
        env.from_source(
            source.bounded(OffsetsInitializer::latest()),
            WatermarkStrategy::no_watermarks(),
            "input",
        )
        .map(|reading: Reading| reading)
        .sink_to(sink);
        (env.execute_async("away").unwrap(), dir)
    };
    proxy.set_closed(true);
    proxy.cut();
    let (job, _dir) = start(RestartStrategyType::None);
    let error = job.wait().unwrap_err().report();
    says(&error, &[&servers.registry.proxied_url(), "does not answer"]);
    let (job, _dir) = start(RestartStrategyType::FixedDelay);
    assert!(wait_until(LIMIT, || job.counts().restarts > 2), "it does not try again");
    proxy.set_closed(false);
    job.wait().unwrap();
    let format = AvroFormat::confluent(servers.registry(), READING);
    assert_eq!(read::<Reading>(&kafka, &output, format), [reading("a", 1), reading("b", 2)]);
}
