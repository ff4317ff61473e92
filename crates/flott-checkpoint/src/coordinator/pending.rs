//! One checkpoint that has been triggered and is not complete.

use super::message::{ManifestRequest, SavepointRequest, SubtaskPart};
use flott_env::Instant;
use flott_graph::SubtaskId;
use flott_types::{CheckpointBarrier, CheckpointId, FileHandle, Increment};
use std::collections::{BTreeMap, BTreeSet};

/// Its life: acknowledgements come in; when none is missing the manifest waits for its turn; then it is being written.
#[derive(Debug)]
pub(super) struct PendingCheckpoint {
    pub(super) barrier: CheckpointBarrier,
    pub(super) deadline: Instant,
    /// Who asked, if it is a savepoint.
    pub(super) request: Option<SavepointRequest>,
    /// Whether it was triggered because all input had been processed.
    pub(super) is_last: bool,
    missing: BTreeSet<SubtaskId>,
    parts: BTreeMap<SubtaskId, SubtaskPart>,
    pub(super) is_writing: bool,
}

/// What became of an acknowledgement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// It counts.
    Taken,
    /// It had come before, with the same file.
    Repeated,
    /// It had come before, with another file, or its sender takes no part.
    Unexpected,
}

/// The checkpoint that one may go on from.
pub(super) fn base_of(barrier: &CheckpointBarrier) -> Option<CheckpointId> {
    match barrier.increment {
        Increment::Since(base) => Some(base),
        Increment::None | Increment::Base => None,
    }
}

impl PendingCheckpoint {
    pub(super) fn new(
        barrier: CheckpointBarrier,
        deadline: Instant,
        request: Option<SavepointRequest>,
        all: impl Iterator<Item = SubtaskId>,
        finished: &BTreeSet<SubtaskId>,
    ) -> Self {
        let (gone, missing): (BTreeSet<_>, _) = all.partition(|subtask| finished.contains(subtask));
        let had_finished = SubtaskPart { file: None, bases: Vec::new(), finished: true };
        let parts = gone.into_iter().map(|subtask| (subtask, had_finished.clone())).collect();
        Self { barrier, deadline, request, is_last: false, missing, parts, is_writing: false }
    }

    pub(super) fn acknowledge(
        &mut self,
        subtask: SubtaskId,
        part: FileHandle,
        bases: Vec<FileHandle>,
        end_of_data: bool,
    ) -> Acknowledgement {
        if self.missing.remove(&subtask) {
            self.parts.insert(subtask, SubtaskPart { file: Some(part), bases, finished: end_of_data });
            return Acknowledgement::Taken;
        }
        match self.parts.get(&subtask) {
            Some(SubtaskPart { file: Some(taken), .. }) if taken.path == part.path => {
                Acknowledgement::Repeated
            }
            _ => Acknowledgement::Unexpected,
        }
    }

    /// The checkpoint whose files its parts may name.
    pub(super) fn base(&self) -> Option<CheckpointId> {
        base_of(&self.barrier)
    }

    /// Who has not answered.
    pub(super) fn missing(&self) -> &BTreeSet<SubtaskId> {
        &self.missing
    }

    /// Whether the manifest can be written.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.missing.is_empty()
            || (self.missing.len() == 1 && flott_env::canary("forget-one-acknowledgement"))
    }

    /// Whether a job that is restored from it has nothing left to process.
    pub(super) fn is_final(&self) -> bool {
        self.is_acknowledged() && self.parts.values().all(|part| part.finished)
    }

    pub(super) fn manifest_request(&self) -> ManifestRequest {
        assert!(self.is_acknowledged(), "checkpoint {} lacks {:?}", self.barrier.id, self.missing);
        ManifestRequest { barrier: self.barrier, is_final: self.is_final(), parts: self.parts.clone() }
    }
}
