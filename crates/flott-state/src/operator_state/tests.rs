//! Operator state against models, across restarts at other parallelism and with damaged bytes.

use super::*;
use crate::testing::{assert_corruption_or_value, damaged};
use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// All subtasks of an operator.
fn new_subtasks(parallelism: u32) -> Vec<OperatorStateBackend> {
    (0..parallelism).map(SubtaskIndex).map(OperatorStateBackend::new).collect()
}

fn snapshot(backend: &OperatorStateBackend) -> OperatorSnapshot {
    let mut snapshot = OperatorSnapshot::default();
    backend.snapshot(&mut snapshot).unwrap();
    snapshot
}

fn restart(subtasks: &[OperatorStateBackend], parallelism: u32) -> Vec<OperatorStateBackend> {
    let parts: Vec<_> = subtasks.iter().map(snapshot).collect();
    let mut subtasks = new_subtasks(parallelism);
    for backend in &mut subtasks {
        let part = OperatorSnapshot::reassign(&parts, backend.subtask, parallelism).unwrap();
        backend.restore(&part).unwrap();
    }
    subtasks
}

#[derive(Clone, Debug)]
enum ListOp {
    Add(usize, u32),
    AddAll(usize, Vec<u32>),
    Update(usize, Vec<u32>),
    Clear(usize),
    Restart(u32),
}

#[derive(Clone, Debug)]
enum BroadcastOp {
    Put(u8, u32),
    Remove(u8),
    RetainBelow(u8),
    Clear,
    Restart(u32),
}

proptest! {
    #[test]
    fn lists_are_redistributed_without_loss(ops in vec(
        prop_oneof![
            4 => (any::<usize>(), any::<u32>()).prop_map(|(idx, entry)| ListOp::Add(idx, entry)),
            2 => (any::<usize>(), vec(any::<u32>(), 0..9)).prop_map(|(idx, all)| ListOp::AddAll(idx, all)),
            1 => (any::<usize>(), vec(any::<u32>(), 0..3)).prop_map(|(idx, all)| ListOp::Update(idx, all)),
            1 => any::<usize>().prop_map(ListOp::Clear),
            2 => (1_u32..6).prop_map(ListOp::Restart),
        ],
        1..40,
    )) {
        let state = OperatorListState::<u32>::new("list");
        let mut subtasks = new_subtasks(2);
        let mut models = vec![Vec::new(); 2];
        for op in ops {
            let n = models.len();
            match op {
                ListOp::Add(idx, entry) => {
                    state.add(&mut subtasks[idx % n], entry).unwrap();
                    models[idx % n].push(entry);
                }
                ListOp::AddAll(idx, entries) => {
                    state.add_all(&mut subtasks[idx % n], entries.clone()).unwrap();
                    models[idx % n].extend(entries);
                }
                ListOp::Update(idx, entries) => {
                    state.update(&mut subtasks[idx % n], entries.clone()).unwrap();
                    models[idx % n] = entries;
                }
                ListOp::Clear(idx) => {
                    state.clear(&mut subtasks[idx % n]).unwrap();
                    models[idx % n].clear();
                }
                ListOp::Restart(parallelism) => {
                    subtasks = restart(&subtasks, parallelism);
                    let mut dealt = vec![Vec::new(); parallelism as usize];
                    for (idx, entry) in models.concat().into_iter().enumerate() {
                        dealt[idx % parallelism as usize].push(entry);
                    }
                    models = dealt;
                }
            }
        }
        for (backend, model) in subtasks.iter().zip(&models) {
            prop_assert_eq!(state.get(backend).unwrap(), model);
        }
    }

    #[test]
    fn broadcast_state_does_what_a_map_on_each_subtask_does(ops in vec(
        prop_oneof![
            6 => any::<(u8, u32)>().prop_map(|(key, value)| BroadcastOp::Put(key % 8, value)),
            2 => (0_u8..8).prop_map(BroadcastOp::Remove),
            1 => (0_u8..8).prop_map(BroadcastOp::RetainBelow),
            1 => Just(BroadcastOp::Clear),
            2 => (1_u32..4).prop_map(BroadcastOp::Restart),
        ],
        1..40,
    )) {
        let state = BroadcastState::<u8, u32>::new("broadcast");
        let mut subtasks = new_subtasks(2);
        let mut model = BTreeMap::new();
        for op in ops {
            if let BroadcastOp::Restart(parallelism) = op {
                subtasks = restart(&subtasks, parallelism);
            }
            for backend in &mut subtasks {
                match op {
                    BroadcastOp::Put(key, value) => state.put(backend, key, value).unwrap(),
                    BroadcastOp::Remove(key) => {
                        prop_assert_eq!(state.remove(backend, &key).unwrap(), model.get(&key).copied());
                    }
                    BroadcastOp::RetainBelow(end) => state.retain(backend, |key, _| *key < end).unwrap(),
                    BroadcastOp::Clear => state.clear(backend).unwrap(),
                    BroadcastOp::Restart(_) => {}
                }
            }
            match op {
                BroadcastOp::Put(key, value) => drop(model.insert(key, value)),
                BroadcastOp::Remove(key) => drop(model.remove(&key)),
                BroadcastOp::RetainBelow(end) => model.retain(|key, _| *key < end),
                BroadcastOp::Clear => model.clear(),
                BroadcastOp::Restart(_) => {}
            }
            for backend in &subtasks {
                prop_assert!(state.iter(backend).unwrap().eq(&model));
                prop_assert_eq!(state.get(backend, &3).unwrap(), model.get(&3));
                prop_assert_eq!(state.contains(backend, &3).unwrap(), model.contains_key(&3));
                prop_assert_eq!(state.is_empty(backend).unwrap(), model.is_empty());
            }
        }
    }
}

