//! How a handle finds its state, and what it says if it cannot.

use crate::schemas::STATE_SCHEMAS;
use crate::testing::Subtasks;
use crate::{
    AggregatingState, KeyedStateBackend, KeyedTable, ListState, MapState, ReducingState, ValueState,
};
use expect_test::{Expect, expect};
use flott_types::{ErrorKind, Result, SubtaskIndex};

#[test]
fn states_are_told_apart_by_name_and_key() {
    let mut subtasks = Subtasks::new(1, 4);
    let (a, b) = (ValueState::<u32>::new("a"), ValueState::<u32>::new("b"));
    for key in 0..100 {
        a.set(subtasks.at(key), key as u32).unwrap();
        b.set(subtasks.at(key), key as u32 + 1000).unwrap();
    }
    for key in 0..100 {
        assert_eq!(a.get(subtasks.at(key)).unwrap(), Some(&(key as u32)));
        assert_eq!(b.get(subtasks.at(key)).unwrap(), Some(&(key as u32 + 1000)));
    }
    let also_a = ValueState::new(String::from("a"));
    assert_eq!(also_a.get(subtasks.at(3)).unwrap(), Some(&3_u32), "handles of one name share the state");
}

#[test]
fn a_handle_finds_its_state_in_each_backend_it_is_used_with() {
    let (mut one, mut other) = (Subtasks::new(1, 4), Subtasks::new(1, 4));
    let (a, b) = (ValueState::<u32>::new("a"), ValueState::<u32>::new("b"));
    a.set(one.at(1), 1).unwrap();
    b.set(one.at(1), 2).unwrap();
    b.set(other.at(1), 3).unwrap();
    assert_eq!(a.get(other.at(1)).unwrap(), None);
    assert_eq!(b.clone().get(other.at(1)).unwrap(), Some(&3));
    assert_eq!((a.get(one.at(1)).unwrap(), b.get(other.at(1)).unwrap()), (Some(&1), Some(&3)));
}

#[test]
fn empty_lists_and_maps_take_no_space() {
    let mut subtasks = Subtasks::new(1, 4);
    let (list, map) = (ListState::<u32>::new("list"), MapState::<u32, u32>::new("map"));
    let store = subtasks.at(1);
    list.add_all(store, []).unwrap();
    list.add(store, 1).unwrap();
    list.update(store, Vec::new()).unwrap();
    for emptying in 0..4 {
        map.put(store, 1, 1).unwrap();
        match emptying {
            0 => drop(map.remove(store, &1).unwrap()),
            1 => map.remove_range(store, ..).unwrap(),
            2 => map.retain(store, |_, _| false).unwrap(),
            _ => map.clear(store).unwrap(),
        }
        assert!(map.is_empty(store).unwrap());
    }
    let snapshot = subtasks.snapshots().remove(0);
    assert!(snapshot.keyed["list"].is_empty() && snapshot.keyed["map"].is_empty(), "{snapshot:?}");
}

#[test]
fn borrowed_keys_find_owned_ones() {
    let mut subtasks = Subtasks::new(1, 4);
    let map = MapState::<String, u32>::new("map");
    let store = subtasks.at(1);
    map.put(store, "a".to_owned(), 1).unwrap();
    assert_eq!(map.get(store, "a").unwrap(), Some(&1));
    assert!(map.contains(store, "a").unwrap());
    assert_eq!(map.remove(store, "a").unwrap(), Some(1));
}

#[test]
fn handles_can_be_shared_and_printed_whatever_they_store() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Opaque(std::cell::Cell<u32>);
    fn check<H: Clone + Send + Sync + std::fmt::Debug>(handle: H) -> String {
        format!("{:?}", handle.clone())
    }
    let lines = [
        check(ValueState::<Opaque>::new("a")),
        check(ListState::<Opaque>::new("b")),
        check(MapState::<u32, Opaque>::new("c")),
        check(ReducingState::<Opaque>::new("d", |first, _| first)),
        check(AggregatingState::new("e", || Opaque(0.into()), |_, _: Opaque| {}, Opaque::clone)),
    ];
    expect![[r#"
        ValueState(Binding { name: "a", kind: Value, ttl: None })
        ListState(Binding { name: "b", kind: List, ttl: None })
        MapState(Binding { name: "c", kind: Map, ttl: None })
        ReducingState(Binding { name: "d", kind: Reducing, ttl: None })
        AggregatingState(Binding { name: "e", kind: Aggregating, ttl: None })"#]]
    .assert_eq(&lines.join("\n"));
}

#[track_caller]
fn check_error<T>(result: Result<T>, expected: &Expect) {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::UserError, "{}", error.report());
    expected.assert_eq(&error.report());
}

