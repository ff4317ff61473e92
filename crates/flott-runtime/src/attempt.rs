//! What one attempt to run a job has that others have not: its number, where its snapshots go, and what it goes on from.

use flott_api::SinkGeneration;
use flott_graph::SubtaskId;
use flott_state::{OperatorSnapshot, SnapshotWriter};
use flott_types::{CheckpointBarrier, CheckpointId, CheckpointingMode, OperatorUid, Result, SubtaskIndex};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Begins to write what the operators of one subtask leave for a checkpoint. It may block; it is called on a thread of its own, and
/// so is what it returns.
pub type BeginPart =
    Arc<dyn Fn(&CheckpointBarrier, SubtaskId) -> Result<Box<dyn SnapshotWriter>> + Send + Sync>;

/// How an attempt takes checkpoints.
#[derive(Clone)]
pub struct AttemptCheckpoints {
    /// Whether barriers are aligned.
    pub mode: CheckpointingMode,
    /// How often, if nothing is slow; `None` if only when somebody asks.
    pub interval: Option<Duration>,
    /// How long after a failure the job starts again, at most.
    pub restart_delay: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// So long after their trigger the barriers of checkpoints begin to overtake records; `None` if they never do.
    pub unaligned_after: Option<Duration>,
    /// What subtasks do that have processed all their input.
    pub at_end: AtEnd,
    /// Where snapshots go.
    pub begin_part: BeginPart,
}

/// What subtasks do that have processed all their input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// They take part in checkpoints until the last one has been completed and committed. (FLINK-38614 is what happens otherwise.)
    AwaitLastCheckpoint,
    /// They commit everything and finish: there are savepoints only, or checkpoints end with the first subtask that does.
    Finish,
}

impl fmt::Debug for AttemptCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptCheckpoints").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// The state that an attempt goes on from, already divided among its subtasks.
#[derive(Clone, Debug, Default)]
pub struct RestoredSnapshots {
    /// The checkpoint.
    pub checkpoint_id: Option<CheckpointId>,
    /// By operator and subtask. An operator that is not here starts empty.
    pub snapshots: BTreeMap<(OperatorUid, SubtaskIndex), OperatorSnapshot>,
    /// What was in flight to an operator, by the same.
    pub in_flight: InFlight,
}

/// The entries of [`flott_state::IN_FLIGHT`] by operator and subtask.
pub type InFlight = BTreeMap<(OperatorUid, SubtaskIndex), Vec<Vec<u8>>>;

/// One attempt to run a job.
#[derive(Clone, Debug)]
pub struct AttemptSpec {
    /// How many attempts there were before in this process.
    pub number: u32,
    /// A number that no other attempt of any job has.
    pub run_id: u64,
    /// The `run_id` of the last attempt that started the whole job: another if this one starts a region of it.
    pub execution_id: u64,
    /// For sinks to fence earlier attempts off.
    pub generation: Option<SinkGeneration>,
    /// `None` if the job takes no checkpoints.
    pub checkpoints: Option<AttemptCheckpoints>,
    /// What it goes on from; empty for nothing.
    pub restored: RestoredSnapshots,
}

impl AttemptSpec {
    /// The first attempt of a job without checkpoints.
    pub fn first(run_id: u64) -> Self {
        Self {
            number: 0,
            run_id,
            execution_id: run_id,
            generation: None,
            checkpoints: None,
            restored: RestoredSnapshots::default(),
        }
    }

    /// When barriers overtake records, if they do.
    pub(crate) fn unaligned_after(&self) -> Option<Duration> {
        self.checkpoints.as_ref().and_then(|checkpoints| checkpoints.unaligned_after)
    }

    pub(crate) fn awaits_last_checkpoint(&self) -> bool {
        self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.at_end == AtEnd::AwaitLastCheckpoint)
    }
}
