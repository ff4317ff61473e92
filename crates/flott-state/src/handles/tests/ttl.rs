//! Time to live: update type × visibility × cleanup, at explicit processing times.

use super::super::contents::StateTable;
use crate::testing::Subtasks;
use crate::ttl::Stored;
use crate::{GroupBytes, ListState, MapState, StateTtlConfig, TtlUpdate, TtlVisibility, ValueState};
use expect_test::{Expect, expect};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

const UPDATES: [TtlUpdate; 2] = [TtlUpdate::OnCreateAndWrite, TtlUpdate::OnReadAndWrite];
const VISIBILITIES: [TtlVisibility; 2] =
    [TtlVisibility::NeverReturnExpired, TtlVisibility::ReturnExpiredIfNotCleanedUp];

fn config(ttl_ms: u64) -> StateTtlConfig {
    StateTtlConfig::new(Duration::from_millis(ttl_ms))
}

/// Runs `program` under every combination and compares what it writes, one line for each.
fn check_matrix(program: impl Fn(StateTtlConfig, &mut Subtasks) -> String, expected: &Expect) {
    let mut actual = String::new();
    for update in UPDATES {
        for visibility in VISIBILITIES {
            for cleanup_entries in [0, 1000] {
                let config = config(10)
                    .update_type(update)
                    .visibility(visibility)
                    .cleanup_incrementally(cleanup_entries);
                let line = program(config, &mut Subtasks::new(1, 4));
                writeln!(actual, "{update:?} {visibility:?} {cleanup_entries}: {}", line.trim_end()).unwrap();
            }
        }
    }
    expected.assert_eq(&actual);
}

