use super::*;
use flott_types::CheckpointKind;
use flott_types::Increment;
use proptest::prelude::*;

fn barrier(id: u64) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(id),
        timestamp: 0,
        kind: CheckpointKind::Checkpoint,
        increment: Increment::None,
    }
}

/// The outputs of calls such as `0B1` (barrier 1 on channel 0), `1E` (its end) and `X2` (checkpoint 2 is canceled).
fn run(mode: CheckpointingMode, n_channels: usize, calls: &str) -> String {
    let mut aligner = BarrierAligner::new(n_channels, mode);
    let outputs = calls.split(' ').map(|call| {
        let output = match call.split_once(['B', 'E', 'X']).unwrap() {
            ("", id) => aligner.on_canceled(CheckpointId(id.parse().unwrap())),
            (channel, "") => aligner.on_end_of_data(channel.parse().unwrap()),
            (channel, id) => aligner.on_barrier(channel.parse().unwrap(), barrier(id.parse().unwrap())),
        };
        let mut text: String = output.aborted.iter().map(|id| format!("-{id}")).collect();
        text.push_str(if output.unblock_all { "u" } else { "" });
        text.push_str(if output.block { "b" } else { "" });
        text.extend(output.complete.map(|barrier| format!("!{}", barrier.id)));
        if text.is_empty() { ".".to_owned() } else { text }
    });
    outputs.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_channel_is_blocked_until_the_last_barrier_comes() {
    let exactly_once = |n, calls| run(CheckpointingMode::ExactlyOnce, n, calls);
    assert_eq!(exactly_once(1, "0B1 0B2"), "u!1 u!2");
    assert_eq!(exactly_once(3, "0B1 2B1 1B1 1B2"), "b b u!1 b");
}

#[test]
fn a_newer_barrier_aborts_the_older_alignment() {
    let exactly_once = |n, calls| run(CheckpointingMode::ExactlyOnce, n, calls);
    assert_eq!(exactly_once(2, "0B1 1B2 1B1 0B2"), "b -1ub . u!2");
}

#[test]
fn a_canceled_checkpoint_blocks_nobody_whenever_its_barriers_come() {
    let exactly_once = |n, calls| run(CheckpointingMode::ExactlyOnce, n, calls);
    assert_eq!(exactly_once(2, "0B1 X1 1B1 0B2 1B2"), "b u . b u!2");
    assert_eq!(exactly_once(2, "X1 0B1 1B1 0B2 1B2"), ". . . b u!2");
    assert_eq!(exactly_once(2, "0B1 1B1 X1 0B1"), "b u!1 . .");
}

#[test]
fn ended_channels_count_as_aligned() {
    let exactly_once = |n, calls| run(CheckpointingMode::ExactlyOnce, n, calls);
    assert_eq!(exactly_once(2, "0E 1B1 0B1 0B2 1B2"), ". u!1 . b u!2");
    assert_eq!(exactly_once(2, "0B1 1E"), "b u!1");
    assert_eq!(exactly_once(2, "0E 1E 1B1 0B1"), ". . u!1 .");
}

#[test]
fn at_least_once_blocks_nothing_and_follows_several_checkpoints() {
    let at_least_once = |n, calls| run(CheckpointingMode::AtLeastOnce, n, calls);
    assert_eq!(at_least_once(2, "0B1 0B2 1B1 1B2"), ". . !1 !2");
    assert_eq!(at_least_once(2, "0B1 0B2 1B2 1B1"), ". . -1!2 .");
    assert_eq!(at_least_once(2, "0B1 X1 1B1 0B2 1B2"), ". . . . !2");
}

/// What may happen in a task, as a script that channels and the master follow.
#[derive(Clone, Debug)]
enum Happens {
    /// The next element of a channel, unless it is blocked: records and barriers in the order of their ids, then the end.
    Channel(usize),
    Cancel(u64),
}

/// Without any state of its own: everything again from the history of what arrived.
fn is_aligned(history: &[(usize, Option<u64>)], n_channels: usize, id: u64) -> bool {
    (0..n_channels).all(|channel| {
        history.iter().any(|(from, element)| *from == channel && element.is_none_or(|barrier| barrier == id))
    })
}

proptest! {
    /// Channels deliver records and barriers; the snapshot of each checkpoint must hold exactly the records before its
    /// barriers, and a checkpoint must be complete as soon as all barriers are there.
    #[test]
    fn a_snapshot_holds_exactly_the_records_before_the_barriers(
        n_channels in 1_usize..4,
        skipped in proptest::collection::vec((0_usize..4, 1_u64..6), 0..3),
        script in proptest::collection::vec(
            prop_oneof![12 => (0_usize..4).prop_map(Happens::Channel), 1 => (1_u64..6).prop_map(Happens::Cancel)], 0..120),
    ) {
        // Each channel: record, barrier 1, record, barrier 2, … barrier 5, record, end. A skipped barrier was lost by a task
        // upstream that had been told of the cancellation.
        let elements = |channel: usize| -> Vec<Option<u64>> {
            (1..=5).filter(|id| !skipped.contains(&(channel, *id))).map(Some).chain([None]).collect()
        };
        let channels: Vec<_> = (0..n_channels).map(elements).collect();
        let mut aligner = BarrierAligner::new(n_channels, CheckpointingMode::ExactlyOnce);
        let mut at = vec![0; n_channels];
        let mut blocked = vec![false; n_channels];
        // Of each channel the newest barrier that was read: how far the records in the state reach.
        let mut reached = vec![0_u64; n_channels];
        let mut history = Vec::new();
        let (mut completed, mut aborted) = (Vec::new(), BTreeSet::new());
        for happens in script {
            let output = match happens {
                Happens::Cancel(id) => {
                    aborted.insert(id);
                    aligner.on_canceled(CheckpointId(id))
                }
                Happens::Channel(channel) if channel < n_channels && !blocked[channel] => {
                    let Some(element) = channels[channel].get(at[channel]).copied() else { continue };
                    at[channel] += 1;
                    history.push((channel, element));
                    reached[channel] = element.unwrap_or(u64::MAX);
                    match element {
                        None => aligner.on_end_of_data(channel),
                        Some(id) => aligner.on_barrier(channel, barrier(id)),
                    }
                }
                Happens::Channel(_) => continue,
            };
            aborted.extend(output.aborted.iter().map(|id| id.0));
            if output.unblock_all {
                blocked.fill(false);
            }
            if let (true, Some((channel, _))) = (output.block, history.last()) {
                blocked[*channel] = true;
            }
            if let Some(barrier) = output.complete {
                let id = barrier.id.0;
                prop_assert!(reached.iter().all(|reached| *reached == id || *reached == u64::MAX), "{id}: {reached:?}");
                prop_assert!(is_aligned(&history, n_channels, id));
                prop_assert!(!aborted.contains(&id), "{id} was aborted");
                prop_assert!(completed.last().is_none_or(|last| *last < id));
                completed.push(id);
            }
            // Nothing that could be complete waits, and nobody is blocked for nothing.
            let newest = history.iter().filter_map(|(_, element)| *element).max();
            if let Some(newest) = newest.filter(|newest| !aborted.contains(newest)) {
                prop_assert_eq!(
                    completed.contains(&newest),
                    is_aligned(&history, n_channels, newest),
                    "checkpoint {} after {:?}", newest, history
                );
            }
            prop_assert_eq!(blocked.contains(&true), aligner.is_aligning());
        }
    }
}
