//! What goes into the coordinator and what comes out.

use flott_env::Instant;
use flott_graph::SubtaskId;
use flott_types::{CheckpointBarrier, CheckpointId, CheckpointKind, Error, FileHandle, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The time, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the monotonic clock: decides what is due.
    pub instant: Instant,
    /// In milliseconds since the epoch: goes into barriers and manifests.
    pub timestamp: Timestamp,
}

/// Stands for who asked for a savepoint; chosen by the caller, and given back with the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SavepointRequest(pub u64);

/// How a job starts: see [`Started`](crate::Started) and [`RestoredState`](crate::RestoredState).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStart {
    /// The first number that is free.
    pub next_checkpoint_id: CheckpointId,
    /// Complete checkpoints, oldest first.
    pub retained: Vec<CheckpointId>,
}

/// What has happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed: [`next_deadline`](crate::CheckpointCoordinator::next_deadline) was reached, or nothing special.
    Tick,
    /// A periodic checkpoint is wanted now: one that was triggered before does not do, and if it is given up it is tried again soon. Nothing happens
    /// in a job without periodic checkpoints.
    TriggerNow,
    /// A subtask has taken part: its snapshot is durable.
    Acknowledged {
        /// In which checkpoint.
        checkpoint: CheckpointId,
        /// Who.
        subtask: SubtaskId,
        /// What [`write_part`](crate::CheckpointOwner::write_part) returned.
        part: FileHandle,
        /// The files of earlier checkpoints that it goes on from, oldest first.
        bases: Vec<FileHandle>,
        /// Whether the snapshot was taken after the subtask had processed all of its input, end of data included.
        end_of_data: bool,
    },
    /// A subtask cannot take part.
    Declined {
        /// In which checkpoint.
        checkpoint: CheckpointId,
        /// Who.
        subtask: SubtaskId,
        /// Why.
        reason: Error,
    },
    /// A subtask has processed all of its input, but stays for the final checkpoint and takes part until then.
    EndOfData(SubtaskId),
    /// A subtask is gone because its work is done: it has nothing that waits for a commit, and takes part no more.
    SubtaskFinished(SubtaskId),
    /// [`complete`](crate::CheckpointOwner::complete) returned `Ok`.
    ManifestWritten {
        /// For which checkpoint.
        checkpoint: CheckpointId,
    },
    /// [`complete`](crate::CheckpointOwner::complete) returned an error.
    ManifestFailed {
        /// For which checkpoint.
        checkpoint: CheckpointId,
        /// What it returned.
        error: Error,
    },
    /// Somebody wants a savepoint; the kind says whether the job stops with it, and how.
    TriggerSavepoint {
        /// Given back with the result.
        request: SavepointRequest,
        /// Any but [`CheckpointKind::Checkpoint`].
        kind: CheckpointKind,
    },
    /// All subtasks run again (or for the first time), from what [`CheckpointStorage::start`](crate::CheckpointStorage::start) found.
    JobRestarted(JobStart),
    /// A region of the job has failed, with these subtasks: nothing is triggered until [`Input::RegionRestarted`]. What it has not acknowledged it
    /// never will; what all have acknowledged becomes complete.
    RegionFailed(BTreeSet<SubtaskId>),
    /// All regions run again, those that had failed from the newest complete checkpoint, and
    /// [`CheckpointStorage::start`](crate::CheckpointStorage::start) has recorded that.
    RegionRestarted(JobStart),
    /// The job fails, is cancelled or restarts soon: nothing is triggered until [`Input::JobRestarted`].
    JobStopped,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Action {
    /// Take the state of all split enumerators, then send the trigger to these subtasks: those that get no barrier from others.
    TriggerSources {
        /// What the sources let into their output.
        barrier: CheckpointBarrier,
        /// Whom to tell.
        subtasks: Vec<SubtaskId>,
    },
    /// Everybody has answered: write the manifest ([`CheckpointOwner::manifest`](crate::CheckpointOwner::manifest), then
    /// [`complete`](crate::CheckpointOwner::complete)) and report. There is one at a time.
    WriteManifest(ManifestRequest),
    /// Tell all subtasks and enumerators that the checkpoint is complete: committables up to it are committed.
    NotifyComplete {
        /// Which.
        id: CheckpointId,
        /// The checkpoint was taken after all input had been processed: once it has been committed, the job has finished.
        is_final: bool,
    },
    /// Tell all subtasks that the checkpoint will never be complete.
    NotifyAborted {
        /// Which.
        id: CheckpointId,
        /// Why.
        reason: AbortReason,
    },
    /// Call [`discard`](crate::CheckpointOwner::discard): it was aborted.
    Discard {
        /// Which.
        id: CheckpointId,
        /// Of what kind it was.
        kind: CheckpointKind,
    },
    /// Call [`subsume`](crate::CheckpointOwner::subsume): newer ones have replaced some.
    Subsume {
        /// These.
        replaced: Vec<CheckpointId>,
        /// What stays, with all files that it goes on from.
        kept: Vec<CheckpointId>,
    },
    /// Call [`delete_files`](crate::CheckpointOwner::delete_files): they came too late.
    DeleteFiles(Vec<FileHandle>),
    /// The attempt cannot go on; [`ErrorKind::Fenced`](flott_types::ErrorKind::Fenced) means that somebody else runs the job, anything
    /// else is for the restart strategy.
    FailJob(Error),
    /// A savepoint is complete, or will never be. For one that stops the job: stop, once it has been committed.
    SavepointDone {
        /// Who asked.
        request: SavepointRequest,
        /// Its number, for [`directory`](crate::CheckpointOwner::directory).
        result: Result<CheckpointId, Error>,
    },
}

