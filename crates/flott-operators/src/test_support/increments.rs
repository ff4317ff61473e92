//! Checkpoints of an operator that go on from earlier ones, some of which fail.

use super::{Harness, unordered};
use flott_state::{BegunSnapshot, ChainSnapshot, OperatorSnapshot, SectionKind, SnapshotProgress, decode};
use flott_types::{CheckpointBarrier, CheckpointId, CheckpointKind, Error, FileHandle, Increment};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// The checkpoints of one subtask since it was started. They overlap with the elements that come behind the barrier.
#[derive(Default)]
pub(crate) struct Increments {
    n_taken: u64,
    /// What a restore of each would read.
    written: BTreeMap<CheckpointId, OperatorSnapshot>,
    complete: Option<CheckpointId>,
    under_way: Option<(CheckpointId, BegunSnapshot)>,
}

impl Increments {
    /// The barrier of the next one: it goes on from the newest that is complete.
    pub(crate) fn begin<A: Clone, B: Clone, O: Debug + 'static>(&mut self, harness: &mut Harness<A, B, O>) {
        self.n_taken += 1;
        let id = CheckpointId(self.n_taken);
        let increment = self.complete.map_or(Increment::Base, Increment::Since);
        let begun = begin(harness, id, increment);
        self.under_way = Some((id, begun));
    }

    /// Has the one that is under way sent to its end. Every third fails, or so it seems until the next barrier; every fifth is known to be
    /// complete too late for that. Returns what a restore of it would read.
    pub(crate) fn finish<A: Clone, B: Clone, O: Debug + 'static>(
        &mut self,
        harness: &mut Harness<A, B, O>,
    ) -> OperatorSnapshot {
        assert_eq!(harness.snapshot_step(usize::MAX), SnapshotProgress::Complete);
        let (id, begun) = self.under_way.take().expect("a checkpoint is under way");
        let older = self.complete.map(|complete| self.written[&complete].clone()).unwrap_or_default();
        let whole = begun.complete_over(older).expect("all was sent");
        self.written.insert(id, whole.clone());
        let known = if id.0.is_multiple_of(5) { CheckpointId(id.0 - 1) } else { id };
        if !known.0.is_multiple_of(3) && self.written.contains_key(&known) {
            self.complete = Some(known);
        }
        whole
    }
}

/// Begins the snapshot of a checkpoint.
pub(crate) fn begin<A: Clone, B: Clone, O: Debug + 'static>(
    harness: &mut Harness<A, B, O>,
    id: CheckpointId,
    increment: Increment,
) -> BegunSnapshot {
    let barrier = CheckpointBarrier { id, timestamp: 0, kind: CheckpointKind::Checkpoint, increment };
    let base = FileHandle { path: "base".to_owned(), len: 0, checksum: 0 };
    harness.begin(ChainSnapshot::new(&barrier, vec![base]).begin())
}

/// What checkpoint `id` has of the keyed state `name`, as lines: its sections with their entries, each key group by itself, sorted. It goes on
/// from `base`.
pub(crate) fn changes<
    A: Clone,
    B: Clone,
    O: Debug + 'static,
    E: DeserializeOwned + Debug,
    G: DeserializeOwned + Debug,
>(
    harness: &mut Harness<A, B, O>,
    name: &str,
    (id, base): (u64, Option<u64>),
) -> Vec<String> {
    let increment = base.map_or(Increment::Base, |base| Increment::Since(CheckpointId(base)));
    let begun = begin(harness, CheckpointId(id), increment);
    assert_eq!(harness.snapshot_step(usize::MAX), SnapshotProgress::Complete);
    let snapshot = begun.complete().expect("all was sent");
    let mut lines = Vec::new();
    for bytes in snapshot.keyed[name].values() {
        let read = |kind, section: &[u8]| {
            lines.push(match kind {
                SectionKind::Removed => format!("gone: {:?}", decode::<G>(name, section)?),
                kind => format!("{kind:?}: {:?}", decode::<E>(name, section)?),
            });
            Ok::<_, Error>(())
        };
        bytes.for_each_change(read).expect("sections of these types");
    }
    lines.sort();
    lines.dedup();
    lines
}

/// What an operator has that was restored from `snapshot`, whatever the order of entries.
pub(crate) fn restored<A: Clone, B: Clone, O: Debug + 'static>(
    mut harness: Harness<A, B, O>,
    snapshot: &OperatorSnapshot,
) -> OperatorSnapshot {
    harness.restore(snapshot);
    unordered(harness.snapshot())
}