#[test]
fn a_value_lives_as_long_as_update_type_and_visibility_say() {
    let program = |config, subtasks: &mut Subtasks| {
        let state = ValueState::<u32>::new("value").with_ttl(config);
        state.set(subtasks.at(1), 7).unwrap();
        let mut line = String::new();
        for at in [0, 9, 10, 18, 19, 30, 31] {
            subtasks.now = at;
            write!(line, "{at}→{:?} ", state.get(subtasks.at(1)).unwrap()).unwrap();
        }
        line
    };
    check_matrix(
        program,
        &expect![[r#"
            OnCreateAndWrite NeverReturnExpired 0: 0→Some(7) 9→Some(7) 10→None 18→None 19→None 30→None 31→None
            OnCreateAndWrite NeverReturnExpired 1000: 0→Some(7) 9→Some(7) 10→None 18→None 19→None 30→None 31→None
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 0: 0→Some(7) 9→Some(7) 10→Some(7) 18→None 19→None 30→None 31→None
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 1000: 0→Some(7) 9→Some(7) 10→None 18→None 19→None 30→None 31→None
            OnReadAndWrite NeverReturnExpired 0: 0→Some(7) 9→Some(7) 10→Some(7) 18→Some(7) 19→Some(7) 30→None 31→None
            OnReadAndWrite NeverReturnExpired 1000: 0→Some(7) 9→Some(7) 10→Some(7) 18→Some(7) 19→Some(7) 30→None 31→None
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 0: 0→Some(7) 9→Some(7) 10→Some(7) 18→Some(7) 19→Some(7) 30→Some(7) 31→None
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 1000: 0→Some(7) 9→Some(7) 10→Some(7) 18→Some(7) 19→Some(7) 30→None 31→None
        "#]],
    );
}

#[test]
fn each_element_of_a_list_has_its_own_time_to_live() {
    let program = |config, subtasks: &mut Subtasks| {
        let state = ListState::<u32>::new("list").with_ttl(config);
        let mut line = String::new();
        for (at, added) in [(0, 0), (5, 5)] {
            subtasks.now = at;
            state.add(subtasks.at(1), added).unwrap();
        }
        for at in [9, 10, 15, 18, 30, 31] {
            subtasks.now = at;
            write!(line, "{at}→{:?} ", state.get(subtasks.at(1)).unwrap().collect::<Vec<_>>()).unwrap();
        }
        line
    };
    check_matrix(
        program,
        &expect![[r#"
            OnCreateAndWrite NeverReturnExpired 0: 9→[0, 5] 10→[5] 15→[] 18→[] 30→[] 31→[]
            OnCreateAndWrite NeverReturnExpired 1000: 9→[0, 5] 10→[5] 15→[] 18→[] 30→[] 31→[]
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 0: 9→[0, 5] 10→[0, 5] 15→[5] 18→[] 30→[] 31→[]
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 1000: 9→[0, 5] 10→[5] 15→[] 18→[] 30→[] 31→[]
            OnReadAndWrite NeverReturnExpired 0: 9→[0, 5] 10→[0, 5] 15→[0, 5] 18→[0, 5] 30→[] 31→[]
            OnReadAndWrite NeverReturnExpired 1000: 9→[0, 5] 10→[0, 5] 15→[0, 5] 18→[0, 5] 30→[] 31→[]
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 0: 9→[0, 5] 10→[0, 5] 15→[0, 5] 18→[0, 5] 30→[0, 5] 31→[]
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 1000: 9→[0, 5] 10→[0, 5] 15→[0, 5] 18→[0, 5] 30→[] 31→[]
        "#]],
    );
}

#[test]
fn each_entry_of_a_map_has_its_own_time_to_live() {
    let program = |config, subtasks: &mut Subtasks| {
        let state = MapState::<char, u32>::new("map").with_ttl(config);
        for (at, key) in [(0, 'a'), (5, 'b')] {
            subtasks.now = at;
            state.put(subtasks.at(1), key, 1).unwrap();
        }
        let mut line = String::new();
        for at in [9, 11, 16, 30] {
            subtasks.now = at;
            let a = state.get(subtasks.at(1), &'a').unwrap().is_some();
            let empty = state.is_empty(subtasks.at(1)).unwrap();
            let keys: String = state.keys(subtasks.at(1)).unwrap().collect();
            write!(line, "{at}→{a} {empty} '{keys}' ").unwrap();
        }
        line
    };
    check_matrix(
        program,
        &expect![[r#"
            OnCreateAndWrite NeverReturnExpired 0: 9→true false 'ab' 11→false false 'b' 16→false true '' 30→false true ''
            OnCreateAndWrite NeverReturnExpired 1000: 9→true false 'ab' 11→false false 'b' 16→false true '' 30→false true ''
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 0: 9→true false 'ab' 11→true false 'b' 16→false false 'b' 30→false true ''
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 1000: 9→true false 'ab' 11→false false 'b' 16→false true '' 30→false true ''
            OnReadAndWrite NeverReturnExpired 0: 9→true false 'ab' 11→true false 'ab' 16→true false 'ab' 30→false true ''
            OnReadAndWrite NeverReturnExpired 1000: 9→true false 'ab' 11→true false 'ab' 16→true false 'ab' 30→false true ''
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 0: 9→true false 'ab' 11→true false 'ab' 16→true false 'ab' 30→true false 'b'
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 1000: 9→true false 'ab' 11→true false 'ab' 16→true false 'ab' 30→false true ''
        "#]],
    );
}

#[test]
fn writing_an_expired_value_starts_anew_unless_it_can_still_be_seen() {
    let program = |config, subtasks: &mut Subtasks| {
        let state = ValueState::<u32>::new("count").with_ttl(config);
        let mut line = String::new();
        for at in [0, 5, 15, 40, 50] {
            subtasks.now = at;
            let count = state.update_or(subtasks.at(1), 0, |count| *count += 1).unwrap();
            write!(line, "{at}→{count} ").unwrap();
        }
        line
    };
    check_matrix(
        program,
        &expect![[r#"
            OnCreateAndWrite NeverReturnExpired 0: 0→1 5→2 15→1 40→1 50→1
            OnCreateAndWrite NeverReturnExpired 1000: 0→1 5→2 15→1 40→1 50→1
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 0: 0→1 5→2 15→3 40→4 50→5
            OnCreateAndWrite ReturnExpiredIfNotCleanedUp 1000: 0→1 5→2 15→1 40→1 50→1
            OnReadAndWrite NeverReturnExpired 0: 0→1 5→2 15→1 40→1 50→1
            OnReadAndWrite NeverReturnExpired 1000: 0→1 5→2 15→1 40→1 50→1
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 0: 0→1 5→2 15→3 40→4 50→5
            OnReadAndWrite ReturnExpiredIfNotCleanedUp 1000: 0→1 5→2 15→1 40→1 50→1
        "#]],
    );
}

/// Number of keys and elements in memory, without looking at the state through a handle.
fn in_memory(subtasks: &mut Subtasks) -> (usize, usize) {
    type Map = BTreeMap<u32, Stored<u32>>;
    let (state, _, _) = subtasks.backends[0].state::<StateTable<u64, Map>>(0).unwrap();
    (state.table.len(), state.table.iter().map(|(_, map)| map.len()).sum())
}

#[test]
fn accesses_clean_up_a_few_entries_each() {
    let state = MapState::<u32, u32>::new("map").with_ttl(config(10).cleanup_incrementally(5));
    let mut subtasks = Subtasks::new(1, 4);
    for key in 0..100 {
        for map_key in 0..10 {
            state.put(subtasks.at(key), map_key, 0).unwrap();
        }
    }
    assert_eq!(in_memory(&mut subtasks), (100, 1000));
    subtasks.now = 100;
    // Key 1000 is never there; 1000 elements and the free places of the table are to be looked at.
    for _ in 0..20 {
        state.get(subtasks.at(1000), &0).unwrap();
    }
    let (n_keys, n_elements) = in_memory(&mut subtasks);
    assert!((88..94).contains(&n_keys), "20 accesses look at 100 elements, {n_keys} keys are left");
    assert_eq!(n_elements, n_keys * 10);
    for _ in 0..250 {
        state.get(subtasks.at(1000), &0).unwrap();
    }
    assert_eq!(in_memory(&mut subtasks), (0, 0));
}

#[test]
fn without_incremental_cleanup_only_reading_removes_what_has_expired() {
    let state = MapState::<u32, u32>::new("map").with_ttl(config(10).cleanup_incrementally(0));
    let mut subtasks = Subtasks::new(1, 4);
    for key in 0..10 {
        state.put(subtasks.at(key), 0, 0).unwrap();
    }
    subtasks.now = 100;
    for _ in 0..100 {
        state.get(subtasks.at(1000), &0).unwrap();
    }
    assert_eq!(in_memory(&mut subtasks), (10, 10));
    assert_eq!(state.get(subtasks.at(3), &0).unwrap(), None);
    assert_eq!(state.iter(subtasks.at(4)).unwrap().count(), 0);
    assert_eq!(in_memory(&mut subtasks), (8, 8));
}

#[test]
fn a_snapshot_leaves_out_what_has_expired() {
    let value = ValueState::<u32>::new("value").with_ttl(config(10));
    let list = ListState::<u32>::new("list").with_ttl(config(10));
    let map = MapState::<u32, u32>::new("map").with_ttl(config(10));
    let mut subtasks = Subtasks::new(1, 4);
    for now in [0, 5] {
        subtasks.now = now;
        value.set(subtasks.at(now as u64), 1).unwrap();
        list.add(subtasks.at(1), now as u32).unwrap();
        map.put(subtasks.at(1), now as u32, 1).unwrap();
    }
    let sizes = |subtasks: &Subtasks| {
        let snapshot = subtasks.snapshots().remove(0);
        let size = |name: &str| snapshot.keyed[name].values().map(GroupBytes::n_bytes).sum::<u64>();
        (size("value"), size("list"), size("map"))
    };
    let mut actual = String::new();
    for now in [9, 10, 15] {
        subtasks.backends[0].set_processing_time(now);
        writeln!(actual, "{now}: {:?}", sizes(&subtasks)).unwrap();
    }
    expect![[r#"
        9: (10, 9, 11)
        10: (5, 6, 7)
        15: (0, 0, 0)
    "#]]
    .assert_eq(&actual);
}

#[test]
fn a_changed_time_to_live_applies_to_restored_state() {
    let mut subtasks = Subtasks::new(1, 4);
    let (none, short, long) = (
        ValueState::<u32>::new("value"),
        ValueState::<u32>::new("value").with_ttl(config(10)),
        ValueState::<u32>::new("value").with_ttl(config(1000)),
    );
    none.set(subtasks.at(1), 7).unwrap();
    let mut read = |state: &ValueState<u32>, now, restart| {
        subtasks.now = now;
        if restart {
            subtasks.restart(1);
        }
        state.get(subtasks.at(1)).unwrap().copied()
    };
    assert_eq!(read(&none, 1_000_000, false), Some(7), "no time to live, no expiry");
    assert_eq!(read(&short, 2_000_000, true), Some(7), "its time starts at the restart");
    assert_eq!(read(&short, 2_000_009, false), Some(7));
    assert_eq!(read(&long, 2_000_009, true), Some(7));
    assert_eq!(read(&long, 2_000_999, false), Some(7), "the longer time counts from the same use");
    assert_eq!(read(&none, 2_000_999, true), Some(7));
    assert_eq!(read(&none, 9_000_000, false), Some(7), "a time to live that was removed is forgotten");
    assert_eq!(read(&short, 9_000_000, true), None, "it was last used at 2000000");
}

#[test]
fn a_time_to_live_below_a_millisecond_is_a_millisecond() {
    let state = ValueState::<u32>::new("value").with_ttl(StateTtlConfig::new(Duration::from_micros(1)));
    let mut subtasks = Subtasks::new(1, 4);
    state.set(subtasks.at(1), 7).unwrap();
    assert_eq!(state.get(subtasks.at(1)).unwrap(), Some(&7));
    subtasks.now = 1;
    assert_eq!(state.get(subtasks.at(1)).unwrap(), None);
}

#[test]
fn an_endless_time_to_live_never_ends() {
    let state = ValueState::<u32>::new("value").with_ttl(StateTtlConfig::new(Duration::MAX));
    let mut subtasks = Subtasks::new(1, 4);
    state.set(subtasks.at(1), 7).unwrap();
    subtasks.now = i64::MAX - 1;
    assert_eq!(state.get(subtasks.at(1)).unwrap(), Some(&7));
}
