use crate::AvroFormat;
use expect_test::{Expect, expect};
use flott_api::message::{DecodeError, DeserializationSchema, SerializationSchema};
use flott_schema_registry::testing::{Fault, TestRegistry};
use flott_schema_registry::{Reference, Schema, SchemaRegistry, SchemaType};
use flott_types::ErrorKind;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: i64,
    email: Option<String>,
    tags: Vec<String>,
    scores: BTreeMap<String, f64>,
    level: Level,
    is_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Level {
    Low,
    High,
}

const USER: &str = r#"{"type":"record","name":"User","namespace":"org.example","fields":[
    {"name":"name","type":"string"},
    {"name":"age","type":"long"},
    {"name":"email","type":["null","string"],"default":null},
    {"name":"tags","type":{"type":"array","items":"string"},"default":[]},
    {"name":"scores","type":{"type":"map","values":"double"},"default":{}},
    {"name":"level","type":{"type":"enum","name":"Level","symbols":["Low","High"]},"default":"Low"},
    {"name":"is_on","type":"boolean","default":true}]}"#;

/// An earlier version: fewer fields, in another order, and a narrower number.
const USER_1: &str = r#"{"type":"record","name":"User","namespace":"org.example","fields":[
    {"name":"age","type":"int"},
    {"name":"gone","type":"bytes"},
    {"name":"name","type":"string"}]}"#;

#[derive(Serialize)]
struct User1<'a> {
    age: i32,
    #[serde(with = "apache_avro::serde::bytes")]
    gone: Vec<u8>,
    name: &'a str,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    value: i32,
    next: Option<Box<Node>>,
}

const NODE: &str = r#"{"type":"record","name":"Node","fields":[
    {"name":"value","type":"int"},{"name":"next","type":["null","Node"]}]}"#;

fn decode<T: Debug>(schema: &impl DeserializationSchema<T>, message: &[u8]) -> Result<Vec<T>, String> {
    let mut out = Vec::new();
    match schema.create_decoder().unwrap().decode(message, &mut out) {
        Ok(()) => Ok(out),
        Err(DecodeError::Malformed(why)) => Err(why),
        Err(DecodeError::Failed(error)) => panic!("{error:?}"),
    }
}

fn encode<T>(schema: &impl SerializationSchema<T>, record: &T) -> Vec<u8> {
    let mut out = Vec::new();
    schema.create_encoder().unwrap().encode(record, &mut out).unwrap();
    out
}

fn user() -> User {
    User {
        name: "Ann".to_owned(),
        age: 30,
        email: Some("a@b".to_owned()),
        tags: vec!["x".to_owned()],
        scores: BTreeMap::from([("k".to_owned(), 0.5)]),
        level: Level::High,
        is_on: true,
    }
}

fn registry(server: &TestRegistry) -> SchemaRegistry {
    SchemaRegistry::new(&server.url()).retries(0, Duration::ZERO)
}

#[test]
fn bytes_are_those_of_the_specification() {
    // Worked out by hand: lengths and integers are zigzag, a union has its number first, lists end with a zero.
    let expected = b"\x06Ann\x3c\x02\x06a@b\x02\x02x\x00\x02\x02k\0\0\0\0\0\0\xe0\x3f\0\x02\x01";
    assert_eq!(encode(&AvroFormat::new(USER), &user()), expected);
    assert_eq!(decode(&AvroFormat::new(USER), expected), Ok(vec![user()]));
    // A block may say its size.
    let sized = b"\x06Ann\x3c\x02\x06a@b\x01\x04\x02x\x00\x02\x02k\0\0\0\0\0\0\xe0\x3f\0\x02\x01";
    assert_eq!(decode(&AvroFormat::new(USER), sized), Ok(vec![user()]));
    let lies = b"\x06Ann\x3c\x02\x06a@b\x01\x06\x02x\x00\x02\x02k\0\0\0\0\0\0\xe0\x3f\0\x02\x01";
    let why = decode::<User>(&AvroFormat::new(USER), lies).unwrap_err();
    assert!(why.contains("items of 2 bytes, which are said to have 3"), "{why}");
    assert_eq!(decode::<User>(&AvroFormat::new(USER), b""), Ok(vec![]));
}

#[test]
fn what_was_written_with_another_schema_is_resolved() {
    let written = encode(&AvroFormat::new(USER_1), &User1 { age: 30, gone: vec![1, 2], name: "Ann" });
    let format = AvroFormat::new(USER).writer_schema(USER_1).unwrap();
    let expected = User { email: None, tags: vec![], scores: BTreeMap::new(), level: Level::Low, ..user() };
    assert_eq!(decode(&format, &written), Ok(vec![expected]));
    // The same schema, written otherwise, is resolved too, for the same.
    let spaced = AvroFormat::new(USER)
        .writer_schema(USER.replacen("\"type\":\"record\"", "\"doc\":\"d\",\"type\":\"record\"", 1))
        .unwrap();
    assert_eq!(decode(&spaced, &encode(&AvroFormat::new(USER), &user())), Ok(vec![user()]));
}

