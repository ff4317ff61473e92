//! Timers against a sorted set, across restarts at other parallelism and with damaged bytes.

use super::*;
use crate::testing::{assert_corruption_or_value, damaged};
use flott_types::{ErrorKind, SubtaskIndex, key_group_range};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Timer = (Timestamp, String, u8);

fn pop_all(queue: &mut TimerQueue<String, u8>, now: Timestamp) -> Vec<Timer> {
    std::iter::from_fn(|| queue.pop_due(now)).collect()
}

fn queue(timers: &[(Timestamp, &str, u8)]) -> TimerQueue<String, u8> {
    let mut queue = TimerQueue::default();
    timers.iter().for_each(|(at, key, namespace)| queue.register(*at, &(*key).to_owned(), namespace));
    queue
}

fn timer(at: Timestamp, key: &str, namespace: u8) -> Timer {
    (at, key.to_owned(), namespace)
}

#[test]
fn timers_pop_by_time_up_to_now() {
    let mut queue = queue(&[(30, "a", 0), (10, "b", 0), (20, "a", 0), (-5, "c", 0)]);
    assert_eq!(queue.next_due(), Some(-5));
    assert_eq!(pop_all(&mut queue, 20), [timer(-5, "c", 0), timer(10, "b", 0), timer(20, "a", 0)]);
    assert_eq!((queue.len(), queue.next_due()), (1, Some(30)));
    assert_eq!(pop_all(&mut queue, 29), []);
    assert_eq!(pop_all(&mut queue, i64::MAX), [timer(30, "a", 0)]);
    assert!(queue.is_empty());
}

#[test]
fn a_timer_set_twice_fires_once() {
    let mut queue = queue(&[(10, "a", 1), (10, "a", 1), (10, "a", 2), (10, "b", 1)]);
    assert_eq!(queue.len(), 3);
    assert_eq!(pop_all(&mut queue, 10).len(), 3);
}

#[test]
fn deleting_removes_exactly_the_timer() {
    let mut queue = queue(&[(10, "a", 1), (10, "a", 2), (11, "a", 1)]);
    let key = "a".to_owned();
    for (at, namespace) in [(10, 1), (10, 1), (12, 1), (10, 3)] {
        queue.delete(at, &key, &namespace);
    }
    assert_eq!(pop_all(&mut queue, 100), [timer(10, "a", 2), timer(11, "a", 1)]);
    assert_eq!(queue.next_due(), None);
}

#[test]
fn a_timer_set_in_the_past_while_timers_fire_is_next() {
    let mut queue = queue(&[(10, "a", 0), (20, "a", 0)]);
    assert_eq!(queue.pop_due(20), Some(timer(10, "a", 0)));
    queue.register(3, &"b".to_owned(), &0);
    assert_eq!(pop_all(&mut queue, 20), [timer(3, "b", 0), timer(20, "a", 0)]);
}

#[derive(Clone, Debug)]
enum Op {
    Register(Timestamp, u8, u8),
    Delete(Timestamp, u8, u8),
    PopUpTo(Timestamp),
}

proptest! {
    #[test]
    fn a_queue_does_what_a_sorted_set_does(ops in vec(
        prop_oneof![
            5 => (0_i64..20, 0_u8..3, 0_u8..2).prop_map(|(at, key, n)| Op::Register(at, key, n)),
            2 => (0_i64..20, 0_u8..3, 0_u8..2).prop_map(|(at, key, n)| Op::Delete(at, key, n)),
            1 => (0_i64..20).prop_map(Op::PopUpTo),
        ],
        1..100,
    )) {
        let (mut queue, mut set) = (TimerQueue::<u8, u8>::default(), BTreeSet::new());
        for op in ops {
            match op {
                Op::Register(at, key, namespace) => {
                    queue.register(at, &key, &namespace);
                    set.insert((at, key, namespace));
                }
                Op::Delete(at, key, namespace) => {
                    queue.delete(at, &key, &namespace);
                    set.remove(&(at, key, namespace));
                }
                Op::PopUpTo(now) => {
                    let popped: Vec<_> = std::iter::from_fn(|| queue.pop_due(now)).collect();
                    prop_assert!(popped.is_sorted_by_key(|(at, ..)| *at));
                    let due: BTreeSet<_> = set.iter().filter(|(at, ..)| *at <= now).copied().collect();
                    prop_assert_eq!(popped.len(), due.len());
                    prop_assert_eq!(popped.into_iter().collect::<BTreeSet<_>>(), due);
                    set.retain(|(at, ..)| *at > now);
                }
            }
            prop_assert_eq!(queue.len(), set.len());
            prop_assert_eq!(queue.is_empty(), set.is_empty());
            prop_assert_eq!(queue.next_due(), set.first().map(|(at, ..)| *at));
        }
    }
}

