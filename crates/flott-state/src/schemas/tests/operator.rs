//! List, union and broadcast state, what operators keep for themselves, and records in flight, of types that have changed.

use super::*;
use crate::in_flight::{
    IN_FLIGHT, InFlightChannel, InFlightEdge, InFlightElement, InFlightLayout, Routing, decode_parts,
    decode_records, encode_element, encode_layout, record_schema,
};
use crate::operator_state::{BroadcastState, OperatorListState, OperatorStateBackend};
use crate::schemas::{HandleTypes, StateTypes};
use expect_test::{Expect, expect};
use flott_types::{Data, OperatorUid, RecordBatch, StreamElement, Watermark};
use serde::{Deserialize, Serialize};

mod v1 {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Rule {
        pub(super) name: String,
        pub(super) limit: u16,
        pub(super) scopes: Vec<Scope>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Scope {
        pub(super) country: String,
        pub(super) weight: f32,
    }
}

mod v2 {
    use super::*;
    /// Renamed, widened, added; also inside.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Rule {
        pub(super) note: Option<String>,
        #[serde(alias = "name")]
        pub(super) title: String,
        pub(super) limit: u64,
        pub(super) scopes: Vec<Scope>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Scope {
        pub(super) weight: f64,
        pub(super) country: String,
        #[serde(default)]
        pub(super) is_new: bool,
    }
}

/// As long as the first in bytes for many values, and something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Other {
    name: String,
    limit: i16,
    scopes: Vec<v1::Scope>,
}

fn old(n: u16) -> v1::Rule {
    let scope = v1::Scope { country: format!("c{n}"), weight: 0.5 };
    v1::Rule { name: format!("rule {n}"), limit: n, scopes: vec![scope; usize::from(n % 3)] }
}

fn new(n: u16) -> v2::Rule {
    let v1::Rule { name, limit, scopes } = old(n);
    let scope = |v1::Scope { country, weight }| v2::Scope { weight: weight.into(), country, is_new: false };
    v2::Rule { note: None, title: name, limit: limit.into(), scopes: scopes.into_iter().map(scope).collect() }
}

/// One handle of each kind.
#[derive(Clone)]
struct Handles<T> {
    list: OperatorListState<T>,
    union: OperatorListState<T>,
    broadcast: BroadcastState<String, T>,
}

impl<T: Data> Handles<T> {
    fn new() -> Self {
        Self {
            list: OperatorListState::new("list"),
            union: OperatorListState::union("union"),
            broadcast: BroadcastState::new("broadcast"),
        }
    }

    fn types() -> StateTypes {
        let mut types = StateTypes::default();
        types.add_operator_handles(&HandleTypes::of(Self::new).1);
        types
    }
}

fn snapshot(backend: &OperatorStateBackend) -> OperatorSnapshot {
    let mut snapshot = OperatorSnapshot::default();
    backend.snapshot(&mut snapshot).expect("written");
    snapshot
}

fn restored(parts: &[OperatorSnapshot], parallelism: u32) -> Vec<OperatorStateBackend> {
    let restore = |subtask| {
        let part = OperatorSnapshot::reassign(parts, subtask, parallelism).expect("the parts fit");
        let mut backend = OperatorStateBackend::new(subtask);
        backend.restore(&part).expect("nothing is read yet");
        backend
    };
    (0..parallelism).map(SubtaskIndex).map(restore).collect()
}

/// What two subtasks of the old program leave.
fn parts_of_old() -> Vec<OperatorSnapshot> {
    let handles = Handles::<v1::Rule>::new();
    let write = |subtask: u32| {
        let mut backend = OperatorStateBackend::new(SubtaskIndex(subtask));
        let own = (0..6).filter(|n| u32::from(*n) % 2 == subtask);
        handles.list.add_all(&mut backend, own.clone().map(old)).expect("added");
        handles.union.add_all(&mut backend, own.map(|n| old(n + 100))).expect("added");
        (200..203).for_each(|n| handles.broadcast.put(&mut backend, n.to_string(), old(n)).expect("put"));
        snapshot(&backend)
    };
    (0..2).map(write).collect()
}

