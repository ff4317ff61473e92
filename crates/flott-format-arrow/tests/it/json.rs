use crate::{check_alike, read_batches, read_rows, rows_of};
use flott_api::message::{DeserializationSchema, SerializationSchema};
use flott_format_arrow::schema::{DataType, Field, Fields, Schema, SchemaRef};
use flott_format_json::{DebeziumJsonFormat, JsonFormat};
use flott_types::RowChange;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    number: Option<i32>,
    small: i8,
    text: String,
    note: Option<String>,
    is_paid: bool,
    share: f64,
    list: Vec<Option<i64>>,
    names: Option<Vec<String>>,
    inner: Option<Inner>,
    map: BTreeMap<String, u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    a: String,
    b: Option<f32>,
}

fn schema() -> SchemaRef {
    let list = |item, nullable| DataType::List(Arc::new(Field::new("item", item, nullable)));
    let inner =
        Fields::from(vec![Field::new("a", DataType::Utf8, false), Field::new("b", DataType::Float32, true)]);
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::UInt16, false),
    ]);
    let entries = Arc::new(Field::new("entries", DataType::Struct(entries), false));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::UInt64, false),
        Field::new("number", DataType::Int32, true),
        Field::new("small", DataType::Int8, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("note", DataType::LargeUtf8, true),
        Field::new("is_paid", DataType::Boolean, false),
        Field::new("share", DataType::Float64, false),
        Field::new("list", list(DataType::Int64, true), false),
        Field::new("names", list(DataType::Utf8, false), true),
        Field::new("inner", DataType::Struct(inner), true),
        Field::new("map", DataType::Map(entries, false), false),
    ]))
}

prop_compose! {
    fn order()(
        (id, number, small, text, note, is_paid) in any::<(u64, Option<i32>, i8, String, Option<String>, bool)>(),
        share in -1e9..1e9,
        list in any::<Vec<Option<i64>>>(),
        names in any::<Option<Vec<String>>>(),
        inner in any::<Option<(String, Option<i16>)>>(),
        map in any::<BTreeMap<String, u16>>(),
    ) -> Order {
        let inner = inner.map(|(a, b)| Inner { a, b: b.map(f32::from) });
        Order { id, number, small, text, note, is_paid, share, list, names, inner, map }
    }
}

fn encoded(orders: &[Order]) -> Vec<Vec<u8>> {
    let mut encoder = JsonFormat::new().create_encoder().expect("an encoder");
    let encode = |order| {
        let mut message = Vec::new();
        encoder.encode(order, &mut message).expect("encoded");
        message
    };
    orders.iter().map(encode).collect()
}

/// A value that some column does not take.
fn other_value() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::json!(null)),
        Just(serde_json::json!("7")),
        Just(serde_json::json!(1.5)),
        Just(serde_json::json!(300)),
        Just(serde_json::json!(-1)),
        Just(serde_json::json!(true)),
        Just(serde_json::json!([1, null])),
        Just(serde_json::json!({"a": "x", "b": 1})),
        Just(serde_json::json!({"a": null})),
        Just(serde_json::json!({"k": 65_536})),
    ]
}

proptest! {
    #[test]
    fn the_rows_are_those_of_the_serde_type(orders in prop::collection::vec(order(), 0..20)) {
        check_alike::<Order>(&JsonFormat::new(), &JsonFormat::new().arrow(schema()), &encoded(&orders));
    }

    #[test]
    fn what_the_serde_type_refuses_is_refused(
        orders in prop::collection::vec((order(), 0..14_usize, other_value(), 0..4_u8), 1..20),
        fail_on_missing: bool,
        ignore_unknown: bool,
    ) {
        let change = |(message, (_, field, value, change)): (Vec<u8>, &(Order, usize, serde_json::Value, u8))| {
            let mut object: serde_json::Map<_, _> = serde_json::from_slice(&message).expect("an object");
            let name = schema().fields().get(*field).map_or("unknown", |field| field.name()).to_owned();
            match change {
                0 => drop(object.insert(name, value.clone())),
                1 => drop(object.remove(&name)),
                // Twice the same field.
                2 => return [&message[..message.len() - 1], b",\"id\":1}"].concat(),
                _ => {}
            }
            serde_json::to_vec(&object).expect("JSON")
        };
        let records: Vec<_> = orders.iter().map(|(order, ..)| order.clone()).collect();
        let messages: Vec<_> = encoded(&records).into_iter().zip(&orders).map(change).collect();
        let format = JsonFormat::new().fail_on_missing_field(fail_on_missing).ignore_unknown_fields(ignore_unknown);
        check_alike::<Order>(&format, &format.arrow(schema()), &messages);
    }

    #[test]
    fn damaged_messages_are_refused(orders in prop::collection::vec((order(), any::<prop::sample::Index>(), any::<u8>()), 1..10)) {
        let records: Vec<_> = orders.iter().map(|(order, ..)| order.clone()).collect();
        let mut messages = encoded(&records);
        for (message, (_, at, byte)) in messages.iter_mut().zip(&orders) {
            let at = at.index(message.len());
            message[at] = *byte;
        }
        check_alike::<Order>(&JsonFormat::new(), &JsonFormat::new().arrow(schema()), &messages);
    }
}

