//! Gate, aligner and recorder together, as a task drives them, against what stands in the channels.

use crate::{BarrierAligner, ChannelSender, InputGate, Outgoing, Recorded, input_gate};
use flott_state::{InFlightElement, InFlightLayout, decode_parts, decode_records, encode_layout};
use flott_types::{
    CheckpointBarrier, CheckpointId, CheckpointKind, CheckpointingMode, Increment, RecordBatch,
    StreamElement, SubtaskIndex, Watermark,
};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};

/// What a channel carries: records and watermarks count upwards, barriers by the number of their checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Record(i64),
    Watermark(i64),
    Barrier(u64),
    End,
}

/// Three elements between barriers 1 to 5, of which some are lost, then the end.
fn script(skipped: &BTreeSet<u64>) -> Vec<Sent> {
    let mut script = Vec::new();
    let mut next = 0;
    for id in 1..=5 {
        script.extend([Sent::Record(next), Sent::Watermark(next + 1), Sent::Record(next + 2)]);
        next += 3;
        if !skipped.contains(&id) {
            script.push(Sent::Barrier(id));
        }
    }
    script.extend([Sent::Record(next), Sent::End]);
    script
}

/// The numbers before a barrier; all, if it was lost.
fn before(script: &[Sent], id: u64) -> Vec<i64> {
    let before = script.iter().take_while(|sent| **sent != Sent::Barrier(id));
    let number = |sent: &Sent| match sent {
        Sent::Record(number) | Sent::Watermark(number) => Some(*number),
        Sent::Barrier(_) | Sent::End => None,
    };
    before.filter_map(number).collect()
}

#[derive(Clone, Debug)]
enum Happens {
    /// A channel gets some elements, as many as fit or all.
    Send {
        channel: usize,
        count: usize,
        all: bool,
    },
    /// The task takes an element.
    Take,
    /// Time is up for the barriers that are there.
    Overtake,
    Cancel(u64),
}

struct Task {
    gate: InputGate<i64>,
    senders: Vec<ChannelSender<i64>>,
    outgoing: Vec<VecDeque<Outgoing<i64>>>,
    scripts: Vec<Vec<Sent>>,
    sent: Vec<usize>,
    aligner: BarrierAligner,
    savepoints: BTreeSet<u64>,
    /// What the state holds.
    processed: Vec<Vec<i64>>,
    /// A checkpoint that has overtaken, with the state.
    held: Option<(u64, Vec<Vec<i64>>)>,
    completed: Vec<u64>,
    aborted: BTreeSet<u64>,
    n_overtaken: usize,
}

impl Task {
    fn new(scripts: Vec<Vec<Sent>>, aligned_only: Vec<bool>, savepoints: BTreeSet<u64>) -> Self {
        let n_channels = scripts.len();
        let (mut gate, senders) = input_gate::<i64>(n_channels, 20 * n_channels);
        gate.watch(0);
        Self {
            gate,
            senders,
            outgoing: (0..n_channels).map(|_| VecDeque::new()).collect(),
            sent: vec![0; n_channels],
            scripts,
            aligner: BarrierAligner::new(n_channels, CheckpointingMode::ExactlyOnce)
                .with_overtaking(aligned_only),
            savepoints,
            processed: vec![Vec::new(); n_channels],
            held: None,
            completed: Vec::new(),
            aborted: BTreeSet::new(),
            n_overtaken: 0,
        }
    }

    fn send(&mut self, channel: usize, count: usize, all: bool) {
        for _ in 0..count {
            let Some(sent) = self.scripts[channel].get(self.sent[channel]).copied() else { break };
            self.sent[channel] += 1;
            let (bytes, element) = match sent {
                Sent::Record(number) => (10, StreamElement::Records(RecordBatch::untimed(vec![number]))),
                Sent::Watermark(number) => (0, StreamElement::Watermark(Watermark(number))),
                Sent::Barrier(id) => (0, StreamElement::Barrier(self.barrier(id))),
                Sent::End => (0, StreamElement::EndOfData),
            };
            self.outgoing[channel].push_back(Outgoing { bytes, element });
        }
        let (sender, outgoing) = (&mut self.senders[channel], &mut self.outgoing[channel]);
        if all {
            sender.send_all(outgoing).unwrap();
        } else if let Poll::Ready(sent) = sender.poll_send(&mut Context::from_waker(Waker::noop()), outgoing)
        {
            sent.unwrap();
        }
    }