#[test]
fn each_subtask_gets_the_whole_union_list() {
    let state = OperatorListState::<String>::union("union");
    let mut subtasks = new_subtasks(2);
    for (idx, backend) in subtasks.iter_mut().enumerate() {
        state.add_all(backend, [format!("{idx}a"), format!("{idx}b")]).unwrap();
    }
    let mut subtasks = restart(&subtasks, 3);
    for (idx, backend) in subtasks.iter_mut().enumerate() {
        assert_eq!(state.get(backend).unwrap(), ["0a", "0b", "1a", "1b"]);
        state.update(backend, vec![format!("{idx}c")]).unwrap();
    }
    assert_eq!(state.get(&restart(&subtasks, 1)[0]).unwrap(), ["0c", "1c", "2c"]);
}

#[test]
fn state_that_nobody_asks_for_survives_restarts_and_is_not_multiplied() {
    let list = OperatorListState::<u32>::new("list");
    let union = OperatorListState::<u32>::union("union");
    let broadcast = BroadcastState::<String, u32>::new("broadcast");
    let mut subtasks = new_subtasks(1);
    list.add_all(&mut subtasks[0], 0..10).unwrap();
    union.add_all(&mut subtasks[0], 0..10).unwrap();
    broadcast.put(&mut subtasks[0], "a".to_owned(), 1).unwrap();
    for parallelism in [3, 2, 4, 1] {
        subtasks = restart(&subtasks, parallelism);
    }
    let mut entries = list.get(&subtasks[0]).unwrap().to_vec();
    entries.sort_unstable();
    assert!(entries.into_iter().eq(0..10));
    assert!(union.get(&subtasks[0]).unwrap().iter().copied().eq(0..10));
    assert_eq!(broadcast.get(&subtasks[0], "a").unwrap(), Some(&1));
}

#[test]
fn reading_what_is_not_there_leaves_nothing_behind() {
    let backend = OperatorStateBackend::new(SubtaskIndex(0));
    assert_eq!(OperatorListState::<u32>::new("list").get(&backend).unwrap(), &[] as &[u32]);
    assert_eq!(OperatorListState::<u32>::union("union").get(&backend).unwrap(), &[] as &[u32]);
    assert!(BroadcastState::<u32, u32>::new("broadcast").is_empty(&backend).unwrap());
    assert_eq!(snapshot(&backend), OperatorSnapshot::default());
}

#[test]
fn the_state_of_the_engine_is_left_alone() {
    let mut part = OperatorSnapshot::default();
    part.union.insert("_watermark".to_owned(), vec![vec![1]]);
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    backend.restore(&part).unwrap();
    assert_eq!(snapshot(&backend), OperatorSnapshot::default());
}

