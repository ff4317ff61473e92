//! Messages of brokers that are not text, plain and framed: the first byte says which.

use super::messages::{decode, round_trip};
use super::tagged;
use flott_api::message::SerializationSchema;
use flott_format_avro::AvroFormat;
use flott_format_protobuf::ProtobufFormat;
use flott_schema_registry::testing::TestRegistry;
use flott_schema_registry::{Schema, SchemaRegistry, SchemaType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    name: String,
    number: i64,
    is_on: Option<bool>,
    list: Vec<Option<i32>>,
    map: BTreeMap<String, String>,
    letter: Letter,
    inner: Option<Box<Record>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Letter {
    A,
    B,
}

const SCHEMA: &str = r#"{"type":"record","name":"Record","fields":[{"name":"name","type":"string"},{"name":"number","type":"long"},
    {"name":"is_on","type":["null","boolean"]},{"name":"list","type":{"type":"array","items":["null","int"]}},
    {"name":"map","type":{"type":"map","values":"string"}},{"name":"letter","type":{"type":"enum","name":"Letter","symbols":["A","B"]}},
    {"name":"inner","type":["null","Record"],"default":null}]}"#;

/// An earlier version, with what has a schema of its own: logical types, fixed bytes, floats.
const EARLIER: &str = r#"{"type":"record","name":"Record","fields":[{"name":"number","type":"int"},{"name":"name","type":"string"},
    {"name":"id","type":{"type":"fixed","name":"Id","size":3}},{"name":"uuid","type":{"type":"string","logicalType":"uuid"}},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}},{"name":"big","type":{"type":"bytes","logicalType":"big-decimal"}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"f","type":"float"},{"name":"d","type":"double"},
    {"name":"letter","type":{"type":"enum","name":"Letter","symbols":["A","B"]}},{"name":"is_on","type":"boolean"},
    {"name":"map","type":{"type":"map","values":"string"}},{"name":"list","type":{"type":"array","items":"int"}}]}"#;

#[derive(Clone, PartialEq, prost::Message)]
struct Proto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint64, optional, tag = "2")]
    number: Option<i64>,
    #[prost(uint32, repeated, tag = "3")]
    list: Vec<u32>,
    #[prost(btree_map = "string, bool", tag = "4")]
    map: BTreeMap<String, bool>,
    #[prost(message, optional, boxed, tag = "5")]
    inner: Option<Box<Proto>>,
}

/// A registry with the earlier schema as number 1 and one of Protocol Buffers as number 2.
fn registry() -> SchemaRegistry {
    static SERVER: OnceLock<(TestRegistry, SchemaRegistry)> = OnceLock::new();
    let start = || {
        let server = TestRegistry::start().expect("a free port");
        let registry = SchemaRegistry::new(&server.url());
        for schema in [Schema::new(SchemaType::Avro, EARLIER), Schema::new(SchemaType::Protobuf, "syntax")] {
            registry.register("subject", &schema).expect("registered");
        }
        (server, registry)
    };
    SERVER.get_or_init(start).1.clone()
}

pub(crate) fn avro(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, message)) => round_trip::<Record>(&AvroFormat::new(SCHEMA), message, |record| record),
        // A frame of another schema would be looked up once per input.
        Some((_, message)) => {
            let framed = [&[0, 0, 0, 0, 1], message].concat();
            decode::<Record>(&AvroFormat::confluent(registry(), SCHEMA), &framed);
        }
        None => {}
    }
}

pub(crate) fn protobuf(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, message)) => round_trip::<Proto>(&ProtobufFormat::new(), message, |record| record),
        Some((_, message)) => {
            let framed = [&[0, 0, 0, 0, 2], message].concat();
            decode::<Proto>(&ProtobufFormat::confluent(registry()), &framed);
        }
        None => {}
    }
}

pub(super) fn written<T>(schema: &impl SerializationSchema<T>, record: &T) -> Vec<u8> {
    let mut message = Vec::new();
    schema.create_encoder().expect("made").encode(record, &mut message).expect("written");
    message
}

fn record(inner: Option<Box<Record>>) -> Record {
    let map = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let list = vec![None, Some(-1), Some(1 << 30)];
    Record {
        name: "name\u{e9}".to_owned(),
        number: -5,
        is_on: Some(true),
        list,
        map,
        letter: Letter::B,
        inner,
    }
}

pub(crate) fn avro_seeds() -> Vec<Vec<u8>> {
    let format = AvroFormat::new(SCHEMA);
    let records = [record(None), record(Some(Box::new(record(None))))];
    let mut seeds: Vec<_> = records.iter().map(|record| tagged(0, &written(&format, record))).collect();
    let uuid = b"\x48c0ffee00-0000-4000-8000-000000000000";
    let parts: [&[u8]; 8] = [
        b"\x08\x02aabc",
        uuid,
        b"\x04\x01\x02",
        b"\x06\x02\x07\x04",
        b"\x80\x01",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\x02\x01",
        b"\x02\x02k\x02v\0",
        b"\x03\x04\x02\x04\0",
    ];
    seeds.push(tagged(1, &parts.concat()));
    seeds
}

pub(crate) fn protobuf_seeds() -> Vec<Vec<u8>> {
    let map = BTreeMap::from([("k".to_owned(), true)]);
    let small = Proto { name: "name".to_owned(), number: Some(-5), list: vec![1, 300], map, inner: None };
    let large = Proto { inner: Some(Box::new(small.clone())), ..small.clone() };
    let [small, large] = [small, large].map(|record| written(&ProtobufFormat::new(), &record));
    vec![
        tagged(0, &small),
        tagged(0, &large),
        tagged(1, &[&[0], &small[..]].concat()),
        tagged(1, &[&[4, 2, 6], &small[..]].concat()),
    ]
}