    fn barrier(&self, id: u64) -> CheckpointBarrier {
        let kind = if self.savepoints.contains(&id) {
            CheckpointKind::Savepoint
        } else {
            CheckpointKind::Checkpoint
        };
        CheckpointBarrier { id: CheckpointId(id), timestamp: 0, kind, increment: Increment::None }
    }

    /// As a task does before anything else.
    fn look(&mut self) {
        self.gate.look();
        for (channel, barrier) in self.gate.take_announced() {
            self.aligner.on_announced(channel, barrier);
        }
        if self.held.is_none() {
            return;
        }
        match self.gate.poll_recorded().unwrap() {
            Recorded::Partly => {}
            Recorded::GivenUp => {
                self.gate.stop_recording();
                self.aborted.extend(self.held.take().map(|(id, _)| id));
            }
            Recorded::All => {
                let (id, mut state) = self.held.take().unwrap();
                let entries = self.gate.stop_recording();
                self.add_in_flight(&mut state, entries);
                self.complete(id, &state);
            }
        }
    }

    fn add_in_flight(&self, state: &mut [Vec<i64>], entries: Vec<Vec<u8>>) {
        let channel = flott_state::InFlightChannel {
            edge: 0,
            producer: SubtaskIndex(0),
            watermark: Watermark::MIN,
            is_idle: false,
        };
        let edge = flott_state::InFlightEdge {
            source: flott_types::OperatorUid("a".to_owned()),
            target: flott_types::OperatorUid("b".to_owned()),
            input: 0,
            side: None,
            ordinal: 0,
            routing: flott_state::Routing::Any,
        };
        let layout = InFlightLayout {
            subtask: SubtaskIndex(0),
            parallelism: 1,
            max_parallelism: 1,
            edges: vec![edge],
            channels: vec![channel; state.len()],
        };
        let entries: Vec<_> = [encode_layout(layout, &[]).unwrap()].into_iter().chain(entries).collect();
        for (channel, element) in &decode_parts(&entries).unwrap()[0].elements {
            match element {
                InFlightElement::Records(bytes) => {
                    state[*channel].extend(decode_records::<i64>(bytes, None).unwrap().records());
                }
                InFlightElement::Watermark(watermark) => state[*channel].push(watermark.0),
                InFlightElement::Status(_) => unreachable!("none is sent"),
            }
        }
    }

    /// The snapshot with what is in flight is everything before the barriers, once and in order.
    fn complete(&mut self, id: u64, state: &[Vec<i64>]) {
        for (script, state) in self.scripts.iter().zip(state) {
            assert_eq!(*state, before(script, id), "checkpoint {id}");
        }
        assert!(!self.aborted.contains(&id), "{id} was aborted");
        assert!(self.completed.last().is_none_or(|last| *last < id));
        self.completed.push(id);
    }

    fn follow(&mut self, channel: usize, output: crate::AlignerOutput) {
        self.aborted.extend(output.aborted.iter().map(|id| id.0));
        if output.unblock_all {
            self.gate.unblock_all();
        }
        if output.block {
            self.gate.block(channel);
        }
        if let Some(barrier) = output.complete {
            let state = self.processed.clone();
            self.complete(barrier.id.0, &state);
        }
    }

    fn take(&mut self) -> bool {
        self.look();
        let next = self.gate.poll_next(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok((channel, element))) = next else { return false };
        match element {
            StreamElement::Records(batch) => self.processed[channel].extend(batch.records()),
            StreamElement::Watermark(watermark) => self.processed[channel].push(watermark.0),
            StreamElement::Barrier(barrier) => {
                let output = self.aligner.on_barrier(channel, barrier);
                self.follow(channel, output);
            }
            StreamElement::EndOfData => {
                let output = self.aligner.on_end_of_data(channel);
                self.follow(channel, output);
            }
            StreamElement::Status(_) => unreachable!("none is sent"),
        }
        true
    }

    fn overtake(&mut self) {
        self.look();
        let Some(barrier) = self.aligner.overtaking().filter(|it| self.aligner.may_overtake(it.id)) else {
            return;
        };
        assert!(!self.savepoints.contains(&barrier.id.0), "the barrier of a savepoint overtakes");
        self.n_overtaken += 1;
        let reached = self.aligner.reached(barrier.id);
        let output = self.aligner.overtake(barrier);
        self.aborted.extend(output.aborted.iter().map(|id| id.0));
        let held = (barrier.id.0, self.processed.clone());
        self.aborted.extend(self.held.replace(held).map(|(id, _)| id));
        self.gate.record(barrier.id, reached);
        self.gate.unblock_all();
        self.look();
    }

