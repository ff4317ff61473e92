//! Damaged bytes of keyed state are an error or read as something else; they never panic.

use crate::testing::{Subtasks, assert_corruption_or_value, damaged};
use crate::{
    AggregatingState, KeyedStateBackend, ListState, MapState, OperatorSnapshot, ReducingState,
    StateTtlConfig, ValueState,
};
use flott_types::{ErrorKind, Result, SubtaskIndex};
use std::time::Duration;

const MAX_PARALLELISM: u32 = 64;

fn written(write: impl Fn(&mut KeyedStateBackend<u64>, u64)) -> OperatorSnapshot {
    let mut subtasks = Subtasks::new(1, MAX_PARALLELISM);
    subtasks.now = 1_700_000_000_000;
    (0..3).for_each(|key| write(subtasks.at(key), key));
    subtasks.snapshots().remove(0)
}

fn restored(snapshot: &OperatorSnapshot) -> Result<KeyedStateBackend<u64>> {
    let mut backend = KeyedStateBackend::new(SubtaskIndex(0), 1, MAX_PARALLELISM);
    backend.restore(snapshot)?;
    backend.set_processing_time(1_700_000_000_000);
    Ok(backend)
}

fn check(
    write: impl Fn(&mut KeyedStateBackend<u64>, u64),
    read: impl Fn(&mut KeyedStateBackend<u64>) -> Result<()>,
) {
    let intact = written(write);
    let read = |snapshot: &OperatorSnapshot| -> Result<()> {
        let mut backend = restored(snapshot).unwrap();
        for key in 0..3 {
            backend.set_current_key(key);
            read(&mut backend)?;
        }
        Ok(())
    };
    read(&intact).unwrap();
    let groups = intact.keyed.values().next().unwrap();
    for (group, bytes) in groups {
        let bytes = bytes.to_vec().unwrap();
        for damaged in damaged(&bytes) {
            let mut snapshot = intact.clone();
            let same_kind = damaged.first() == bytes.first();
            snapshot.keyed.values_mut().next().unwrap().insert(*group, damaged.into());
            match read(&snapshot) {
                // The first byte may have become that of another kind of state.
                Err(error) if !same_kind => {
                    assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::UserError));
                }
                result => assert_corruption_or_value(result),
            }
        }
    }
}

#[test]
fn of_a_value() {
    let state = || ValueState::<(String, Option<f64>)>::new("value");
    check(
        |store, key| state().set(store, (format!("value {key}"), Some(0.5))).unwrap(),
        |store| state().get(store).map(drop),
    );
}

#[test]
fn of_a_list_with_time_to_live() {
    let state = || ListState::<Vec<u16>>::new("list").with_ttl(StateTtlConfig::new(Duration::from_secs(1)));
    check(
        |store, key| state().add_all(store, [vec![1, 2, 1000], vec![key as u16]]).unwrap(),
        |store| state().get(store).map(drop),
    );
}

#[test]
fn of_a_map() {
    let state = || MapState::<String, bool>::new("map");
    check(
        |store, key| (0..2).for_each(|i| state().put(store, format!("{key}{i}"), true).unwrap()),
        |store| state().iter(store).map(drop),
    );
}

#[test]
fn of_reducing_and_aggregating_state() {
    let reducing = || ReducingState::<u64>::new("reducing", |a, b| a + b);
    check(|store, key| reducing().add(store, key << 40).unwrap(), |store| reducing().get(store).map(drop));
    let aggregating = || AggregatingState::new("aggregating", Vec::<char>::new, Vec::push, Vec::len);
    check(|store, _| aggregating().add(store, 'ß').unwrap(), |store| aggregating().get(store).map(drop));
}

#[test]
fn a_key_group_that_belongs_elsewhere_is_corruption() {
    let state = ValueState::<u32>::new("value");
    let whole = written(|store, key| state.set(store, key as u32).unwrap());
    let mut backend = KeyedStateBackend::<u64>::new(SubtaskIndex(0), 64, MAX_PARALLELISM);
    assert_eq!(backend.restore(&whole).unwrap_err().kind(), ErrorKind::Corruption, "not this subtask's");

    let mut swapped = whole.clone();
    let groups = swapped.keyed.get_mut("value").unwrap();
    let (first, second) = (*groups.keys().next().unwrap(), *groups.keys().nth(1).unwrap());
    let (a, b) = (groups[&first].clone(), groups[&second].clone());
    groups.extend([(first, b), (second, a)]);
    let mut backend = restored(&swapped).unwrap();
    backend.set_current_key(0);
    let error = state.get(&mut backend).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "a key in another key group");
    assert!(error.report().contains("was found in key group"), "{}", error.report());
}

#[test]
fn another_number_of_key_groups_is_refused_with_advice() {
    let whole = written(|_, _| {});
    let mut backend = KeyedStateBackend::<u64>::new(SubtaskIndex(0), 1, 32);
    let error = backend.restore(&whole).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError);
    expect_test::expect!["the snapshot has 64 key groups, the job 32: set pipeline.max-parallelism to 64"]
        .assert_eq(&error.report());
}
