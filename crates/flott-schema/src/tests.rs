//! Types as users write them: traced, their values read without the type, and read as what became of the type.

mod evolution;
mod random;

use crate::{StateSchemas, Type, Untraceable, decode, trace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::{Duration, UNIX_EPOCH};

fn traced<T: DeserializeOwned>() -> String {
    trace::<T>().map_or_else(|error| error.to_string(), |ty| ty.to_string())
}

#[derive(Debug, Serialize, Deserialize)]
struct Flight {
    origin: String,
    delay: Option<i32>,
    legs: Vec<Leg>,
    by_day: BTreeMap<u8, f64>,
    #[serde(default)]
    seen: u64,
    #[serde(alias = "carrier", alias = "airline")]
    company: String,
    id: Id,
}

#[derive(Debug, Serialize, Deserialize)]
struct Id(u128);

#[derive(Debug, Serialize, Deserialize)]
struct Leg {
    at: (i64, char),
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
enum State {
    Planned,
    Cancelled(String),
    #[serde(alias = "Gone")]
    Departed {
        gate: Option<Gate>,
        late: bool,
    },
    At(i8, f32),
}

#[derive(Debug, Serialize, Deserialize)]
enum Gate {
    A(u8),
    B,
}

fn flight() -> Flight {
    let state = State::Departed { gate: Some(Gate::A(7)), late: true };
    Flight {
        origin: "JFK".to_owned(),
        delay: Some(-3),
        legs: vec![
            Leg { at: (17, 'ß'), state },
            Leg { at: (-1, 'x'), state: State::At(-5, 0.1) },
            Leg { at: (0, 'y'), state: State::Planned },
            Leg { at: (0, 'z'), state: State::Cancelled("fog".to_owned()) },
        ],
        by_day: [(1, 0.5), (2, -1.5)].into(),
        seen: u64::MAX,
        company: "UA".to_owned(),
        id: Id(5),
    }
}

#[test]
fn a_type_is_traced_without_a_value_with_names_aliases_and_what_may_be_missing() {
    expect_test::expect!["Flight { origin: string, delay: option<i32>, legs: list<Leg { at: (i64, char), state: State { Planned, Cancelled(string), Departed { gate: option<Gate { A(u8), B }>, late: bool }, At(i8, f32) } }>, by_day: map<u8, f64>, seen: u64, company: string, id: u128 }"].assert_eq(&traced::<Flight>());
    let Type::Struct { fields, .. } = trace::<Flight>().expect("traced") else { panic!("a struct") };
    let optional: Vec<_> =
        fields.iter().filter(|field| field.optional).map(|field| field.name.as_str()).collect();
    assert_eq!(optional, ["delay", "seen"]);
    let company = fields.iter().find(|field| field.name == "company").expect("there");
    assert_eq!(company.aliases, ["airline", "carrier"]);
    let Type::Enum { variants, .. } = trace::<State>().expect("traced") else { panic!("an enum") };
    let names = [&variants[2].name, &variants[2].aliases[0]];
    assert!(names.contains(&&"Departed".to_owned()) && names.contains(&&"Gone".to_owned()), "{names:?}");
}

fn check_decodes<T: Serialize + DeserializeOwned>(value: &T) {
    let ty = trace::<T>().expect("traced");
    let bytes = postcard::to_allocvec(value).expect("encoded");
    let decoded = decode(&ty, &bytes).expect("decoded");
    let expected = serde_json::to_value(value).expect("JSON");
    assert_eq!(serde_json::to_value(decoded).expect("JSON"), expected, "{ty}");
}

#[test]
fn bytes_are_read_by_schema_as_serde_reads_the_type() {
    check_decodes(&flight());
    check_decodes(&(1_u8, "two".to_owned(), Some(3_i128), [4_u16; 3], ()));
    check_decodes(&Duration::from_millis(1_500));
    check_decodes(&(UNIX_EPOCH + Duration::from_millis(1_500)));
    check_decodes(&vec![Ok::<_, String>(1_u32), Err("no".to_owned())]);
    check_decodes(&NonZeroU32::new(7));
}

#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Node { left: Box<Tree>, right: Box<Tree> },
    Leaf(u32),
    Many(Vec<Tree>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Outer {
    inner: Option<Box<Inner>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Inner {
    outers: Vec<Outer>,
    next: Option<Box<Inner>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pair<A, B> {
    a: A,
    b: B,
}

#[test]
fn recursive_types_refer_to_what_encloses_them() {
    expect_test::expect!["Tree { Node { left: self, right: self }, Leaf(u32), Many(list<self>) }"]
        .assert_eq(&traced::<Tree>());
    expect_test::expect!["Outer { inner: option<Inner { outers: list<self^1>, next: option<self> }> }"]
        .assert_eq(&traced::<Outer>());
    expect_test::expect!["Pair { a: Pair { a: u8, b: string }, b: list<Pair { a: bool, b: unit }> }"]
        .assert_eq(&traced::<Pair<Pair<u8, String>, Vec<Pair<bool, ()>>>>());
    let leaf = |number| Box::new(Tree::Leaf(number));
    check_decodes(&Tree::Many(vec![Tree::Node { left: leaf(1), right: leaf(2) }, Tree::Leaf(3)]));
    let inner = Inner { outers: vec![Outer { inner: None }], next: None };
    check_decodes(&Outer { inner: Some(Box::new(Inner { next: Some(Box::new(inner)), outers: vec![] })) });
}

/// Refuses numbers that are not even, and strings that are no date.
#[derive(Debug, Deserialize)]
struct Particular {
    #[serde(deserialize_with = "even")]
    _even: u32,
    #[serde(deserialize_with = "date")]
    _date: String,
}

fn even<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if number % 2 == 0 { Ok(number) } else { Err(serde::de::Error::custom("odd")) }
}

fn date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.split('-').count() == 3 { Ok(text) } else { Err(serde::de::Error::custom("no date")) }
}

#[derive(Debug, Deserialize)]
struct Hopeless {
    #[serde(deserialize_with = "hopeless")]
    _hopeless: String,
}

fn hopeless<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Err(serde::de::Error::custom(format!("'{text}' is not the word")))
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "no value of it is made")]
enum Untagged {
    A(u8),
}

#[derive(Debug, Deserialize)]
struct Endless {
    _next: Box<Endless>,
}

#[test]
fn a_type_that_its_record_could_not_be_read_of_has_no_schema() {
    type Four<T> = Pair<Pair<Pair<Pair<T, ()>, ()>, ()>, ()>;
    let ty = trace::<Four<Four<Four<Four<Four<u8>>>>>>().expect("traced");
    let record = StateSchemas { key_groups: (0, 8), entries: [("deep".to_owned(), ty)].into() };
    assert_eq!(StateSchemas::decode(&record.encode().expect("encoded")), Ok(Some(record)));
    trace::<Four<Four<Four<Four<Four<Four<Four<u8>>>>>>>>().expect_err("28 structs are too many");
}

#[test]
fn types_that_refuse_values_are_given_others() {
    expect_test::expect!["Particular { _even: u32, _date: string }"].assert_eq(&traced::<Particular>());
    expect_test::expect!["IpAddr { V4((u8, u8, u8, u8)), V6((u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8)) }"].assert_eq(&traced::<IpAddr>());
    check_decodes_compact(&IpAddr::V4(Ipv4Addr::LOCALHOST));
    for error in [trace::<Hopeless>(), trace::<Untagged>(), trace::<Endless>()] {
        let Untraceable { type_name, reason } = error.expect_err("it has no schema");
        assert!(
            type_name.starts_with("flott_schema::tests::") && !reason.is_empty(),
            "{type_name}: {reason}"
        );
    }
}

/// Of types whose JSON is another than what compact formats get.
fn check_decodes_compact<T: Serialize + DeserializeOwned>(value: &T) {
    let bytes = postcard::to_allocvec(value).expect("encoded");
    decode(&trace::<T>().expect("traced"), &bytes).expect("decoded");
}

#[test]
fn schemas_are_recorded_as_json_with_a_version() {
    let entries = [("flights".to_owned(), trace::<(u64, Flight)>().expect("traced"))].into();
    let record = StateSchemas { key_groups: (0, 8), entries };
    let bytes = record.encode().expect("encoded");
    assert_eq!(StateSchemas::decode(&bytes), Ok(Some(record)));
    assert_eq!(StateSchemas::decode(br#"{"version":2,"something":"else"}"#), Ok(None), "a later version");
    assert!(StateSchemas::decode(b"{").is_err());
    let deep = format!(
        r#"{{"version":1,"entries":{{"a":{}"bool"{}}}}}"#,
        r#"{"option":"#.repeat(5_000),
        "}".repeat(5_000)
    );
    assert!(StateSchemas::decode(deep.as_bytes()).is_err(), "hostile depth is refused");
}