    fn cancel(&mut self, id: u64) {
        if self.completed.contains(&id) {
            return;
        }
        self.aborted.insert(id);
        if self.aligner.on_canceled(CheckpointId(id)).unblock_all {
            self.gate.unblock_all();
        }
        if self.held.take_if(|(held, _)| *held == id).is_some() {
            self.gate.stop_recording();
        }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (0_usize..3, 1_usize..6, any::<bool>())
            .prop_map(|(channel, count, all)| Happens::Send { channel, count, all }),
        8 => Just(Happens::Take),
        3 => Just(Happens::Overtake),
        1 => (1_u64..6).prop_map(Happens::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// State, what is in flight and what follows are everything, once and in order on each channel, whatever overtakes what and whatever
    /// is lost or canceled; and nothing is blocked for ever.
    #[test]
    fn a_snapshot_and_what_is_in_flight_hold_exactly_what_is_before_the_barriers(
        n_channels in 1_usize..4,
        aligned_only in proptest::collection::vec(proptest::bool::weighted(0.2), 3),
        savepoints in proptest::collection::btree_set(1_u64..6, 0..2),
        skipped in proptest::collection::vec(proptest::collection::btree_set(1_u64..6, 0..2), 3),
        loses in proptest::bool::weighted(0.2),
        script_of_events in proptest::collection::vec(happens(), 0..150),
    ) {
        let scripts: Vec<_> =
            skipped.iter().take(n_channels).map(|skipped| script(if loses { skipped } else { const { &BTreeSet::new() } })).collect();
        let mut task = Task::new(scripts, aligned_only[..n_channels].to_vec(), savepoints);
        for event in script_of_events {
            match event {
                Happens::Send { channel, count, all } => task.send(channel % n_channels, count, all),
                Happens::Take => drop(task.take()),
                Happens::Overtake => task.overtake(),
                Happens::Cancel(id) => task.cancel(id),
            }
        }
        // All that is left comes, and is read.
        for _ in 0..40 {
            (0..n_channels).for_each(|channel| task.send(channel, 40, false));
            while task.take() {}
        }
        task.look();
        for (channel, script) in task.scripts.iter().enumerate() {
            prop_assert_eq!(&task.processed[channel], &before(script, 0), "channel {}", channel);
        }
        prop_assert!(task.held.is_none(), "all barriers have come, or the end");
        if !loses {
            // A barrier of each checkpoint has come on each channel: it was completed or given up.
            for id in 1..=5 {
                prop_assert!(task.completed.contains(&id) || task.aborted.contains(&id), "{}", id);
            }
            if task.aborted.is_empty() {
                prop_assert_eq!(task.completed.len(), 5);
            }
        }
    }
}

#[test]
fn a_barrier_overtakes_what_waits_in_the_gate_and_in_front_of_it() {
    let mut task = Task::new(vec![script(&BTreeSet::new()); 2], vec![false, false], BTreeSet::new());
    task.send(0, 4, true);
    task.send(1, 1, true);
    assert!(task.take());
    task.overtake();
    assert_eq!(
        (task.completed.clone(), task.n_overtaken),
        (vec![], 1),
        "channel 1 still has records before the barrier"
    );
    task.send(1, 2, false);
    task.look();
    assert!(task.completed.is_empty());
    task.send(1, 1, true);
    task.look();
    assert_eq!(task.completed, [1]);
}

#[test]
fn a_channel_that_was_overdrawn_takes_nothing_until_it_has_room_and_a_listener_hears_of_barriers() {
    let (mut gate, mut senders) = input_gate::<i64>(1, 10);
    gate.watch(0);
    let cx = &mut Context::from_waker(Waker::noop());
    let record = || Outgoing { bytes: 10, element: StreamElement::Records(RecordBatch::untimed(vec![1])) };
    let mut outgoing = VecDeque::from([record(), record(), record()]);
    assert!(senders[0].poll_send(cx, &mut outgoing).is_pending());
    assert_eq!(outgoing.len(), 2);
    senders[0].send_all(&mut outgoing).unwrap();
    assert!(
        senders[0].poll_send(cx, &mut outgoing).is_pending(),
        "nothing waits, but more is in flight than may be"
    );
    for _ in 0..2 {
        assert!(gate.poll_next(cx).is_ready());
        assert!(senders[0].poll_send(cx, &mut outgoing).is_pending());
    }
    assert!(gate.poll_next(cx).is_ready(), "all of it has been taken out");
    assert!(senders[0].poll_send(cx, &mut outgoing).is_ready());
}
