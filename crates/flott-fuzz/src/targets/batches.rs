//! Messages of brokers as rows of Arrow batches: those that the row format reads, and the same messages malformed.

use super::encoded::written;
use super::{cut, joined, tagged};
use flott_api::message::{DecodeError, DeserializationSchema};
use flott_format_arrow::schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use flott_format_arrow::{ArrowBatch, ArrowFormat};
use flott_format_avro::AvroFormat;
use flott_format_csv::CsvFormat;
use flott_format_json::JsonFormat;
use flott_format_protobuf::ProtobufFormat;
use flott_state::{decode, encode};
use prost::Message;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

/// Three messages, two of which are the same.
fn messages(bytes: &[u8]) -> [&[u8]; 3] {
    let (first, second) = cut(bytes);
    [first, second, first]
}

/// What three messages with one message of a seed beside others are made of.
fn seeds_of(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    messages.iter().zip(messages.iter().rev()).map(|(first, second)| joined(first, second)).collect()
}

/// The batches of messages, and which of them are malformed.
fn read(format: &ArrowFormat, messages: &[&[u8]]) -> (Vec<ArrowBatch>, Vec<usize>) {
    let mut decoder = format.create_decoder().expect("made");
    let (mut batches, mut malformed) = (Vec::new(), Vec::new());
    messages.iter().for_each(|message| decoder.decode(message, &mut batches).expect("it is looked at later"));
    decoder.flush(&mut batches, &mut |bad| malformed.push(bad.idx)).expect("malformed at worst");
    for batch in &batches {
        // As a snapshot holds it.
        let written = encode("a batch", batch).expect("written");
        assert_eq!(decode::<ArrowBatch>("a batch", &written).expect("read"), *batch);
    }
    (batches, malformed)
}

/// Each message is a row or malformed, unless it is empty and may say nothing.
fn read_all(format: &ArrowFormat, messages: &[&[u8]]) {
    let (batches, malformed) = read(format, messages);
    let n_told = batches.iter().map(|batch| batch.num_rows()).sum::<usize>() + malformed.len();
    let n_empty = messages.iter().filter(|message| message.is_empty()).count();
    assert!((messages.len() - n_empty..=messages.len()).contains(&n_told), "{n_told} of {}", messages.len());
}

/// The records of messages, and which of them are malformed.
fn read_rows<T>(format: &impl DeserializationSchema<T>, messages: &[&[u8]]) -> (Vec<T>, Vec<usize>) {
    let mut decoder = format.create_decoder().expect("made");
    let (mut rows, mut malformed) = (Vec::new(), Vec::new());
    for (idx, message) in messages.iter().enumerate() {
        match decoder.decode(message, &mut rows) {
            Ok(()) => {}
            Err(DecodeError::Malformed(_)) => malformed.push(idx),
            Err(DecodeError::Failed(error)) => panic!("{error:?}"),
        }
    }
    (rows, malformed)
}

/// The same rows and the same messages malformed. Numbers that are none are not equal to themselves, so texts are compared.
fn check_alike<T>(rows: &impl DeserializationSchema<T>, format: &ArrowFormat, messages: &[&[u8]])
where
    T: Debug + DeserializeOwned,
{
    let (batches, malformed) = read(format, messages);
    let rows_of = |batch: &ArrowBatch| serde_arrow::from_record_batch::<Vec<T>>(batch).expect("rows");
    let found: Vec<T> = batches.iter().flat_map(rows_of).collect();
    assert_eq!(format!("{:?}", (found, malformed)), format!("{:?}", read_rows::<T>(rows, messages)));
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    number: Option<i32>,
    share: f64,
    is_on: bool,
    list: Vec<Option<i64>>,
    inner: Option<Inner>,
    map: BTreeMap<String, u16>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Inner {
    a: String,
    b: Option<f32>,
}

fn list(item: DataType, is_nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, is_nullable)))
}

fn map(value: DataType) -> DataType {
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, false)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
}

fn columns() -> SchemaRef {
    let inner =
        Fields::from(vec![Field::new("a", DataType::Utf8, false), Field::new("b", DataType::Float32, true)]);
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("number", DataType::Int32, true),
        Field::new("share", DataType::Float64, false),
        Field::new("is_on", DataType::Boolean, false),
        Field::new("list", list(DataType::Int64, true), false),
        Field::new("inner", DataType::Struct(inner), true),
        Field::new("map", map(DataType::UInt16), false),
    ]))
}

/// Columns of types that serde types do not have.
fn other_columns() -> SchemaRef {
    let zone = Some("UTC".into());
    let nested = Fields::from(vec![
        Field::new("day", DataType::Date32, false),
        Field::new("days", list(DataType::Date32, false), true),
        Field::new("prices", map(DataType::Decimal128(38, 10)), true),
    ]);
    Arc::new(Schema::new(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, zone), true),
        Field::new("local", DataType::Timestamp(TimeUnit::Second, None), true),
        Field::new("price", DataType::Decimal128(9, 2), true),
        Field::new("large", DataType::LargeBinary, true),
        Field::new("nested", DataType::Struct(nested), true),
    ]))
}