#[test]
fn it_says_what_is_wrong_as_rows_do() {
    let messages =
        [r#"{"id":1}"#, "", r#"{"id":"1"}"#, "[", r#"{"id":2,"id":2}"#].map(|text| text.as_bytes().to_vec());
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::UInt64, false)]));
    let read = read_batches(&JsonFormat::new().arrow(schema), &messages);
    assert_eq!(read.rows[0].num_rows(), 1);
    let expected = [
        (2, "field 'id': invalid type: string \"1\", expected u64, at column 9"),
        (3, "invalid type: sequence, expected an object, at column 0"),
        (4, "duplicate field `id`, at column 12"),
    ];
    let expected: Vec<_> = expected.iter().map(|(idx, why)| (*idx, (*why).to_owned())).collect();
    assert_eq!(read.malformed, expected);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    #[serde(flatten)]
    order: Order,
    row_kind: String,
}

/// How a change is said: an operation, which sides it has, and the order of its fields.
fn envelope(order: &Order, after: &Order, op: &str, swapped: bool, with_schema: bool) -> Vec<u8> {
    let side = |order: &Order| serde_json::to_string(order).expect("JSON");
    let (before, after) = (side(order), side(after));
    let (before, after) = match op {
        "c" | "r" => ("null".to_owned(), after),
        "d" => (before, "null".to_owned()),
        _ => (before, after),
    };
    let change = if swapped {
        format!(r#"{{"op":"{op}","source":{{"before":1}},"after":{after},"before":{before}}}"#)
    } else {
        format!(r#"{{"before":{before},"after":{after},"op":"{op}","ts_ms":5}}"#)
    };
    if with_schema { format!(r#"{{"schema":{{"op":1}},"payload":{change}}}"#) } else { change }.into_bytes()
}

proptest! {
    #[test]
    fn changes_are_those_of_the_serde_type(
        changes in prop::collection::vec(
            (order(), order(), prop::sample::select(vec!["c", "r", "u", "d", "m", "t", "?"]), any::<bool>(), any::<Option<(prop::sample::Index, u8)>>()),
            0..12,
        ),
        with_schema: bool,
    ) {
        let message = |(before, after, op, swapped, damage): &(Order, Order, &str, bool, Option<(prop::sample::Index, u8)>)| {
            let mut message = envelope(before, after, op, *swapped, with_schema);
            // Few are damaged, or there would be no good ones.
            if let Some((at, byte)) = damage && byte % 4 == 0 {
                let at = at.index(message.len());
                message[at] = *byte;
            }
            message
        };
        let mut messages: Vec<_> = changes.iter().map(message).collect();
        messages.extend([b"null".to_vec(), Vec::new()]);
        let format = DebeziumJsonFormat::new().schema_include(with_schema);
        let expected = read_rows::<RowChange<Order>>(&format, &messages);
        let found = read_batches(&format.arrow(schema()), &messages);
        let numbers = |malformed: &[(usize, String)]| malformed.iter().map(|(idx, _)| *idx).collect::<Vec<_>>();
        prop_assert_eq!(numbers(&found.malformed), numbers(&expected.malformed), "{:?} {:?}", found.malformed, expected.malformed);
        let kinds = |changes: &[RowChange<Order>]| changes.iter().map(|it| it.kind.short_string().to_owned()).collect::<Vec<_>>();
        let rows: Vec<Change> = rows_of(&found.rows);
        prop_assert_eq!(rows.iter().map(|it| it.row_kind.clone()).collect::<Vec<_>>(), kinds(&expected.rows));
        let orders: Vec<_> = rows.into_iter().map(|it| it.order).collect();
        prop_assert_eq!(orders, expected.rows.into_iter().map(|it| it.row).collect::<Vec<_>>());
    }
}

#[test]
fn changes_that_say_nothing_are_told_as_rows_are() {
    let id = || Arc::new(Schema::new(vec![Field::new("id", DataType::UInt64, false)]));
    let malformed = |format: DebeziumJsonFormat, text: &str| {
        read_batches(&format.arrow(id()), &[text.as_bytes().to_vec()]).malformed.remove(0).1
    };
    let plain = DebeziumJsonFormat::new();
    let why = malformed(plain, r#"{"after":{"id":"1"},"op":"c"}"#);
    assert_eq!(why, "field 'after.id': invalid type: string \"1\", expected u64, at column 18");
    assert!(
        malformed(plain, r#"{"before":null,"after":{"id":1},"op":"u"}"#).contains("REPLICA IDENTITY FULL")
    );
    assert!(malformed(plain, r#"{"payload":{}}"#).contains("schema_include(true)"));
    assert!(malformed(plain.schema_include(true), "{}").contains("leave schema_include off"));
    assert!(malformed(plain, r#"{"op":"c","op":"c"}"#).contains("duplicate field `op`"));

    let taken = Arc::new(Schema::new(vec![Field::new("row_kind", DataType::Utf8, false)]));
    let Err(error) = plain.arrow(taken).create_decoder() else { panic!("the name is taken") };
    assert!(error.report().contains("'row_kind'"), "{}", error.report());
}
