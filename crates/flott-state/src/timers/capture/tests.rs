//! Whatever happens to timers while their snapshot is under way: it has those that were set at the barrier.

use super::*;
use crate::begun::{BegunSnapshot, GroupLayout};
use crate::codec::decode_prefix;
use flott_types::{key_group, key_hash};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

const MAX_PARALLELISM: u32 = 5;

type Timer = (Timestamp, String, u8);

#[derive(Clone, Debug)]
enum Op {
    Begin,
    Step(usize),
    Register(Timestamp, u8, u8),
    Delete(Timestamp, u8, u8),
    PopUpTo(Timestamp),
    Pop,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let timer = (prop_oneof![0_i64..6, Just(Timestamp::MIN), Just(Timestamp::MAX)], 0_u8..6, 0_u8..2);
    let op = prop_oneof![
        2 => Just(Op::Begin),
        // One timer, or two or three.
        12 => (1..4 * PLACES_PER_TIMER).prop_map(Op::Step),
        14 => timer.clone().prop_map(|(at, key, namespace)| Op::Register(at, key, namespace)),
        8 => timer.prop_map(|(at, key, namespace)| Op::Delete(at, key, namespace)),
        1 => (0_i64..6).prop_map(Op::PopUpTo),
        3 => Just(Op::Pop),
    ];
    vec(op, 1..300)
}

fn name(key: u8) -> String {
    format!("key {key}")
}

/// The timers in a snapshot, of which each must be there once and in its key group.
fn timers_of(begun: BegunSnapshot) -> BTreeSet<Timer> {
    let snapshot = begun.complete().expect("complete");
    let mut timers = BTreeSet::new();
    for (group, bytes) in &snapshot.keyed["timers"] {
        let bytes = bytes.to_vec().expect("in memory");
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (timer, after) = decode_prefix::<Timer>("a timer", rest).expect("a timer");
            assert_eq!(key_group(key_hash(&timer.1), MAX_PARALLELISM), *group);
            assert!(timers.insert(timer.clone()), "{timer:?} is there twice");
            rest = after;
        }
    }
    timers
}

proptest! {
    #[test]
    fn a_snapshot_has_the_timers_that_were_set_at_the_barrier(ops in ops()) {
        let mut queue = TimerQueue::<String, u8>::default();
        let mut set = BTreeSet::<Timer>::new();
        // The snapshot that is under way, and what it must have.
        let mut begun: Option<(BegunSnapshot, BTreeSet<Timer>)> = None;
        for op in ops.into_iter().chain([Op::Begin, Op::Step(usize::MAX)]) {
            match op {
                Op::Begin => {
                    queue.snapshot_step(usize::MAX);
                    if let Some((begun, expected)) = begun.take() {
                        prop_assert_eq!(timers_of(begun), expected);
                    }
                    let mut next = BegunSnapshot::default();
                    let stream = next.stream("timers", MAX_PARALLELISM, GroupLayout::Entries);
                    queue.begin_snapshot("timers", &stream);
                    begun = Some((next, set.clone()));
                }
                Op::Step(places) => {
                    if queue.snapshot_step(places) == SnapshotProgress::Complete
                        && let Some((begun, expected)) = begun.take()
                    {
                        prop_assert_eq!(timers_of(begun), expected);
                    }
                }
                Op::Register(at, key, namespace) => {
                    queue.register(at, &name(key), &namespace);
                    set.insert((at, name(key), namespace));
                }
                Op::Delete(at, key, namespace) => {
                    queue.delete(at, &name(key), &namespace);
                    set.remove(&(at, name(key), namespace));
                }
                Op::PopUpTo(now) => {
                    while let Some(timer) = queue.pop_due(now) {
                        prop_assert!(set.remove(&timer));
                    }
                }
                Op::Pop => {
                    if let Some(timer) = queue.pop_due(Timestamp::MAX) {
                        prop_assert!(set.remove(&timer));
                    }
                }
            }
            prop_assert_eq!(queue.len(), set.len());
        }
        prop_assert!(begun.is_none());
    }
}

#[test]
fn a_step_passes_few_timers_and_waits_for_the_writer() {
    let mut queue = TimerQueue::<u64, [u64; 8]>::default();
    (0..100_000).for_each(|key| queue.register(7, &key, &[key; 8]));
    let mut begun = BegunSnapshot::default();
    queue.begin_snapshot("timers", &begun.stream("timers", MAX_PARALLELISM, GroupLayout::Entries));
    let n_steps = std::iter::from_fn(|| Some(queue.snapshot_step(1000 * PLACES_PER_TIMER)))
        .take_while(|progress| *progress == SnapshotProgress::Unfinished)
        .count();
    // 80 bytes each, in vectors that may be half empty, and one piece too many.
    assert!((27..60).contains(&n_steps), "{n_steps} steps of 1000 timers");
    assert_eq!(queue.snapshot_step(8), SnapshotProgress::WriterBehind);
    // Whoever must be complete does not wait.
    assert_eq!(queue.snapshot_step(usize::MAX), SnapshotProgress::Complete);
    let snapshot = begun.complete().expect("complete");
    assert_eq!(snapshot.keyed["timers"].len(), MAX_PARALLELISM as usize);
}