#[test]
fn one_name_for_two_states_is_an_error() {
    let mut subtasks = Subtasks::new(1, 4);
    let store = subtasks.at(1);
    ValueState::new("x").set(store, 1_u32).unwrap();
    check_error(
        ValueState::<String>::new("x").get(store),
        &expect!["two states of different types have the name 'x'"],
    );
    check_error(
        ListState::new("x").add(store, 1_u32),
        &expect!["two states of different types have the name 'x'"],
    );
    check_error(
        ReducingState::<u32>::new("x", |a, _| a).get(store),
        &expect!["the value state 'x' is used as reducing state"],
    );
    assert_eq!(ValueState::new("x").get(store).unwrap(), Some(&1_u32));
}

#[test]
fn names_of_the_engine_are_refused() {
    let mut subtasks = Subtasks::new(1, 4);
    check_error(
        ValueState::<u32>::new("_timers/event").get(subtasks.at(1)),
        &expect!["the state name '_timers/event' starts with '_', which the engine uses itself"],
    );
}

#[test]
fn keyed_state_without_a_key_is_an_error() {
    let mut subtasks = Subtasks::new(1, 4);
    let state = ValueState::<u32>::new("x");
    check_error(
        state.get(&mut subtasks.backends[0]),
        &expect!["keyed state was used where no key is in scope"],
    );
    state.set(subtasks.at(1), 1).unwrap();
    subtasks.backends[0].clear_current_key();
    check_error(
        state.get(&mut subtasks.backends[0]),
        &expect!["keyed state was used where no key is in scope"],
    );
}

#[test]
fn restored_state_of_another_kind_is_an_error_and_is_kept() {
    let mut subtasks = Subtasks::new(1, 4);
    ValueState::new("x").set(subtasks.at(1), 1_u32).unwrap();
    subtasks.restart(1);
    check_error(
        MapState::<u32, u32>::new("x").get(subtasks.at(1), &1),
        &expect!["restoring state 'x': the snapshot has 'x' as value state, the program as map"],
    );
    assert_eq!(ValueState::new("x").get(subtasks.at(1)).unwrap(), Some(&1_u32));
}

#[test]
fn restored_state_of_another_type_is_refused() {
    let mut subtasks = Subtasks::new(1, 4);
    ValueState::new("x").set(subtasks.at(1), 300_u32).unwrap();
    subtasks.restart(1);
    check_error(
        ValueState::<String>::new("x").get(subtasks.at(1)),
        &expect![
            "restoring state 'x': the type of state 'x' has changed: field 'value' was u32 and is string"
        ],
    );
}

#[test]
fn restored_state_of_another_type_without_schema_is_corrupted() {
    let mut subtasks = Subtasks::new(1, 4);
    ValueState::new("x").set(subtasks.at(1), 300_u32).unwrap();
    let mut part = subtasks.snapshots().remove(0);
    part.union.remove(STATE_SCHEMAS);
    let mut subtasks = Subtasks::new(1, 4);
    subtasks.backends[0].restore(&part).unwrap();
    let error = ValueState::<String>::new("x").get(subtasks.at(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    expect!["restoring state 'x': cannot read x as (u64, flott_state::ttl::Stored<alloc::string::String>): Hit the end of buffer, expected more data"]
        .assert_eq(&error.report());
}

#[test]
fn state_of_other_operators_is_not_found_by_place() {
    let mut subtasks = Subtasks::new(1, 4);
    let error = subtasks.at(1).state::<KeyedTable<u64, u32>>(3).err().unwrap();
    expect!["a state handle was used with another operator than the one it was bound to"]
        .assert_eq(&error.report());
}

#[test]
fn tables_can_be_bound_as_they_are() {
    let mut backend = KeyedStateBackend::<u64>::new(SubtaskIndex(0), 1, 4);
    let place = backend.bind::<(u64, u32), _>("table", |_, _| Ok(KeyedTable::<u64, u32>::default())).unwrap();
    let hash = backend.set_current_key(7);
    let (table, scope, _) = backend.state::<KeyedTable<u64, u32>>(place).unwrap();
    table.insert(scope.hash, &scope.key, 1);
    assert_eq!(
        backend.bind::<(u64, u32), _>("table", |_, _| Ok(KeyedTable::<u64, u32>::default())).unwrap(),
        place
    );
    let (table, ..) = backend.state::<KeyedTable<u64, u32>>(place).unwrap();
    assert_eq!(table.get(hash, &7), Some(&1));
}
