//! Event time against a map of key groups, across restarts at other parallelism.

use super::*;
use crate::testing::{assert_corruption_or_value, damaged};
use flott_types::{SubtaskIndex, key_group_range};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX_PARALLELISM: u32 = 16;

fn at(parallelism: u32) -> Vec<KeyedEventTime> {
    let range = |subtask| key_group_range(SubtaskIndex(subtask), MAX_PARALLELISM, parallelism);
    (0..parallelism).map(|subtask| KeyedEventTime::new(range(subtask), MAX_PARALLELISM)).collect()
}

fn part(time: &KeyedEventTime) -> OperatorSnapshot {
    let mut snapshot = OperatorSnapshot::default();
    time.snapshot(&mut snapshot).unwrap();
    snapshot
}

fn restart(times: &[KeyedEventTime], parallelism: u32) -> Vec<KeyedEventTime> {
    let parts: Vec<_> = times.iter().map(part).collect();
    let mut after = at(parallelism);
    for (subtask, time) in after.iter_mut().enumerate() {
        let subtask = SubtaskIndex(subtask as u32);
        time.restore(&OperatorSnapshot::reassign(&parts, subtask, parallelism).unwrap()).unwrap();
    }
    after
}

/// How far each key group has come.
fn groups(times: &[KeyedEventTime]) -> Vec<Watermark> {
    times
        .iter()
        .flat_map(|time| (time.range.start..time.range.end).map(|group| time.of_group(KeyGroup(group))))
        .collect()
}

proptest! {
    #[test]
    fn no_key_group_goes_back_or_ahead(
        steps in vec((1..7_u32, vec(-3..40_i64, 6)), 1..8),
    ) {
        let mut times = at(3);
        let mut expected = vec![Watermark::MIN; MAX_PARALLELISM as usize];
        for (parallelism, watermarks) in steps {
            for (time, watermark) in times.iter_mut().zip(watermarks) {
                let least = time.watermark();
                prop_assert_eq!(time.advance(Watermark(watermark)), Watermark(watermark) > least);
                for group in time.range.start..time.range.end {
                    let known = &mut expected[group as usize];
                    *known = (*known).max(Watermark(watermark));
                }
            }
            prop_assert_eq!(&groups(&times), &expected);
            times = restart(&times, parallelism);
            prop_assert_eq!(&groups(&times), &expected);
            for time in &times {
                let own = &expected[time.range.start as usize..time.range.end as usize];
                prop_assert_eq!(Some(&time.watermark()), own.iter().min());
                prop_assert_eq!(Some(&time.furthest()), own.iter().max());
                prop_assert_eq!(time.is_ahead(), time.furthest() > time.watermark());
            }
        }
    }
}

#[test]
fn damaged_event_time_is_an_error_or_another_time() {
    let mut times = at(3);
    for (time, watermark) in times.iter_mut().zip([30, 10, 20]) {
        time.advance(Watermark(watermark));
    }
    let intact = part(&restart(&times, 1)[0]);
    for name in [WATERMARK, KEY_GROUP_WATERMARKS] {
        for damaged in damaged(&intact.union[name][0]) {
            let mut snapshot = intact.clone();
            snapshot.union.insert(name.to_owned(), vec![damaged]);
            assert_corruption_or_value(at(1)[0].restore(&snapshot));
        }
    }
}

#[test]
fn a_key_is_where_its_key_group_is() {
    let mut times = at(2);
    times[1].advance(Watermark(7));
    let time = &restart(&times, 1)[0];
    for key in 0..100_u64 {
        let is_ahead = key_group(key_hash(&key), MAX_PARALLELISM).0 >= times[1].range.start;
        let expected = if is_ahead { Watermark(7) } else { Watermark::MIN };
        assert_eq!((time.of_key(&key), time.of_hash(key_hash(&key))), (expected, expected));
    }
}

#[test]
fn a_snapshot_with_nothing_but_the_watermarks_of_subtasks_begins_at_the_least() {
    let mut times = at(3);
    for (time, watermark) in times.iter_mut().zip([30, 10, 20]) {
        time.advance(Watermark(watermark));
    }
    let mut parts: Vec<_> = times.iter().map(part).collect();
    parts.iter_mut().for_each(|part| drop(part.union.remove(KEY_GROUP_WATERMARKS)));
    for parallelism in [1, 3, 5] {
        for (subtask, mut time) in at(parallelism).into_iter().enumerate() {
            let subtask = SubtaskIndex(subtask as u32);
            time.restore(&OperatorSnapshot::reassign(&parts, subtask, parallelism).unwrap()).unwrap();
            assert_eq!((time.watermark(), time.is_ahead()), (Watermark(10), false));
        }
    }
}

#[test]
fn other_key_groups_are_where_the_last_subtask_was() {
    let mut times = at(2);
    times[0].advance(Watermark(5));
    times[1].advance(Watermark(9));
    let parts: Vec<_> = times.iter().map(part).collect();
    let snapshot = OperatorSnapshot::reassign(&parts, SubtaskIndex(0), 1).unwrap();
    let mut time = KeyedEventTime::new(KeyGroupRange { start: 0, end: 8 }, 8);
    time.restore(&snapshot).unwrap();
    assert_eq!((time.watermark(), time.is_ahead()), (Watermark(5), false));
}
