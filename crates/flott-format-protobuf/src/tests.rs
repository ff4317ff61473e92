use crate::ProtobufFormat;
use crate::frame::{decode_indexes, encode_indexes};
use expect_test::expect;
use flott_api::message::{DecodeError, DeserializationSchema, SerializationSchema};
use flott_schema_registry::testing::{Fault, TestRegistry};
use flott_schema_registry::{Schema, SchemaRegistry, SchemaType};
use flott_types::ErrorKind;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

const PROTO: &str = r#"syntax = "proto3";
message Order {
  uint64 id = 1;
  optional string note = 2;
  repeated sint32 numbers = 3;
  map<string, double> shares = 4;
  Order inner = 5;
}"#;

#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, optional, tag = "2")]
    note: Option<String>,
    #[prost(sint32, repeated, tag = "3")]
    numbers: Vec<i32>,
    #[prost(btree_map = "string, double", tag = "4")]
    shares: BTreeMap<String, f64>,
    #[prost(message, optional, boxed, tag = "5")]
    inner: Option<Box<Order>>,
}

fn decode<T: Debug>(schema: &impl DeserializationSchema<T>, message: &[u8]) -> Result<Vec<T>, String> {
    let mut out = Vec::new();
    match schema.create_decoder().unwrap().decode(message, &mut out) {
        Ok(()) => Ok(out),
        Err(DecodeError::Malformed(why)) => Err(why),
        Err(DecodeError::Failed(error)) => panic!("{error:?}"),
    }
}

fn encode<T>(schema: &impl SerializationSchema<T>, record: &T) -> Vec<u8> {
    let mut out = b"x".to_vec();
    schema.create_encoder().unwrap().encode(record, &mut out).unwrap();
    out.split_off(1)
}

fn order() -> Order {
    Order { id: 150, note: Some("hi".to_owned()), numbers: vec![-1, 1], ..Order::default() }
}

/// Worked out by hand from the encoding's description.
const ORDER: &[u8] = b"\x08\x96\x01\x12\x02hi\x1a\x02\x01\x02";

fn registry(server: &TestRegistry) -> SchemaRegistry {
    SchemaRegistry::new(&server.url()).retries(0, Duration::ZERO)
}

#[test]
fn bytes_are_those_of_the_specification() {
    let format = ProtobufFormat::new();
    assert_eq!(encode(&format, &order()), ORDER);
    assert_eq!(decode(&format, ORDER), Ok(vec![order()]));
    // A field that nobody knows is left out; an empty message is one of defaults.
    assert_eq!(decode(&format, &[ORDER, b"\x98\x06\x01"].concat()), Ok(vec![order()]));
    assert_eq!(decode(&format, b""), Ok(vec![Order::default()]));
}

#[test]
fn what_is_wrong_is_told_with_the_field() {
    let why = |message: &[u8]| decode::<Order>(&ProtobufFormat::new(), message).unwrap_err();
    expect![
        "failed to decode Protobuf message: Order.note: invalid wire type: Varint (expected LengthDelimited)"
    ]
    .assert_eq(&why(b"\x10\x01"));
    expect!["failed to decode Protobuf message: Order.note: buffer underflow"].assert_eq(&why(b"\x12\x7fx"));
    let deep = (0..200).fold(Vec::new(), |inner, _| encode_inner(&inner));
    assert!(why(&deep).contains("recursion limit reached"), "{}", why(&deep));
}

/// An order that has only an inner one.
fn encode_inner(inner: &[u8]) -> Vec<u8> {
    let mut message = vec![0x2a];
    prost::encoding::encode_varint(inner.len() as u64, &mut message);
    message.extend_from_slice(inner);
    message
}

#[test]
fn a_framed_message_has_the_schema_and_the_place_of_its_type() {
    let server = TestRegistry::start().unwrap();
    let first = ProtobufFormat::confluent(registry(&server)).subject("orders-value", PROTO);
    let third = first.clone().message_indexes([2, 1]);
    let message = encode(&first, &order());
    assert_eq!(message, [b"\0\0\0\0\x01\0", ORDER].concat());
    // Some clients write the short form in the long way.
    assert_eq!(decode(&first, &[b"\0\0\0\0\x01\x02\0", ORDER].concat()), Ok(vec![order()]));
    assert_eq!(decode(&first, &message), Ok(vec![order()]));
    let inner = encode(&third, &order());
    assert_eq!(inner, [b"\0\0\0\0\x01\x04\x04\x02", ORDER].concat());
    assert_eq!(decode(&third, &inner), Ok(vec![order()]));
    assert_eq!(decode::<Order>(&first, b""), Ok(vec![]));
    let schema = registry(&server).schema(1).unwrap();
    assert_eq!(schema, Some(Schema::new(SchemaType::Protobuf, PROTO)));

    let why = |message: &[u8]| decode::<Order>(&first, message).unwrap_err();
    expect!["written with schema 1: message [2, 1] of its file, expected [0]: another type, or say message_indexes"].assert_eq(&why(&inner));
    expect!["written with schema 1: no index of a message behind the schema's id"]
        .assert_eq(&why(b"\0\0\0\0\x01"));
    expect!["written with schema 1: -1 is no index of a message"].assert_eq(&why(b"\0\0\0\0\x01\x01"));
    expect!["written with schema 9, which the registry does not have"].assert_eq(&why(b"\0\0\0\0\x09\0"));
    registry(&server).register("a", &Schema::new(SchemaType::Avro, "\"int\"")).unwrap();
    expect!["written with schema 2, which is Avro and not Protobuf"].assert_eq(&why(b"\0\0\0\0\x02\0"));
}

#[test]
fn a_registry_that_does_not_answer_fails_the_job() {
    let server = TestRegistry::start().unwrap();
    let format = ProtobufFormat::<Order>::confluent(registry(&server));
    server.fail_next([Fault::HangUp]);
    match format.create_decoder().unwrap().decode(b"\0\0\0\0\x01\0", &mut Vec::new()) {
        Err(DecodeError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::Retry, "{error:?}"),
        other => panic!("{other:?}"),
    }
    let error = format.create_encoder().err().unwrap();
    assert!(error.to_string().contains("ProtobufFormat::subject"), "{error}");
}

proptest! {
    #[test]
    fn every_record_comes_back(
        id: u64, note: Option<String>, numbers: Vec<i32>,
        shares in prop::collection::btree_map(any::<String>(), any::<i32>().prop_map(f64::from), 0..4), has_inner: bool,
    ) {
        let inner = has_inner.then(|| Box::new(order()));
        let order = Order { id, note, numbers, shares, inner };
        prop_assert_eq!(decode(&ProtobufFormat::new(), &encode(&ProtobufFormat::new(), &order)), Ok(vec![order]));
    }

    #[test]
    fn indexes_come_back(indexes in prop::collection::vec(any::<u32>(), 1..5), rest: Vec<u8>) {
        let mut bytes = Vec::new();
        encode_indexes(&indexes, &mut bytes);
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(decode_indexes(&bytes), Ok((indexes, &rest[..])));
    }
}
