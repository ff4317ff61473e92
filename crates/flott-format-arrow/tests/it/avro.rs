use crate::{check_alike, read_batches, read_rows, rows_of};
use flott_api::message::{DecodeError, DeserializationSchema, SerializationSchema};
use flott_format_arrow::schema::DataType;
use flott_format_avro::AvroFormat;
use flott_schema_registry::testing::TestRegistry;
use flott_schema_registry::{SchemaRegistry, SchemaType};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: i64,
    email: Option<String>,
    tags: Vec<String>,
    scores: BTreeMap<String, f64>,
    level: Level,
    is_on: bool,
    home: Place,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    x: i32,
    y: Option<f32>,
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
    {"name":"is_on","type":"boolean","default":true},
    {"name":"home","type":{"type":"record","name":"Place","fields":[
        {"name":"x","type":"int"},{"name":"y","type":["null","float"]}]},"default":{"x":7,"y":null}}]}"#;

/// An earlier version: fewer fields, in another order, and a narrower number.
const USER_1: &str = r#"{"type":"record","name":"User","namespace":"org.example","fields":[
    {"name":"age","type":"int"},
    {"name":"gone","type":"string"},
    {"name":"name","type":"string"}]}"#;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User1 {
    age: i32,
    gone: String,
    name: String,
}

prop_compose! {
    fn user()(
        (name, age, email, tags, high, is_on) in any::<(String, i64, Option<String>, Vec<String>, bool, bool)>(),
        scores in prop::collection::btree_map(any::<String>(), -1e9..1e9, 0..4),
        x: i32,
        y in prop::option::of(-1e3..1e3_f32),
    ) -> User {
        let level = if high { Level::High } else { Level::Low };
        User { name, age, email, tags, scores, level, is_on, home: Place { x, y } }
    }
}

fn encoded<T>(format: &AvroFormat, records: &[T]) -> Vec<Vec<u8>>
where
    AvroFormat: SerializationSchema<T>,
{
    let mut encoder = format.create_encoder().expect("an encoder");
    let encode = |record| {
        let mut message = Vec::new();
        encoder.encode(record, &mut message).expect("encoded");
        message
    };
    records.iter().map(encode).collect()
}

proptest! {
    #[test]
    fn the_rows_are_those_of_the_serde_type(users in prop::collection::vec(user(), 0..20)) {
        let format = AvroFormat::new(USER);
        check_alike::<User>(&format, &format.clone().arrow().expect("columns"), &encoded(&format, &users));
    }

    #[test]
    fn earlier_versions_are_resolved_as_for_the_serde_type(users in prop::collection::vec(any::<(i32, String, String)>(), 1..20)) {
        let users: Vec<_> = users.into_iter().map(|(age, gone, name)| User1 { age, gone, name }).collect();
        let format = AvroFormat::new(USER).writer_schema(USER_1).expect("without a frame");
        let messages = encoded(&AvroFormat::new(USER_1), &users);
        check_alike::<User>(&format, &format.clone().arrow().expect("columns"), &messages);
    }

    #[test]
    fn damaged_messages_are_refused(users in prop::collection::vec((user(), any::<prop::sample::Index>(), any::<u8>()), 1..10)) {
        let format = AvroFormat::new(USER);
        let records: Vec<_> = users.iter().map(|(user, ..)| user.clone()).collect();
        let mut messages = encoded(&format, &records);
        for (message, (_, at, byte)) in messages.iter_mut().zip(&users) {
            let at = at.index(message.len());
            message[at] = *byte;
        }
        check_alike::<User>(&format, &format.clone().arrow().expect("columns"), &messages);
    }
}

#[test]
fn the_columns_are_the_fields_of_the_schema() {
    let format = AvroFormat::new(USER).arrow().expect("columns");
    let schema = format.schema();
    assert_eq!(schema.field_with_name("age").expect("a column").data_type(), &DataType::Int64);
    assert!(schema.field_with_name("email").expect("a column").is_nullable());
    assert!(!schema.field_with_name("name").expect("a column").is_nullable());
    let error = AvroFormat::new("{").arrow().expect_err("refused").report();
    assert!(error.contains("cannot make Arrow columns"), "{error}");
}

#[test]
fn with_a_registry_messages_of_several_versions_are_rows_of_one_batch_in_order() {
    let server = TestRegistry::start().expect("a registry");
    let registry = SchemaRegistry::new(&server.url());
    let old = AvroFormat::confluent(registry.clone(), USER_1).subject("old");
    let new = AvroFormat::confluent(registry, USER).subject("new");
    let place = Place { x: 1, y: None };
    let user = |name: &str| User {
        name: name.to_owned(),
        age: 1,
        email: None,
        tags: Vec::new(),
        scores: BTreeMap::new(),
        level: Level::High,
        is_on: false,
        home: place.clone(),
    };
    let of_old = |name: &str| User1 { age: 2, gone: String::new(), name: name.to_owned() };
    let mut messages = encoded(&new, &[user("a"), user("b")]);
    messages.extend(encoded(&old, &[of_old("c")]));
    messages.push(b"no frame".to_vec());
    messages.extend(encoded(&new, &[user("d")]));
    messages.push(Vec::new());
    messages.push([&[0, 0, 0, 0, 99][..], b"x"].concat());
    let found = read_batches(&new.clone().arrow().expect("columns"), &messages);
    let expected = read_rows::<User>(&new, &messages);
    assert_eq!(rows_of::<User>(&found.rows), expected.rows);
    assert_eq!(found.rows.len(), 1);
    assert_eq!(found.malformed, expected.malformed);
}

#[test]
fn a_schema_that_uses_others_of_the_registry_fails_with_what_to_do() {
    use flott_schema_registry::{Reference, Schema};
    let server = TestRegistry::start().expect("a registry");
    let registry = SchemaRegistry::new(&server.url());
    let place = r#"{"type":"record","name":"Place","fields":[{"name":"x","type":"int"}]}"#;
    let schema = |text: &str, references| Schema {
        schema_type: SchemaType::Avro,
        schema: text.to_owned(),
        references,
    };
    registry.register("place", &schema(place, Vec::new())).expect("registered");
    let references = vec![Reference { name: "Place".to_owned(), subject: "place".to_owned(), version: 1 }];
    let user = r#"{"type":"record","name":"User","fields":[{"name":"home","type":"Place"}]}"#;
    let id = registry.register("user", &schema(user, references)).expect("registered");
    let reader = r#"{"type":"record","name":"User","fields":[{"name":"home","type":
        {"type":"record","name":"Place","fields":[{"name":"x","type":"int"}]}}]}"#;
    let format = AvroFormat::confluent(registry, reader).arrow().expect("columns");
    let mut decoder = format.create_decoder().expect("a decoder");
    let mut batches = Vec::new();
    let mut message = vec![0];
    message.extend(id.to_be_bytes());
    message.push(2);
    let decoded: Result<(), DecodeError> = decoder.decode(&message, &mut batches);
    decoded.expect("kept");
    let error = decoder.flush(&mut batches, &mut |bad| panic!("{bad:?}")).expect_err("refused").report();
    assert!(error.contains("uses others of the registry"), "{error}");
}