/// Fields are found by name; what the types are called is the program's business.
#[test]
fn a_type_may_be_called_otherwise_than_its_schema() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Chain {
        value: i32,
        next: Option<Box<Chain>>,
    }
    let node = Node { value: 1, next: Some(Box::new(Node { value: 2, next: None })) };
    let chain = |value, next: Option<Chain>| Chain { value, next: next.map(Box::new) };
    let message = encode(&AvroFormat::new(NODE), &node);
    assert_eq!(decode(&AvroFormat::new(NODE), &message), Ok(vec![chain(1, Some(chain(2, None)))]));
    let message = encode(&AvroFormat::new(NODE), &chain(3, None));
    assert_eq!(decode(&AvroFormat::new(NODE), &message), Ok(vec![Node { value: 3, next: None }]));
    // What does not fit is told whatever it is called.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Other {
        no_such_field: i32,
    }
    let why = decode::<Other>(&AvroFormat::new(NODE), &message).unwrap_err();
    assert!(why.contains("no_such_field"), "{why}");
}

#[test]
fn every_cut_of_a_message_is_malformed_and_so_is_a_byte_more() {
    let format = AvroFormat::new(USER);
    let message = encode(&format, &user());
    for len in 1..message.len() {
        let why = decode::<User>(&format, &message[..len]).unwrap_err();
        assert!(why.contains("at byte"), "{why}");
    }
    let longer = [&message[..], b"x"].concat();
    expect!["1 bytes more than the schema has use for, at byte 29"]
        .assert_eq(&decode::<User>(&format, &longer).unwrap_err());
}

#[test]
fn what_is_wrong_is_told_with_field_and_byte() {
    let check = |message: &[u8], expected: Expect| {
        expected.assert_eq(&decode::<User>(&AvroFormat::new(USER), message).unwrap_err());
    };
    check(b"\x06Ann\x3c\x04", expect!["field 'email': number 2 of 2 variants, at byte 6"]);
    check(
        b"\x06Ann\x3c\x00\x02\x7fx",
        expect!["field 'tags[0]': a length of -64, where 1 bytes are left, at byte 8"],
    );
    check(
        b"\x06Ann\x3c\x00\xff\xff\xff\xff\x7f",
        expect!["field 'tags': the message ends too early, at byte 12"],
    );
    check(
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        expect!["field 'name': an integer of more than 64 bits, at byte 1"],
    );
    check(b"\x06Ann\x3c\x00\x00\x00\x06", expect!["field 'level': number 3 of 2 symbols, at byte 9"]);
    check(
        b"\x06Ann\x3c\x00\x00\x00\x00\x02",
        expect!["field 'is_on': expected a boolean, 0 or 1, at byte 10"],
    );
    check(b"\x06\xff\xff\xff\x3c\x00\x00\x00\x00\x01", expect!["field 'name': not UTF-8, at byte 2"]);
}