/// The columns that stand in a line of text.
fn flat(schema: &SchemaRef) -> SchemaRef {
    let is_flat = |field: &&Arc<Field>| !field.data_type().is_nested();
    Arc::new(Schema::new(schema.fields().iter().filter(is_flat).cloned().collect::<Fields>()))
}

pub(crate) fn json(bytes: &[u8]) {
    let messages = messages(bytes);
    let strict = JsonFormat::new().fail_on_missing_field(true).ignore_unknown_fields(false);
    for format in [JsonFormat::new(), strict] {
        check_alike::<Record>(&format, &format.arrow(columns()), &messages);
    }
    read_all(&JsonFormat::new().arrow(other_columns()), &messages);
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they are compared as they are printed")]
struct Row {
    name: String,
    number: Option<i32>,
    share: f64,
    is_on: bool,
}

pub(crate) fn csv(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let format = match how % 3 {
        0 => CsvFormat::new(),
        1 => CsvFormat::new().field_delimiter(b';').quote_character(b'\'').allow_comments(true),
        _ => CsvFormat::new().null_literal("NULL").ignore_trailing_unmappable(true),
    };
    check_alike::<Row>(&format, &format.clone().arrow(flat(&columns())), &messages(bytes));
    read(&format.arrow(flat(&other_columns())), &messages(bytes));
}

const AVRO: &str = r#"{"type":"record","name":"Record","fields":[{"name":"name","type":"string"},{"name":"number","type":["null","int"]},
    {"name":"share","type":"double"},{"name":"is_on","type":"boolean"},{"name":"list","type":{"type":"array","items":["null","long"]}},
    {"name":"inner","type":["null",{"type":"record","name":"Inner","fields":[{"name":"a","type":"string"},{"name":"b","type":["null","float"]}]}],
    "default":null},{"name":"map","type":{"type":"map","values":"int"}}]}"#;

/// An earlier version: other fields, in another order, and narrower ones.
const EARLIER: &str = r#"{"type":"record","name":"Record","fields":[{"name":"map","type":{"type":"map","values":"int"}},
    {"name":"gone","type":{"type":"array","items":{"type":"map","values":["string","null"]}}},{"name":"share","type":"float"},
    {"name":"is_on","type":"boolean"},{"name":"number","type":"int"},
    {"name":"list","type":{"type":"array","items":"int"}},{"name":"name","type":"string"}]}"#;

/// Types that serde types do not have.
const OTHER: &str = r#"{"type":"record","name":"Other","fields":[{"name":"id","type":{"type":"fixed","name":"Id","size":3}},
    {"name":"uuid","type":{"type":"string","logicalType":"uuid"}},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"letter","type":{"type":"enum","name":"Letter","symbols":["A","B"]}},{"name":"bytes","type":["null","bytes"]}]}"#;

pub(crate) fn avro(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let messages = messages(bytes);
    let (rows, other) = match how % 3 {
        0 => (AvroFormat::new(AVRO), false),
        1 => (AvroFormat::new(AVRO).writer_schema(EARLIER).expect("without a frame"), false),
        _ => (AvroFormat::new(OTHER), true),
    };
    let format = rows.clone().arrow().expect("columns");
    if other {
        read_all(&format, &messages);
    } else {
        check_alike::<AvroRecord>(&rows, &format, &messages);
    }
}

/// Avro has no smaller numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename = "Record")]
struct AvroRecord {
    name: String,
    number: Option<i32>,
    share: f64,
    is_on: bool,
    list: Vec<Option<i64>>,
    inner: Option<Inner>,
    map: BTreeMap<String, i32>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
struct Proto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint64, tag = "2")]
    number: i64,
    #[prost(uint32, repeated, tag = "3")]
    list: Vec<u32>,
    #[prost(btree_map = "string, double", tag = "4")]
    map: BTreeMap<String, f64>,
    #[prost(message, optional, tag = "5")]
    inner: Option<ProtoInner>,
    #[prost(message, repeated, tag = "6")]
    inners: Vec<ProtoInner>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
struct ProtoInner {
    #[prost(fixed32, tag = "1")]
    a: u32,
    #[prost(bool, tag = "2")]
    b: bool,
}