/// Everything about a manifest that the coordinator knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRequest {
    /// Number, kind and time of trigger.
    pub barrier: CheckpointBarrier,
    /// Whether all subtasks had processed all of their input.
    pub is_final: bool,
    /// Every subtask of the job.
    pub parts: BTreeMap<SubtaskId, SubtaskPart>,
}

/// What one subtask contributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtaskPart {
    /// Its file; `None` if it had finished before the checkpoint began.
    pub file: Option<FileHandle>,
    /// The files of earlier checkpoints that this one goes on from, oldest first.
    pub bases: Vec<FileHandle>,
    /// Whether it had processed all of its input.
    pub finished: bool,
}

/// Why a checkpoint was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// Not everybody had answered when the time-out had passed; who had not.
    Expired(Vec<SubtaskId>),
    /// A subtask declined, and what it said.
    Declined(SubtaskId, String),
    /// A subtask finished instead of answering; the next checkpoint goes without it.
    SubtaskFinished(SubtaskId),
    /// A newer one was complete first.
    Subsumed(CheckpointId),
    /// The manifest could not be written, and what the store said.
    ManifestFailed(String),
    /// A savepoint with which the job stops goes first.
    StoppingWithSavepoint,
    /// A region of the job failed.
    RegionFailed,
    /// The job failed, restarted or was stopped.
    JobStopped,
}

impl AbortReason {
    /// Whether something went wrong, so that it counts against `execution.checkpointing.tolerable-failed-checkpoints`.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Expired(_) | Self::Declined(..) | Self::ManifestFailed(_) => true,
            Self::SubtaskFinished(_)
            | Self::Subsumed(_)
            | Self::StoppingWithSavepoint
            | Self::RegionFailed
            | Self::JobStopped => false,
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(missing) => {
                let shown: Vec<_> = missing.iter().take(5).map(SubtaskId::to_string).collect();
                write!(f, "expired while {} subtasks had not answered: {}", missing.len(), shown.join(", "))
            }
            Self::Declined(subtask, why) => write!(f, "subtask {subtask} declined: {why}"),
            Self::SubtaskFinished(subtask) => write!(f, "subtask {subtask} finished meanwhile"),
            Self::Subsumed(by) => write!(f, "checkpoint {by} was complete first"),
            Self::ManifestFailed(why) => write!(f, "the manifest could not be written: {why}"),
            Self::StoppingWithSavepoint => f.write_str("the job is stopping with a savepoint"),
            Self::RegionFailed => f.write_str("a region of the job failed"),
            Self::JobStopped => f.write_str("the job stopped"),
        }
    }
}