const MAX_PARALLELISM: u32 = 32;

fn services(n_keys: u64) -> Vec<TimerService<u64, ()>> {
    let mut service = TimerService::default();
    for key in 0..n_keys {
        service.event.register(key as i64 % 7, &key, &());
        service.processing.register(key as i64 % 5, &key, &());
    }
    vec![service]
}

fn restart(services: &[TimerService<u64, ()>], parallelism: u32) -> Vec<TimerService<u64, ()>> {
    let snapshot = |service: &TimerService<u64, ()>| {
        let mut snapshot = OperatorSnapshot::default();
        service.snapshot(MAX_PARALLELISM, &mut snapshot).unwrap();
        snapshot
    };
    let parts: Vec<_> = services.iter().map(snapshot).collect();
    let restore = |subtask| {
        let range = key_group_range(subtask, MAX_PARALLELISM, parallelism);
        let mut service = TimerService::new(KeyedEventTime::new(range, MAX_PARALLELISM));
        let part = OperatorSnapshot::reassign(&parts, subtask, parallelism).unwrap();
        service.restore(&part, &mut KeyedSchemas::default()).unwrap();
        service
    };
    (0..parallelism).map(SubtaskIndex).map(restore).collect()
}

/// All timers, of which each must be in the range of its subtask.
fn drain(services: Vec<TimerService<u64, ()>>) -> [BTreeSet<(Timestamp, u64, ())>; 2] {
    let parallelism = services.len() as u32;
    let mut all = [BTreeSet::new(), BTreeSet::new()];
    for (idx, mut service) in services.into_iter().enumerate() {
        let range = key_group_range(SubtaskIndex(idx as u32), MAX_PARALLELISM, parallelism);
        for (queue, all) in [&mut service.event, &mut service.processing].into_iter().zip(&mut all) {
            for timer in std::iter::from_fn(|| queue.pop_due(Timestamp::MAX)) {
                assert!(range.contains(key_group(key_hash(&timer.1), MAX_PARALLELISM)));
                assert!(all.insert(timer), "timer {timer:?} is on two subtasks");
            }
        }
    }
    all
}

#[test]
fn timers_move_with_their_keys() {
    let expected = drain(services(200));
    assert_eq!(expected.each_ref().map(BTreeSet::len), [200, 200]);
    let mut services = services(200);
    for parallelism in [3, 2, 32, 1] {
        services = restart(&services, parallelism);
        assert_eq!(drain(restart(&services, parallelism)), expected);
    }
    assert_eq!(drain(services), expected);
}

#[test]
fn damaged_timers_are_an_error_or_other_timers() {
    let mut intact = OperatorSnapshot::default();
    services(3)[0].snapshot(MAX_PARALLELISM, &mut intact).unwrap();
    let restore = |snapshot: &OperatorSnapshot| {
        TimerService::<u64, ()>::default().restore(snapshot, &mut KeyedSchemas::default())
    };
    restore(&intact).unwrap();
    for (group, bytes) in &intact.keyed[EVENT_TIMERS] {
        for damaged in damaged(&bytes.to_vec().unwrap()) {
            let mut snapshot = intact.clone();
            snapshot.keyed.get_mut(EVENT_TIMERS).unwrap().insert(*group, damaged.into());
            assert_corruption_or_value(restore(&snapshot));
        }
    }
    let mut elsewhere = intact.clone();
    elsewhere.max_parallelism += 1;
    assert_eq!(restore(&elsewhere).unwrap_err().kind(), ErrorKind::Corruption);
}