/// What a compiler of `.proto` files says of [`Proto`].
fn descriptors() -> Vec<u8> {
    let field =
        |name: &str, number, r#type: Type, label: Label, type_name: Option<&str>| FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(label.into()),
            r#type: Some(r#type.into()),
            type_name: type_name.map(str::to_owned),
            ..FieldDescriptorProto::default()
        };
    let one = |name, number, r#type| field(name, number, r#type, Label::Optional, None);
    let message = |name: &str, field| DescriptorProto {
        name: Some(name.to_owned()),
        field,
        ..DescriptorProto::default()
    };
    let entry = DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..message("MapEntry", vec![one("key", 1, Type::String), one("value", 2, Type::Double)])
    };
    let fields = vec![
        one("name", 1, Type::String),
        one("number", 2, Type::Sint64),
        field("list", 3, Type::Uint32, Label::Repeated, None),
        field("map", 4, Type::Message, Label::Repeated, Some(".Proto.MapEntry")),
        field("inner", 5, Type::Message, Label::Optional, Some(".ProtoInner")),
        field("inners", 6, Type::Message, Label::Repeated, Some(".ProtoInner")),
    ];
    let proto = DescriptorProto { nested_type: vec![entry], ..message("Proto", fields) };
    let inner = message("ProtoInner", vec![one("a", 1, Type::Fixed32), one("b", 2, Type::Bool)]);
    let file = FileDescriptorProto {
        name: Some("file.proto".to_owned()),
        message_type: vec![proto, inner],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

pub(crate) fn protobuf(bytes: &[u8]) {
    static FORMAT: OnceLock<ArrowFormat> = OnceLock::new();
    let rows = ProtobufFormat::<Proto>::new();
    let format = FORMAT.get_or_init(|| rows.clone().arrow(&descriptors(), "Proto").expect("columns"));
    check_alike::<Proto>(&rows, format, &messages(bytes));
}

fn record(number: Option<i32>) -> Record {
    let inner = number.map(|_| Inner { a: "a\"\u{e9}".to_owned(), b: Some(-1.5) });
    let map = BTreeMap::from([("k".to_owned(), 7), (String::new(), u16::MAX)]);
    let list = vec![None, Some(1 << 40), Some(-1)];
    Record { name: "name".to_owned(), number, share: 0.1, is_on: true, list, inner, map }
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let other = r#"{"bytes":"AAE=","day":"2026-02-28","at":"2026-01-31T12:00:00.000000001Z","local":-5,"price":-12.5,"large":"",
        "nested":{"day":"0001-01-01","days":["9999-12-31",-1],"prices":{"a":"1.0000000001","b":7}}}"#;
    let records = [record(None), record(Some(-5))];
    let mut messages: Vec<_> = records.iter().map(|record| written(&JsonFormat::new(), record)).collect();
    messages.extend([other, r#"{"name":1}"#].map(|text| text.as_bytes().to_vec()));
    seeds_of(&messages)
}

pub(crate) fn csv_seeds() -> Vec<Vec<u8>> {
    let lines = [
        "name,7,0.5,true",
        "\"a,\"\"b\",,NaN,false\r\n",
        "AAE=,2026-02-28,2026-01-31T12:00:00Z,2026-01-31T12:00:00,-12.50,",
        "a,NULL,-1e3,true,more",
    ];
    let lines = lines.map(|line| line.as_bytes().to_vec());
    seeds_of(&lines).iter().zip([0, 0, 1, 2]).map(|(seed, how)| tagged(how, seed)).collect()
}

pub(crate) fn avro_seeds() -> Vec<Vec<u8>> {
    let avro = |Record { name, number, share, is_on, list, inner, map }| {
        let map = map.into_iter().map(|(key, value)| (key, value.into())).collect();
        AvroRecord { name, number, share, is_on, list, inner, map }
    };
    let records = [record(None), record(Some(-5))].map(avro);
    let records = records.map(|record| written(&AvroFormat::new(AVRO), &record));
    let earlier =
        [&b"\x02\x02k\x0e\0\x02\x02\x02x\x02\0\0"[..], b"\0\0\0\x3f\x01\x0e\x04\x02\x04\0\x02n"].concat();
    let uuid = b"\x48c0ffee00-0000-4000-8000-000000000000";
    let other = [b"abc", &uuid[..], b"\x04\x01\x02", b"\x80\x01", b"\x0e\x02\x02\x04xy"].concat();
    let seeds = seeds_of(&records).into_iter().map(|seed| tagged(0, &seed));
    seeds.chain([tagged(1, &joined(&earlier, &earlier)), tagged(2, &joined(&other, &other))]).collect()
}

pub(crate) fn protobuf_seeds() -> Vec<Vec<u8>> {
    let inner = ProtoInner { a: 7, b: true };
    let large = Proto {
        name: "name".to_owned(),
        number: -5,
        list: vec![1, 300],
        map: BTreeMap::from([("k".to_owned(), 0.5), (String::new(), -1.0)]),
        inner: Some(inner.clone()),
        inners: vec![inner, ProtoInner::default()],
    };
    seeds_of(&[Proto::default(), large].map(|record| record.encode_to_vec()))
}