#[test]
fn every_kind_is_read_as_the_new_type_at_any_parallelism_also_what_was_left_once() {
    let handles = Handles::<v2::Rule>::new();
    for between in 1..=3 {
        // The new program has read the state in its first subtask only, when it is restored again.
        let mut subtasks = restored(&parts_of_old(), between);
        let first = &mut subtasks[0];
        assert!(!handles.list.get(first).expect("read").is_empty());
        let unions = handles.union.get(first).expect("read").to_vec();
        handles.union.update(first, unions).expect("written");
        handles.broadcast.retain(first, |_, _| true).expect("written");
        let mixed: Vec<_> = subtasks.iter().map(snapshot).collect();
        for parallelism in 1..=3 {
            let subtasks = restored(&mixed, parallelism);
            let mut lists: Vec<_> = subtasks
                .iter()
                .flat_map(|backend| handles.list.get(backend).expect("read").to_vec())
                .collect();
            lists.sort_by_key(|rule| rule.limit);
            assert_eq!(lists, (0..6).map(new).collect::<Vec<_>>());
            for backend in &subtasks {
                let mut unions = handles.union.get(backend).expect("read").to_vec();
                unions.sort_by_key(|rule| rule.limit);
                assert_eq!(unions, (100..106).map(new).collect::<Vec<_>>());
                let broadcast: Vec<_> = handles.broadcast.iter(backend).expect("read").collect();
                let names: Vec<_> = (200..203).map(|n| (n.to_string(), new(n))).collect();
                assert!(broadcast.into_iter().eq(names.iter().map(|(name, rule)| (name, rule))));
            }
        }
    }
}

