//! Entries as rows and columns, without a snapshot around them.

use super::rows::{Layout, Row, decode_entries};
use flott_checkpoint::{Scope, StateKind};
use flott_schema::{Type, trace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// As `flott-state` stores an element.
#[derive(Serialize, Deserialize)]
struct Stored<V> {
    value: V,
    used_at: Option<i64>,
}

fn stored<V>(value: V, used_at: Option<i64>) -> Stored<V> {
    Stored { value, used_at }
}

/// The rows of a key group with these entries.
fn rows<E: Serialize + DeserializeOwned>(name: &str, kind: StateKind, entries: &[E]) -> (Layout, Vec<Row>) {
    let ty = trace::<E>().expect("traced");
    let layout = Layout::new(Scope::Keyed, kind, &ty).expect("it fits");
    let mut bytes = if name.starts_with('_') { vec![] } else { vec![1] };
    for entry in entries {
        bytes.extend(postcard_bytes(entry));
    }
    let mut rows = Vec::new();
    decode_entries(name, &ty, &bytes.into(), |entry| {
        layout.rows(3, entry, |row| {
            rows.push(row);
            Ok(())
        })
    })
    .expect("decoded");
    (layout, rows)
}

/// What the engine writes, which this crate only reads.
fn postcard_bytes<E: Serialize>(entry: &E) -> Vec<u8> {
    flott_state::encode("an entry", entry).expect("encoded")
}

fn lines(rows: &[Row]) -> String {
    rows.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect()
}

#[derive(Clone, Serialize, Deserialize)]
struct Position {
    amount: i64,
    tags: Vec<String>,
    side: Side,
    limits: BTreeMap<u8, f64>,
    more: Option<Box<Position>>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Side {
    Buy,
    Sell(u128),
}

fn position() -> Position {
    let inner = Position { amount: -1, tags: vec![], side: Side::Buy, limits: BTreeMap::new(), more: None };
    Position {
        amount: 7,
        tags: vec!["a".to_owned()],
        side: Side::Sell(u128::MAX),
        limits: [(1, 0.5)].into(),
        more: Some(Box::new(inner)),
    }
}

#[test]
fn every_kind_of_keyed_state_has_its_columns() {
    let value =
        rows("v", StateKind::Value, &[(1_u64, stored("x", Some(5))), (2, stored("y", None))].map(owned)).1;
    let list =
        rows("l", StateKind::ListOfKey, &[("k".to_owned(), vec![stored(1_u8, None), stored(2, None)])]).1;
    let map: BTreeMap<char, Stored<bool>> = [('a', stored(true, Some(9))), ('b', stored(false, None))].into();
    let map = rows("m", StateKind::Map, &[((1_u8, 'x'), map)]).1;
    let timers = rows("_timers/event", StateKind::EventTimers, &[(1_000_i64, 7_u32, (0_i64, 100_i64))]).1;
    let windows = rows("_windows", StateKind::Windows, &[(7_u32, vec![1_u8])]).1;
    expect_test::expect![[r#"
        {"key_group":3,"key":1,"value":"x","last_used_ms":5}
        {"key_group":3,"key":2,"value":"y","last_used_ms":null}
        {"key_group":3,"key":"k","index":0,"value":1,"last_used_ms":null}
        {"key_group":3,"key":"k","index":1,"value":2,"last_used_ms":null}
        {"key_group":3,"key":[1,"x"],"map_key":"a","value":true,"last_used_ms":9}
        {"key_group":3,"key":[1,"x"],"map_key":"b","value":false,"last_used_ms":null}
        {"key_group":3,"key":7,"timestamp_ms":1000,"namespace":[0,100]}
        {"key_group":3,"key":7,"value":[1]}
    "#]]
    .assert_eq(&lines(&[value, list, map, timers, windows].concat()));
}

fn owned((key, stored): (u64, Stored<&str>)) -> (u64, Stored<String>) {
    (key, Stored { value: stored.value.to_owned(), used_at: stored.used_at })
}

#[test]
fn a_schema_of_another_kind_of_state_is_refused() {
    for (kind, ty) in [
        (StateKind::Value, trace::<(u64, u64)>()),
        (StateKind::Map, trace::<(u64, Vec<Stored<u8>>)>()),
        (StateKind::EventTimers, trace::<(i64, u64)>()),
        (StateKind::ListOfKey, Ok(Type::Unit)),
    ] {
        let error = Layout::new(Scope::Keyed, kind, &ty.expect("traced")).expect_err("refused");
        assert!(error.to_string().contains(&format!("is not that of {kind} state")), "{error}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn what_has_no_column_of_its_own_is_json_text() {
    use super::columns::{fitted, schema_of};
    let (layout, rows) = rows("v", StateKind::Value, &[(('k', 1_i128), stored(position(), None))]);
    let schema = schema_of(&layout);
    let columns: Vec<_> =
        schema.fields().iter().map(|field| format!("{}: {}\n", field.name(), field.data_type())).collect();
    expect_test::expect![[r#"
        key_group: UInt32
        key: Struct("0": non-null Utf8, "1": non-null Utf8)
        value: Utf8
        last_used_ms: Int64
    "#]]
    .assert_eq(&columns.concat());
    let fitted = fitted(&layout, rows[0].clone()).expect("fitted");
    expect_test::expect![[r#"
        {"key_group":3,"key":{"0":"k","1":"1"},"value":"{\"amount\":7,\"tags\":[\"a\"],\"side\":{\"Sell\":340282366920938463463374607431768211455},\"limits\":{\"1\":0.5},\"more\":{\"amount\":-1,\"tags\":[],\"side\":\"Buy\",\"limits\":{},\"more\":null}}","last_used_ms":null}
    "#]].assert_eq(&lines(&[fitted]));
}