#[test]
fn a_handle_finds_its_state_in_each_backend_it_is_used_with() {
    let (a, b) = (OperatorListState::<u32>::new("a"), OperatorListState::<u32>::new("b"));
    let mut subtasks = new_subtasks(2);
    a.add(&mut subtasks[0], 1).unwrap();
    b.add(&mut subtasks[0], 2).unwrap();
    b.add(&mut subtasks[1], 3).unwrap();
    assert_eq!(a.get(&subtasks[1]).unwrap(), &[] as &[u32]);
    assert_eq!([&subtasks[0], &subtasks[1]].map(|backend| b.get(backend).unwrap()), [&[2], &[3]]);
    assert_eq!(a.get(&subtasks[0]).unwrap(), [1]);
    fn text<H: Clone + Send + Sync + fmt::Debug>(handle: &H) -> String {
        format!("{:?}", handle.clone())
    }
    let lines = [text(&a), text(&BroadcastState::<u8, u8>::new("c"))];
    expect![[r#"
        OperatorListState(ListBinding { name: "a", distribution: List })
        BroadcastState("c")"#]]
    .assert_eq(&lines.join("\n"));
}

#[track_caller]
fn check_error<T>(result: Result<T>, kind: ErrorKind, expected: &Expect) {
    let error = result.err().expect("an error");
    expected.assert_eq(&error.report());
    assert_eq!(error.kind(), kind);
}

#[test]
fn one_name_for_two_states_is_an_error() {
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    let user = ErrorKind::UserError;
    OperatorListState::<u32>::new("x").add(&mut backend, 300).unwrap();
    check_error(
        OperatorListState::<String>::new("x").get(&backend),
        user,
        &expect!["two operator states of different types have the name 'x'"],
    );
    check_error(
        OperatorListState::<String>::new("x").clear(&mut backend),
        user,
        &expect!["two operator states of different types have the name 'x'"],
    );
    check_error(
        OperatorListState::<u32>::union("x").get(&backend),
        user,
        &expect!["the list state 'x' is used as union list state"],
    );
    check_error(
        BroadcastState::<u32, u32>::new("x").get(&backend, &1),
        user,
        &expect!["the list state 'x' is used as broadcast state"],
    );
    let reserved = OperatorListState::<u32>::new("_x");
    check_error(
        reserved.add(&mut backend, 1),
        user,
        &expect!["the state name '_x' starts with '_', which the engine uses itself"],
    );
    let restored = restart(&[backend], 1).remove(0);
    check_error(
        OperatorListState::<String>::new("x").get(&restored),
        user,
        &expect![
            "restoring operator state 'x': the type of state 'x' has changed: field 'value' was u32 and is string"
        ],
    );
    assert_eq!(OperatorListState::<u32>::new("x").get(&restored).unwrap(), [300]);
}

#[test]
fn two_states_of_one_name_in_a_snapshot_are_corruption() {
    let mut part = OperatorSnapshot::default();
    part.list.insert("x".to_owned(), Vec::new());
    part.broadcast.insert("x".to_owned(), vec![0]);
    let restored = OperatorStateBackend::new(SubtaskIndex(0)).restore(&part);
    check_error(restored, ErrorKind::Corruption, &expect!["the snapshot has two operator states 'x'"]);
}

#[test]
fn damaged_bytes_are_an_error_or_other_state() {
    let list = OperatorListState::<(String, Option<u32>)>::new("list");
    let broadcast = BroadcastState::<String, Vec<u32>>::new("broadcast");
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    list.add(&mut backend, ("an entry".to_owned(), Some(300))).unwrap();
    broadcast.put(&mut backend, "a key".to_owned(), vec![1, 2, 300]).unwrap();
    let intact = snapshot(&backend);
    let restored = |part: &OperatorSnapshot| {
        let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
        backend.restore(part).unwrap();
        backend
    };
    for bytes in damaged(&intact.list["list"][0]) {
        let mut part = intact.clone();
        part.list.get_mut("list").unwrap()[0] = bytes;
        assert_corruption_or_value(list.get(&restored(&part)));
        assert_corruption_or_value(list.clear(&mut restored(&part)));
    }
    for bytes in damaged(&intact.broadcast["broadcast"]) {
        let mut part = intact.clone();
        part.broadcast.insert("broadcast".to_owned(), bytes);
        assert_corruption_or_value(broadcast.get(&restored(&part), "a key"));
        assert_corruption_or_value(broadcast.clear(&mut restored(&part)));
    }
}
