//! Keyed state as it lies in snapshots: schemas and entries.

use super::{cut, joined};
use flott_schema::{StateSchemas, Type, compatible, compatible_entry, decode_prefix, trace};
use flott_state::{
    GroupBytes, KeyedStateBackend, ListState, MapState, OperatorSnapshot, STATE_SCHEMAS, ValueState,
};
use flott_types::{KeyGroup, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A record of schemas; values of each of them in the rest; and each as the successor of each other.
pub(crate) fn schemas(bytes: &[u8]) {
    let (record, values) = cut(bytes);
    let Ok(Some(StateSchemas { entries, .. })) = StateSchemas::decode(record) else { return };
    let types: Vec<Type> = entries.into_values().take(8).collect();
    for ty in &types {
        drop(ty.to_string());
        drop(decode_prefix(ty, values));
        for new in &types {
            drop(compatible_entry(ty, new));
            if let Ok(migration) = compatible(ty, new) {
                drop(migration.decode_prefix::<Kept>(values));
                drop(migration.decode_prefix::<(u64, Kept)>(values));
            }
        }
    }
}

pub(crate) fn records() -> Vec<Vec<u8>> {
    let snapshot = written();
    let mut seeds = Vec::new();
    for record in snapshot.union.get(STATE_SCHEMAS).into_iter().flatten() {
        for groups in snapshot.keyed.values() {
            seeds.extend(
                groups.values().map(|group| joined(record, in_memory(group).get(1..).unwrap_or_default())),
            );
        }
    }
    seeds
}

fn in_memory(group: &GroupBytes) -> Vec<u8> {
    group.to_vec().expect("it is in memory")
}

/// What a program keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    name: String,
    number: u32,
    more: Option<Box<Kept>>,
    kind: Kind,
    by_key: BTreeMap<u8, Vec<i16>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    None,
    One(f32),
    Two { a: char, b: bool },
}

/// What a later version of it keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptLater {
    number: u64,
    #[serde(alias = "name")]
    title: String,
    added: Option<i8>,
    more: Option<Box<KeptLater>>,
    kind: Kind,
    by_key: BTreeMap<u16, Vec<i64>>,
}

fn backend() -> KeyedStateBackend<u64> {
    KeyedStateBackend::new(SubtaskIndex(0), 1, 1)
}

/// What the first version keeps.
pub(super) fn kept() -> Kept {
    let inner = Kept {
        name: "i".to_owned(),
        number: 1,
        more: None,
        kind: Kind::One(0.5),
        by_key: [(1, vec![2])].into(),
    };
    let kind = Kind::Two { a: 'x', b: true };
    Kept { name: "outer".to_owned(), number: 300, more: Some(Box::new(inner)), kind, by_key: BTreeMap::new() }
}

/// A snapshot of the first version.
fn written() -> OperatorSnapshot {
    let kept = kept();
    let mut backend = backend();
    for key in [1, 300] {
        backend.set_current_key(key);
        ValueState::new("value").set(&mut backend, kept.clone()).expect("set");
        ListState::new("list").add_all(&mut backend, [kept.clone(), kept.clone()]).expect("added");
        MapState::new("map").put(&mut backend, "k".to_owned(), kept.clone()).expect("put");
    }
    let mut snapshot = OperatorSnapshot::default();
    backend.snapshot(&mut snapshot).expect("written");
    snapshot
}

/// A record of schemas and the bytes of a key group, read as what both versions of a program keep.
pub(crate) fn restore(bytes: &[u8]) {
    let (record, group) = cut(bytes);
    let mut snapshot = OperatorSnapshot { max_parallelism: 1, ..OperatorSnapshot::default() };
    for name in ["value", "list", "map"] {
        snapshot.keyed.insert(name.to_owned(), [(KeyGroup(0), group.to_vec().into())].into());
    }
    if !record.is_empty() {
        snapshot.union.insert(STATE_SCHEMAS.to_owned(), vec![record.to_vec()]);
    }
    let mut backend = backend();
    if backend.restore(&snapshot).is_err() {
        return;
    }
    let read = contents(&mut backend);
    let mut written = OperatorSnapshot::default();
    backend.snapshot(&mut written).expect("written");
    let mut again = self::backend();
    again.restore(&written).expect("what was written is read");
    assert_eq!(contents(&mut again), read);
}

/// What both versions see; as text, since a number may be none.
fn contents(backend: &mut KeyedStateBackend<u64>) -> Vec<Option<String>> {
    let of_key = |key| {
        backend.set_current_key(key);
        let value = ValueState::<Kept>::new("value").get(backend).map(|value| format!("{value:?}")).ok();
        let list = ListState::<KeptLater>::new("list");
        let list = list.get(backend).map(|list| format!("{:?}", list.collect::<Vec<_>>())).ok();
        let map = MapState::<String, KeptLater>::new("map");
        let map = map.get(backend, "k").map(|value| format!("{value:?}")).ok();
        [value, list, map]
    };
    [1, 300].into_iter().flat_map(of_key).collect()
}

pub(crate) fn snapshots() -> Vec<Vec<u8>> {
    let snapshot = written();
    let record = snapshot.union.get(STATE_SCHEMAS).and_then(|records| records.first()).expect("recorded");
    let groups = snapshot.keyed.values().flat_map(|groups| groups.values()).map(in_memory);
    let later = StateSchemas {
        key_groups: (0, 1),
        entries: [("value".to_owned(), trace::<(u64, KeptLater)>().expect("traced"))].into(),
    };
    let later = later.encode().expect("encoded");
    groups.flat_map(|group| [joined(record, &group), joined(&[], &group), joined(&later, &group)]).collect()
}
