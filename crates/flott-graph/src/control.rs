//! What the control plane and subtasks say to each other. In one process these are values in a mailbox; splits are
//! already bytes, since they cross processes elsewhere.

use crate::job_graph::VertexId;
use flott_types::{CheckpointBarrier, CheckpointId, Error, FileHandle, SubtaskIndex, Timestamp, Watermark};
use std::fmt;

/// One parallel instance of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubtaskId {
    /// The vertex.
    pub vertex: VertexId,
    /// The instance.
    pub subtask: SubtaskIndex,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vertex.0, self.subtask)
    }
}

/// What a subtask is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskCommand {
    /// Stop at once; nothing more is emitted.
    Cancel,
    /// More splits to read, serialized.
    AddSplits(Vec<Vec<u8>>),
    /// The first assignment is over; a source without splits is idle.
    SplitsAssigned,
    /// No more splits come.
    NoMoreSplits,
    /// Splits of the alignment group may read up to this time.
    AlignWatermark(Timestamp),
    /// To a subtask that gets no barriers, such as a source: take a snapshot now and send the barrier on.
    TriggerCheckpoint(CheckpointBarrier),
    /// The checkpoint is complete: commit.
    CheckpointComplete(CheckpointId),
    /// The checkpoint will never be complete.
    CheckpointAborted(CheckpointId),
    /// The checkpoint that has just been completed was the last: finish when everything is committed.
    Finish,
}

/// A source reader has nothing left to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitRequest {
    /// The subtask.
    pub subtask: SubtaskId,
    /// How many commands [`TaskCommand::AddSplits`] it has got: with fewer than were sent it does not know yet of what is on its way, and asks
    /// again.
    pub n_seen: u64,
    /// The greatest timestamp that it has read, of a chain of sources.
    pub max_timestamp: Option<Timestamp>,
    /// Whether there can be more for it in what the job reads.
    pub end: SpanEnd,
}

/// What a reader without splits knows of the end of what the job reads. Ordered by certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpanEnd {
    /// More may come.
    Open,
    /// The wall clock is behind the end, and nothing has come for the idle timeout.
    TimedOut,
    /// A split has ended because its watermark was behind the end.
    Passed,
}

/// What a subtask reports.
#[derive(Debug)]
pub enum TaskEvent {
    /// It has opened its operators and runs.
    Running(SubtaskId),
    /// It has processed all its input and emitted everything.
    Finished(SubtaskId),
    /// It has stopped because it was told to.
    Canceled(SubtaskId),
    /// It cannot go on.
    Failed(SubtaskId, Error),
    /// A source reader has read all it has.
    SplitRequested(SplitRequest),
    /// How far the slowest split of the reader is, for its alignment group.
    WatermarkReported(SubtaskId, Watermark),
    /// It has processed all its input, and waits for the last checkpoint to be complete.
    Ended(SubtaskId),
    /// Its part of the checkpoint is in storage.
    CheckpointAcknowledged {
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The file.
        part: FileHandle,
        /// The files of earlier checkpoints that it goes on from, oldest first.
        bases: Vec<FileHandle>,
        /// Whether the snapshot was taken after the end of data.
        end_of_data: bool,
    },
    /// It cannot take part in the checkpoint.
    CheckpointDeclined(SubtaskId, CheckpointId, Error),
}

impl TaskEvent {
    /// Who reports.
    pub fn subtask(&self) -> SubtaskId {
        match self {
            Self::Running(id)
            | Self::Finished(id)
            | Self::Canceled(id)
            | Self::Failed(id, _)
            | Self::WatermarkReported(id, _)
            | Self::Ended(id)
            | Self::CheckpointAcknowledged { subtask: id, .. }
            | Self::CheckpointDeclined(id, ..) => *id,
            Self::SplitRequested(request) => request.subtask,
        }
    }
}
