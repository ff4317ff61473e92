//! The subtasks of a sink between two starts of a job, and what a checkpoint keeps of them.

use super::oracle::SegmentId;
use crate::contract::record::RecordId;
use flott_api::{BadRecords, Committable, Committer};
use flott_types::CheckpointId;
use std::collections::BTreeSet;

/// Partitions of the input; subtask `s` of `p` writes those with the number `o`, `o mod p == s`.
pub(super) const PARTITIONS: u32 = 3;
/// Records that a partition gives between two checkpoints.
const CHUNK: u64 = 2;
/// Chunks of each partition.
const CHUNKS: u64 = 4;

/// A checkpoint that can be gone back to.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) id: CheckpointId,
    /// Records of each partition that came before it.
    pub(super) positions: Vec<u64>,
    /// Which they are, by partition.
    pub(super) lineage: Vec<Vec<SegmentId>>,
    /// By subtask.
    pub(super) parts: Vec<Part>,
}

/// What a subtask has put into a checkpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) committables: Vec<Committable>,
}

impl Checkpoint {
    pub(super) fn segments(&self) -> BTreeSet<SegmentId> {
        self.lineage.iter().flatten().copied().collect()
    }

    /// What subtask `s` of `parallelism` gets. All parts go to somebody; to whom differs from start to start.
    pub(super) fn share(&self, s: usize, parallelism: usize, rotation: usize) -> Part {
        if self.parts.len() == parallelism {
            return self.parts.get((s + rotation) % parallelism).cloned().unwrap_or_default();
        }
        let is_mine = |idx: usize| (idx + rotation) % parallelism == s;
        let entries = self.parts.iter().flat_map(|part| &part.entries);
        let committables = self.parts.iter().flat_map(|part| &part.committables);
        let mut share = Part {
            entries: entries.enumerate().filter(|(idx, _)| is_mine(*idx)).map(|(_, it)| it.clone()).collect(),
            committables: committables
                .enumerate()
                .filter(|(idx, _)| is_mine(*idx))
                .map(|(_, it)| it.clone())
                .collect(),
        };
        share.committables.sort_by_key(|committable| committable.checkpoint_id);
        share
    }
}

/// How far a subtask has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Made,
    Restored,
    Started,
    Finished,
}

/// A subtask of the sink.
pub(super) struct Subtask<W> {
    pub(super) writer: W,
    pub(super) committer: Option<Box<dyn Committer>>,
    pub(super) stage: Stage,
    /// What is to be restored.
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) restored: Option<CheckpointId>,
    /// Prepared and not yet committed.
    pub(super) pending: Vec<Committable>,
    /// Up to where it may be committed.
    pub(super) authorized: Option<CheckpointId>,
    pub(super) since_barrier: Vec<SegmentId>,
    pub(super) prepared: Vec<(CheckpointId, SegmentId)>,
    pub(super) bad_records: BadRecords,
    /// Bad records that were written since the last barrier.
    pub(super) n_bad: u64,
}

impl<W> Subtask<W> {
    pub(super) fn new(
        writer: W,
        committer: Option<Box<dyn Committer>>,
        share: Part,
        restored: Option<CheckpointId>,
        bad_records: BadRecords,
    ) -> Self {
        Self {
            writer,
            committer,
            stage: Stage::Made,
            entries: share.entries,
            restored,
            authorized: share.committables.last().map(|committable| committable.checkpoint_id),
            pending: share.committables,
            since_barrier: Vec::new(),
            prepared: Vec::new(),
            bad_records,
            n_bad: 0,
        }
    }

    pub(super) fn n_due(&self) -> usize {
        self.pending.partition_point(|committable| Some(committable.checkpoint_id) <= self.authorized)
    }

    /// Forgets what was committed, and says which records that were.
    pub(super) fn committed(&mut self) -> Vec<SegmentId> {
        let n_due = self.n_due();
        self.pending.drain(..n_due);
        let authorized = self.authorized;
        let is_due = |prepared: &mut (CheckpointId, SegmentId)| Some(prepared.0) <= authorized;
        self.prepared.extract_if(.., is_due).map(|(_, segment)| segment).collect()
    }
}

/// All subtasks from one start of the job to the next.
pub(super) struct Attempt<W> {
    pub(super) subtasks: Vec<Subtask<W>>,
    pub(super) parallelism: usize,
    pub(super) run: u64,
    pub(super) from: Option<Checkpoint>,
    /// Records of each partition that were written.
    pub(super) positions: Vec<u64>,
    /// Which they are.
    pub(super) lineage: Vec<Vec<SegmentId>>,
}

impl<W> Attempt<W> {
    pub(super) fn new(parallelism: usize, run: u64, from: Option<Checkpoint>) -> Self {
        let n = PARTITIONS as usize;
        let (positions, lineage) = match &from {
            Some(from) => (from.positions.clone(), from.lineage.clone()),
            None => (vec![0; n], vec![Vec::new(); n]),
        };
        Self { subtasks: Vec::new(), parallelism, run, from, positions, lineage }
    }

    pub(super) fn is_started(&self) -> bool {
        self.subtasks.len() == self.parallelism
            && self.subtasks.iter().all(|subtask| subtask.stage >= Stage::Started)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.positions.iter().all(|position| *position >= CHUNKS * CHUNK)
    }

    pub(super) fn segments(&self) -> BTreeSet<SegmentId> {
        self.lineage.iter().flatten().copied().collect()
    }
}

/// The partitions that subtask `s` writes.
pub(super) fn partitions_of(s: usize, parallelism: usize) -> impl Iterator<Item = u32> {
    (0..PARTITIONS).filter(move |partition| *partition as usize % parallelism == s)
}

/// The records of a partition's next chunk.
pub(super) fn next_chunk(partition: u32, position: u64) -> Vec<RecordId> {
    let end = (position + CHUNK).min(CHUNKS * CHUNK);
    (position..end).map(|number| RecordId { partition, number }).collect()
}
