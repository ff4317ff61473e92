use super::{decode, encode};
use crate::JsonFormat;
use expect_test::{Expect, expect};
use flott_api::message::SerializationSchema;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    note: Option<String>,
    #[serde(default)]
    lines: Vec<Line>,
    state: Option<State>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    article: String,
    price: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    New,
    Sent { by: Option<String> },
    Paid(Box<Line>),
}

fn check(format: JsonFormat, message: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&match decode::<Order>(&format, message) {
        Ok(orders) => format!("{orders:?}"),
        Err(why) => why,
    });
}

#[test]
fn a_message_is_a_value_and_what_is_wrong_is_told_with_its_place() {
    let check = |message: &str, expected| check(JsonFormat::new(), message, expected);
    check(
        r#" {"state":{"Sent":{"by":"b\u00fc"}},"id":7,"extra":[1,{"a":null}]} "#,
        expect![[r#"[Order { id: 7, note: None, lines: [], state: Some(Sent { by: Some("bü") }) }]"#]],
    );
    check("", expect!["[]"]);
    check(" ", expect!["EOF while parsing a value, at column 1"]);
    check(r#"{"id":-1}"#, expect!["field 'id': invalid value: integer `-1`, expected u64, at column 8"]);
    check(r#"{"note":"x"}"#, expect!["missing field `id`, at column 12"]);
    check(
        "{\"id\":1,\n\"lines\":[{\"article\":\"a\"},{\"article\":5}]}",
        expect![
            "field 'lines[1].article': invalid type: integer `5`, expected a string, at line 2 column 37"
        ],
    );
    check(r#"{"id":1} x"#, expect!["trailing characters, at column 10"]);
    check(r#"{"id":1"#, expect!["EOF while parsing an object, at column 7"]);
}

#[test]
fn a_message_that_is_not_utf_8_is_named_with_its_byte() {
    check(JsonFormat::new(), b"{\"id\":1,\"note\":\"\xff\"}", expect!["not UTF-8: byte 17 is no character"]);
}

#[test]
fn fields_that_lack_or_are_unknown_are_refused_at_any_depth_if_asked() {
    let missing = JsonFormat::new().fail_on_missing_field(true);
    let unknown = JsonFormat::new().ignore_unknown_fields(false);
    let whole = r#"{"id":1,"note":null,"lines":[{"article":"a","price":1}],"state":{"Paid":{"article":"b","price":null}}}"#;
    let order = expect![[
        r#"[Order { id: 1, note: None, lines: [Line { article: "a", price: Some(1.0) }], state: Some(Paid(Line { article: "b", price: None })) }]"#
    ]];
    check(missing.ignore_unknown_fields(false), whole, order);
    check(
        missing,
        r#"{"id":1,"lines":[],"state":null}"#,
        expect!["missing field `note` (fail_on_missing_field is on), at column 32"],
    );
    check(
        missing,
        r#"{"id":1,"note":null,"lines":[{"article":"a"}],"state":null}"#,
        expect!["field 'lines[0]': missing field `price` (fail_on_missing_field is on), at column 44"],
    );
    check(
        missing,
        r#"{"id":1,"note":null,"lines":[],"state":{"Sent":{}}}"#,
        expect!["field 'state.Sent': missing field `by` (fail_on_missing_field is on), at column 49"],
    );
    check(
        missing,
        r#"{"id":1,"note":null,"lines":[],"state":"New","more":1}"#,
        expect![[r#"[Order { id: 1, note: None, lines: [], state: Some(New) }]"#]],
    );
    check(
        unknown,
        r#"{"id":1,"lines":[{"article":"a","prize":{"x":[1]}}]}"#,
        expect![
            "field 'lines[0].prize': no such field in the record's type (ignore_unknown_fields is off), at column 40"
        ],
    );
    check(unknown, r#"{"id":1} x"#, expect!["trailing characters, at column 10"]);
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let formats = [
        JsonFormat::new(),
        JsonFormat::new().fail_on_missing_field(true),
        JsonFormat::new().ignore_unknown_fields(false),
    ];
    for open in ["[", "{\"a\":"] {
        let message = open.repeat(1_000_000);
        for format in formats {
            let why = decode::<Value>(&format, &message).unwrap_err();
            assert!(why.contains("recursion limit exceeded"), "{why}");
        }
        // What is left out is not gone into.
        let ignored = format!("{{\"id\":1,\"x\":{message}");
        let why = decode::<Order>(&JsonFormat::new(), &ignored).unwrap_err();
        assert!(why.contains("EOF"), "{why}");
    }
}

#[test]
fn null_fields_are_left_out_at_any_depth() {
    let format = JsonFormat::new().encode_ignore_null_fields(true);
    let order = Order {
        id: 1,
        note: Some("\"note\":null,\\".to_owned()),
        lines: vec![Line { article: "null".to_owned(), price: None }],
        state: Some(State::Sent { by: None }),
    };
    expect![[r#"{"id":1,"note":"\"note\":null,\\","lines":[{"article":"null"}],"state":{"Sent":{}}}"#]]
        .assert_eq(&encode(&format, &order));
    let rows = BTreeMap::from([("a", vec![None, Some(1)]), ("b", vec![])]);
    assert_eq!(encode(&format, &rows), r#"{"a":[null,1],"b":[]}"#);
}

#[test]
fn a_record_that_json_cannot_say_is_an_error() {
    let mut out = Vec::new();
    let mut encoder = SerializationSchema::create_encoder(&JsonFormat::new()).unwrap();
    let error = encoder.encode(&BTreeMap::from([((1, 2), 3)]), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "key must be a string");
}

/// Any JSON value.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// What leaving out fields that are null means.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn every_value_comes_back(value in values()) {
        let message = encode(&JsonFormat::new(), &value);
        let strict = JsonFormat::new().fail_on_missing_field(true).ignore_unknown_fields(false);
        prop_assert_eq!(decode(&JsonFormat::new(), &message), Ok(vec![value.clone()]));
        prop_assert_eq!(decode(&strict, &message), Ok(vec![value.clone()]));
        let short = encode(&JsonFormat::new().encode_ignore_null_fields(true), &value);
        prop_assert_eq!(decode(&JsonFormat::new(), &short), Ok(vec![without_nulls(value)]));
    }
}