#[test]
fn hostile_lengths_and_depths_cost_neither_memory_nor_stack() {
    let deep: Vec<u8> = [0, 2].repeat(1 << 20);
    let why = decode::<Node>(&AvroFormat::new(NODE), &deep).unwrap_err();
    assert!(why.contains("more than 100 values in each other"), "{why}");
    let nulls = AvroFormat::new(r#"{"type":"array","items":"null"}"#);
    for count in [b"\xfe\xff\xff\xff\x0f\x00".as_slice(), b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\0"] {
        let why = decode::<Vec<()>>(&nulls, count).unwrap_err();
        assert!(why.contains("which the message has no bytes for"), "{why}");
    }
    let blocks = [b"\x80\x80\x04".repeat(5), vec![0]].concat();
    let why = decode::<Vec<()>>(&nulls, &blocks).unwrap_err();
    assert!(why.contains("items without bytes"), "{why}");
}

#[test]
fn a_list_as_deep_as_allowed_is_read_and_a_deeper_one_is_malformed() {
    let list = |len| {
        let list = (0..len).fold(None, |next, value| Some(Box::new(Node { value, next })));
        *list.unwrap()
    };
    let message = |len| encode(&AvroFormat::new(NODE), &list(len));
    let same = AvroFormat::new(NODE);
    let resolved =
        AvroFormat::new(NODE).writer_schema(NODE.replace("\"int\"", "\"int\",\"doc\":\"\"")).unwrap();
    for (format, len) in [(same, 49), (resolved, 11)] {
        assert_eq!(decode(&format, &message(len)), Ok(vec![list(len)]));
        assert!(decode::<Node>(&format, &message(len + 2)).is_err());
    }
}

#[test]
fn a_framed_message_is_read_with_the_schema_that_it_names() {
    let server = TestRegistry::start().unwrap();
    let registry = registry(&server);
    let id = registry.register("other", &Schema::new(SchemaType::Avro, USER_1)).unwrap();
    let old = encode(&AvroFormat::new(USER_1), &User1 { age: 30, gone: vec![], name: "Ann" });
    let old = [&[0][..], &id.to_be_bytes(), &old].concat();

    let format = AvroFormat::confluent(registry, USER).subject("users-value");
    let message = encode(&format, &user());
    assert_eq!(message[..5], [0, 0, 0, 0, 2]);
    assert_eq!(message[5..], encode(&AvroFormat::new(USER), &user()));

    let mut decoder = DeserializationSchema::<User>::create_decoder(&format).unwrap();
    let mut out = Vec::new();
    for message in [&message, &old, &message, &old, &vec![]] {
        decoder.decode(message, &mut out).unwrap();
    }
    assert_eq!(out.len(), 4);
    assert_eq!((&out[0], &out[2]), (&user(), &user()));
    assert_eq!((out[1].name.as_str(), out[1].age, out[1].level), ("Ann", 30, Level::Low));
    // Each schema was asked for once.
    assert_eq!(server.requests().iter().filter(|request| request.starts_with("GET")).count(), 2);
}

#[test]
fn a_schema_that_uses_others_is_read_with_them() {
    let server = TestRegistry::start().unwrap();
    let registry = registry(&server);
    let level = r#"{"type":"enum","name":"Level","namespace":"org.example","symbols":["Low","High"]}"#;
    registry.register("level", &Schema::new(SchemaType::Avro, level)).unwrap();
    let pair = r#"{"type":"record","name":"Pair","fields":[{"name":"a","type":"org.example.Level"},{"name":"b","type":"org.example.Level"}]}"#;
    let references =
        vec![Reference { name: "org.example.Level".to_owned(), subject: "level".to_owned(), version: 1 }];
    let id =
        registry.register("pair", &Schema { references, ..Schema::new(SchemaType::Avro, pair) }).unwrap();

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair {
        a: Level,
        b: Level,
    }
    let whole = pair.replacen("\"org.example.Level\"", level, 1);
    let message = [&[0][..], &id.to_be_bytes(), b"\x02\x00"].concat();
    let read = decode::<Pair>(&AvroFormat::confluent(registry, whole), &message);
    assert_eq!(read, Ok(vec![Pair { a: Level::High, b: Level::Low }]));
}

#[test]
fn what_the_registry_does_not_have_is_malformed_and_no_answer_fails_the_job() {
    let server = TestRegistry::start().unwrap();
    let registry = registry(&server);
    let proto = registry.register("p", &Schema::new(SchemaType::Protobuf, "syntax = \"proto3\";")).unwrap();
    assert_eq!(proto, 1);
    let format = AvroFormat::confluent(registry, USER);
    let why = |message: &[u8]| decode::<User>(&format, message).unwrap_err();
    expect!["written with schema 9, which the registry does not have"].assert_eq(&why(b"\0\0\0\0\x09x"));
    expect!["written with schema 1, which is Protobuf and not Avro"].assert_eq(&why(b"\0\0\0\0\x01x"));
    expect!["begins with byte 123 instead of 0 and the id of a schema: it was not written with a schema registry, or keeps the id in a header"].assert_eq(&why(b"{\"name\":1}"));

    server.fail_next([Fault::HangUp]);
    let mut decoder = DeserializationSchema::<User>::create_decoder(&format).unwrap();
    match decoder.decode(b"\0\0\0\0\x09x", &mut Vec::new()) {
        Err(DecodeError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::Retry, "{error:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_schemas_and_options_are_refused_at_once() {
    let server = TestRegistry::start().unwrap();
    let broken = AvroFormat::new(r#"{"type":"recrod"}"#);
    assert!(DeserializationSchema::<User>::create_decoder(&broken).is_err());
    assert!(SerializationSchema::<User>::create_encoder(&broken).is_err());
    let error = SerializationSchema::<User>::create_encoder(&AvroFormat::confluent(registry(&server), USER))
        .err()
        .unwrap();
    assert!(error.to_string().contains("AvroFormat::subject"), "{error}");
    assert!(AvroFormat::confluent(registry(&server), USER).writer_schema(USER).is_err());
}

#[test]
fn a_record_that_does_not_fit_the_schema_is_an_error() {
    let mut encoder = SerializationSchema::<User1<'static>>::create_encoder(&AvroFormat::new(USER)).unwrap();
    assert!(encoder.encode(&User1 { age: 1, gone: vec![], name: "x" }, &mut Vec::new()).is_err());
}

prop_compose! {
    fn users()(
        name: String, age: i64, email: Option<String>, tags: Vec<String>, is_on: bool, is_high: bool,
        scores in prop::collection::btree_map(any::<String>(), any::<i32>().prop_map(f64::from), 0..4),
    ) -> User {
        User { name, age, email, tags, scores, level: if is_high { Level::High } else { Level::Low }, is_on }
    }
}

proptest! {
    #[test]
    fn every_record_comes_back_read_either_way(user in users()) {
        let message = encode(&AvroFormat::new(USER), &user);
        prop_assert_eq!(decode(&AvroFormat::new(USER), &message), Ok(vec![user.clone()]));
        let resolved = AvroFormat::new(USER).writer_schema(USER.replacen("\"type\"", "\"doc\":\"\",\"type\"", 1)).unwrap();
        prop_assert_eq!(decode(&resolved, &message), Ok(vec![user]));
    }
}