#[track_caller]
fn check_fit(types: &StateTypes, parts: &[OperatorSnapshot], expected: &Expect) {
    let fit = types.compare(parts).expect("it can be compared");
    let refused = fit.refused.iter().map(|reason| format!("refused: {reason}"));
    let migrated = fit.migrated.iter().map(|(name, changes)| {
        format!("migrated: {name}: {}", changes.iter().map(String::as_str).collect::<Vec<_>>().join("; "))
    });
    let unclaimed = fit.unclaimed.iter().map(|name| format!("unclaimed: {name}"));
    expected.assert_eq(&refused.chain(migrated).chain(unclaimed).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_becomes_of_each_kind_is_known_before_anything_is_read() {
    let parts = parts_of_old();
    check_fit(&Handles::<v1::Rule>::types(), &parts, &expect![""]);
    check_fit(
        &Handles::<v2::Rule>::types(),
        &parts,
        &expect![[r#"
            migrated: broadcast: field '{}.limit' is widened from u16 to u64; field '{}.name' is renamed to 'title'; field '{}.note' is added; field '{}.scopes[].is_new' is added; field '{}.scopes[].weight' has another place; field '{}.scopes[].weight' is widened from f32 to f64
            migrated: list: field 'limit' is widened from u16 to u64; field 'name' is renamed to 'title'; field 'note' is added; field 'scopes[].is_new' is added; field 'scopes[].weight' has another place; field 'scopes[].weight' is widened from f32 to f64
            migrated: union: field 'limit' is widened from u16 to u64; field 'name' is renamed to 'title'; field 'note' is added; field 'scopes[].is_new' is added; field 'scopes[].weight' has another place; field 'scopes[].weight' is widened from f32 to f64"#]],
    );
    check_fit(
        &Handles::<Other>::types(),
        &parts,
        &expect![[r#"
            refused: the type of state 'broadcast' has changed: field '{}.limit' was u16 and is i16
            refused: the type of state 'list' has changed: field 'limit' was u16 and is i16
            refused: the type of state 'union' has changed: field 'limit' was u16 and is i16"#]],
    );
    // An operator that keeps no such state any more.
    check_fit(
        &StateTypes::default(),
        &parts,
        &expect![[r#"
            unclaimed: broadcast
            unclaimed: list
            unclaimed: union"#]],
    );
    let ((), swapped) = HandleTypes::of(|| {
        drop(OperatorListState::<v1::Rule>::union("list"));
        drop(OperatorListState::<v1::Rule>::new("broadcast"));
    });
    let mut types = StateTypes::default();
    types.add_operator_handles(&swapped);
    check_fit(
        &types,
        &parts,
        &expect![[r#"
            refused: the broadcast state 'broadcast' is used as list state
            refused: the list state 'list' is used as union list state"#]],
    );
}

/// A handle that nobody heard of before: it is compared when it is used.
#[test]
fn a_type_that_does_not_fit_is_never_misread() {
    let handles = Handles::<Other>::new();
    for backend in &mut restored(&parts_of_old(), 2) {
        let reports = [
            report(handles.list.get(backend)),
            report(handles.union.clear(backend)),
            report(handles.broadcast.get(backend, "200")),
        ];
        expect![[r#"
            restoring operator state 'list': the type of state 'list' has changed: field 'limit' was u16 and is i16
            restoring operator state 'union': the type of state 'union' has changed: field 'limit' was u16 and is i16
            restoring operator state 'broadcast': the type of state 'broadcast' has changed: field '{}.limit' was u16 and is i16"#]]
        .assert_eq(&reports.join("\n"));
        // It is still there for whoever reads it as what it is.
        assert!(!Handles::<v1::Rule>::new().list.get(backend).expect("read").is_empty());
    }
}

#[test]
fn what_has_no_entry_may_become_anything_and_what_has_no_schema_is_read_as_ever() {
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    let handles = Handles::<v1::Rule>::new();
    handles.list.update(&mut backend, Vec::new()).expect("written");
    handles.broadcast.clear(&mut backend).expect("written");
    let empty = snapshot(&backend);
    check_fit(&Handles::<Other>::types(), std::slice::from_ref(&empty), &expect![""]);
    let backend = &mut restored(&[empty], 1)[0];
    let others = Handles::<Other>::new();
    assert!(others.list.get(backend).expect("read").is_empty());
    assert!(others.broadcast.is_empty(backend).expect("read"));
    // As before version 4 of the format.
    let mut parts = parts_of_old();
    parts.iter_mut().for_each(|part| part.schemas = Default::default());
    check_fit(&Handles::<v1::Rule>::types(), &parts, &expect![""]);
    let lists = restored(&parts, 1)
        .iter()
        .map(|backend| handles.list.get(backend).expect("read").len())
        .sum::<usize>();
    assert_eq!(lists, 6);
}

#[test]
fn what_an_operator_keeps_for_itself_is_read_as_the_new_type() {
    let mut part = OperatorSnapshot::default();
    part.put_list::<(v1::Rule, i64), _>("_calls", [(&old(1), 5), (&old(2), 6)]).expect("written");
    let mut types = StateTypes::default();
    types.add_list::<(v2::Rule, i64)>("_calls");
    assert_eq!(types.compare([&part]).expect("compared").migrated.keys().collect::<Vec<_>>(), ["_calls"]);
    assert_eq!(part.get_list::<(v2::Rule, i64)>("_calls").expect("read"), [(new(1), 5), (new(2), 6)]);
    let mut types = StateTypes::default();
    types.add_list::<(Other, i64)>("_calls");
    check_fit(
        &types,
        &[part.clone()],
        &expect!["refused: the type of state '_calls' has changed: field '0.limit' was u16 and is i16"],
    );
    expect!["the type of state '_calls' has changed: field '0.limit' was u16 and is i16"]
        .assert_eq(&report(part.get_list::<(Other, i64)>("_calls")));
}

/// Their enumerator has some that were not assigned, and nobody knows which.
#[test]
fn splits_of_a_source_may_not_change_at_all() {
    let mut part = OperatorSnapshot::default();
    part.list.insert("_splits".to_owned(), vec![vec![1, 2, 3]]);
    part.describe_list::<v1::Scope>("_splits");
    let parts = [part];
    let check = |types: fn(&mut StateTypes), expected: Expect| {
        let mut known = StateTypes::default();
        types(&mut known);
        check_fit(&known, &parts, &expected);
    };
    check(|types| types.add_splits::<v1::Scope>("_splits"), expect![""]);
    check(
        |types| types.add_splits::<v2::Scope>("_splits"),
        expect![
            "refused: the type of state '_splits' has changed, which splits of a source may not: field 'is_new' is added, field 'weight' has another place, field 'weight' is widened from f32 to f64"
        ],
    );
    check(
        |types| types.add_splits::<v1::Rule>("_splits"),
        expect![
            "refused: the type of state '_splits' has changed: field 'country' was removed; if it was renamed, the new field needs #[serde(alias = \"…\")] with the old name"
        ],
    );
}

fn edge(input: u32) -> InFlightEdge {
    InFlightEdge {
        source: OperatorUid("rules".to_owned()),
        target: OperatorUid("match".to_owned()),
        input,
        side: None,
        ordinal: 0,
        routing: Routing::Any,
    }
}

/// Rules in flight on the first input, numbers on the second.
fn in_flight() -> OperatorSnapshot {
    let channel =
        |edge| InFlightChannel { edge, producer: SubtaskIndex(0), watermark: Watermark::MIN, is_idle: false };
    let layout = InFlightLayout {
        subtask: SubtaskIndex(0),
        parallelism: 1,
        max_parallelism: 16,
        edges: vec![edge(0), edge(1)],
        channels: vec![channel(0), channel(1)],
    };
    let rules = StreamElement::Records(RecordBatch::untimed((1..4).map(old).collect()));
    let numbers = StreamElement::Records(RecordBatch::untimed(vec![7_u32, 8]));
    let elements = [encode_element(0, &rules), encode_element(1, &numbers), encode_element(0, &rules)];
    let mut entries =
        vec![encode_layout(layout, &[record_schema::<v1::Rule>(), record_schema::<u32>()]).expect("written")];
    entries.extend(elements.into_iter().map(|element| element.expect("written").expect("it is a batch")));
    OperatorSnapshot { list: [(IN_FLIGHT.to_owned(), entries)].into(), ..OperatorSnapshot::default() }
}

#[test]
fn records_in_flight_are_read_as_the_new_type_or_refused() {
    let part = in_flight();
    let types = |add: fn(&mut StateTypes)| {
        let mut types = StateTypes::default();
        add(&mut types);
        types
    };
    let parts = [part];
    check_fit(
        &types(|types| {
            types.add_input::<v1::Rule>();
            types.add_input::<u64>();
        }),
        &parts,
        &expect!["migrated: _in_flight: field 'value' is widened from u32 to u64"],
    );
    check_fit(
        &types(|types| {
            types.add_input::<Other>();
            types.add_input::<u16>();
        }),
        &parts,
        &expect![[r#"
            refused: the type of the records in flight from 'rules' to 'match' (second input) has changed: field 'value' was u32 and is u16
            refused: the type of the records in flight from 'rules' to 'match' has changed: field 'limit' was u16 and is i16"#]],
    );
    let entries = &parts[0].list[IN_FLIGHT];
    let decoded = decode_parts(entries).expect("whole");
    let [of_subtask] = decoded.as_slice() else { panic!("{decoded:?}") };
    let records = of_subtask.elements.iter().map(|(channel, element)| match element {
        InFlightElement::Records(bytes) => (*channel, *bytes, of_subtask.schema_of(*channel)),
        other => panic!("{other:?}"),
    });
    for (channel, bytes, written) in records {
        if channel == 0 {
            let batch = decode_records::<v2::Rule>(bytes, written).expect("read");
            assert_eq!(batch.records(), (1..4).map(new).collect::<Vec<_>>());
            expect!["the type of state 'records in flight' has changed: field '[].limit' was u16 and is i16"]
                .assert_eq(&report(decode_records::<Other>(bytes, written)));
        } else {
            let batch = decode_records::<i64>(bytes, written).expect("read");
            assert_eq!(batch.records(), [7, 8]);
        }
    }
}
