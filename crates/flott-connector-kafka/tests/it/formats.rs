//! Records of each format through topics of a real broker.

use crate::jobs::environment;
use crate::topics::{Topics, name};
use flott::connectors::kafka::{DeliveryGuarantee, KafkaSink, KafkaSource, OffsetsInitializer};
use flott::formats::avro::AvroFormat;
use flott::formats::csv::CsvFormat;
use flott::formats::json::{DebeziumJsonFormat, JsonFormat};
use flott::formats::protobuf::ProtobufFormat;
use flott::message::{DeserializationSchema, RawFormat, SerializationSchema, StringFormat};
use flott::prelude::*;
use flott::sinks::collect_sink;
use flott::{RowChange, RowKind};
use flott_services::Kafka;
use flott_types::Data;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: f64,
    note: Option<String>,
}

const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "sensor", "type": "string"}, {"name": "value", "type": "double"}, {"name": "note", "type": ["null", "string"]}]}"#;

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Sample {
    #[prost(string, tag = "1")]
    sensor: String,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(string, optional, tag = "3")]
    note: Option<String>,
}

fn readings() -> Vec<Reading> {
    let reading = |sensor: &str, value, note: Option<&str>| Reading {
        sensor: sensor.to_owned(),
        value,
        note: note.map(str::to_owned),
    };
    // What a format has to quote, and what it has to leave as it is.
    vec![
        reading("a", 0.5, Some("plain")),
        reading("\"b\",\n", -1e300, None),
        reading("ü漢", 3.0, Some("{\"c\":1}")),
    ]
}

fn samples() -> Vec<Sample> {
    let sample = |Reading { sensor, value, note }| Sample { sensor, value, note };
    readings().into_iter().map(sample).collect()
}

/// All that is in a topic, as records.
pub(crate) fn read<T: Data>(servers: &str, topic: &str, format: impl DeserializationSchema<T>) -> Vec<T> {
    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    let source = KafkaSource::new(servers, format).topics([topic]).bounded(OffsetsInitializer::latest());
    let (sink, handle) = collect_sink();
    env.from_source(source, WatermarkStrategy::no_watermarks(), "kafka").sink_to(sink);
    env.execute("read").unwrap_or_else(|error| panic!("{topic}: {}", error.report()));
    handle.take()
}

/// Writes records into a new topic; its name.
fn write<T: Data + Sync>(
    broker: &Kafka,
    what: &str,
    format: impl SerializationSchema<T>,
    records: Vec<T>,
) -> String {
    let (servers, topic) = (broker.bootstrap_servers(), name(what));
    Topics::at(&servers).create(&topic, 1);
    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.from_collection(records).sink_to(KafkaSink::new(&servers, format).topic(&topic));
    env.execute("write").unwrap_or_else(|error| panic!("{topic}: {}", error.report()));
    topic
}

/// Records are written into a topic at least once, copied into another one exactly once, and read from there.
fn go_through<T, F>(broker: &Kafka, what: &str, format: F, records: &[T])
where
    T: Data + Sync + Debug + PartialEq,
    F: DeserializationSchema<T> + SerializationSchema<T> + Clone,
{
    let servers = broker.bootstrap_servers();
    let input = write(broker, what, format.clone(), records.to_vec());
    let output = name(what);
    Topics::at(&servers).create(&output, 1);
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1);
    let source =
        KafkaSource::new(&servers, format.clone()).topics([&input]).bounded(OffsetsInitializer::latest());
    let sink = KafkaSink::new(&servers, format.clone())
        .topic(&output)
        .delivery_guarantee(DeliveryGuarantee::ExactlyOnce);
    env.from_source(source, WatermarkStrategy::no_watermarks(), "input").sink_to(sink);
    env.execute("copy").unwrap_or_else(|error| panic!("{what}: {}", error.report()));
    assert_eq!(read(&servers, &output, format), records, "{what}");
}

pub(crate) fn records_of_each_format_go_through_topics(broker: &mut Kafka) {
    go_through(broker, "json", JsonFormat::new(), &readings());
    go_through(broker, "csv", CsvFormat::new(), &readings());
    go_through(broker, "avro", AvroFormat::new(READING), &readings());
    go_through(broker, "protobuf", ProtobufFormat::new(), &samples());
    go_through(broker, "raw", RawFormat, &[vec![0_u8, 0xff], b"text".to_vec(), Vec::new()]);
    go_through(broker, "text", StringFormat, &["ü".to_owned(), String::new(), "b".to_owned()]);
    let change = |kind, row| RowChange { kind, row };
    let [first, second, third] = <[Reading; 3]>::try_from(readings()).unwrap();
    let changes =
        [change(RowKind::Insert, first), change(RowKind::Delete, second), change(RowKind::Insert, third)];
    go_through(broker, "debezium", DebeziumJsonFormat::new(), &changes);
}

/// So that other clients read them: what is in the topic, by a client that knows no formats.
pub(crate) fn values_stand_in_topics_as_their_formats_say(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let values = |topic: &str| Topics::at(&servers).reader(topic, "read_committed").bytes(3);
    let json = write(broker, "json", JsonFormat::new(), readings());
    let csv = write(broker, "csv", CsvFormat::new(), readings());
    let avro = write(broker, "avro", AvroFormat::new(READING), readings());
    let protobuf = write(broker, "protobuf", ProtobufFormat::new(), samples());
    assert_eq!(values(&json)[0], br#"{"sensor":"a","value":0.5,"note":"plain"}"#);
    assert_eq!(values(&csv)[0], b"a,0.5,plain");
    // Lengths are zigzag in Avro, and the number of the union's branch comes first.
    assert_eq!(values(&avro)[0], b"\x02a\0\0\0\0\0\0\xe0\x3f\x02\x0aplain");
    assert_eq!(values(&protobuf)[0], b"\x0a\x01a\x11\0\0\0\0\0\0\xe0\x3f\x1a\x05plain");
}
