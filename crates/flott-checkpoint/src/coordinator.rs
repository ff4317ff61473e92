//! Decides when checkpoints are triggered, complete, given up and deleted.
//!
//! A pure state machine: what happened goes in with the time, what is to be done comes out. It does no IO and knows no clock, so that
//! every order of events can be tested. Whoever drives it performs the actions in order and reports what became of them.
//!
//! Rules that hold whatever comes in:
//! * a number is used for one checkpoint, ever;
//! * a manifest is asked for once per checkpoint, one at a time, and only when every subtask has acknowledged or had finished before;
//! * completion is told after [`Input::ManifestWritten`] only, and in the order of numbers;
//! * files of a checkpoint whose manifest was asked for are deleted only when a newer one is complete: whether the manifest
//!   was written may not be known;
//! * a checkpoint that another one goes on from is kept until that one is complete or known to be none.

mod message;
mod pending;

pub use message::{
    AbortReason, Action, Input, JobStart, ManifestRequest, Now, SavepointRequest, SubtaskPart,
};

use crate::config::CheckpointConfig;
use crate::plan::CheckpointPlan;
use flott_env::{Instant, canary};
use flott_graph::SubtaskId;
use flott_types::{CheckpointBarrier, CheckpointId, CheckpointKind, Error, ErrorKind, FileHandle, Increment};
use pending::{Acknowledgement, PendingCheckpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A checkpoint that somebody waits for, the final one or one that was asked for, is tried again after this time at the earliest.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The state of checkpointing of one job.
#[derive(Debug)]
pub struct CheckpointCoordinator {
    config: CheckpointConfig,
    plan: CheckpointPlan,
    phase: Phase,
    next_id: CheckpointId,
    /// The first number since the job (re)started: what is said about earlier ones is of no interest.
    first_id: CheckpointId,
    pending: BTreeMap<CheckpointId, PendingCheckpoint>,
    /// Complete checkpoints, without savepoints; the last is what a restart goes on from.
    retained: BTreeSet<CheckpointId>,
    /// Failed while the manifest was written, with what they go on from: their files go when a newer one is complete.
    unresolved: BTreeMap<CheckpointId, Option<CheckpointId>>,
    /// Complete savepoints since the job (re)started.
    savepoints: BTreeSet<CheckpointId>,
    finished: BTreeSet<SubtaskId>,
    at_end: BTreeSet<SubtaskId>,
    /// When the next periodic trigger is due; `None` if there are none.
    next_trigger: Option<Instant>,
    /// No trigger before, because of the minimal pause or after a failed final checkpoint.
    not_before: Instant,
    /// The pause after the next last checkpoint whose barrier has overtaken the end of somebody's data.
    last_pause: Duration,
    /// The checkpoint that [`Input::TriggerNow`] asked for, until it is complete.
    wanted: Option<Wanted>,
    /// Failures since the last success.
    n_failed: u32,
}

/// Somebody waits for a checkpoint that is triggered from now on.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// One with a smaller number was triggered before, and does not do.
    first: CheckpointId,
    /// After which time it is tried again if it is given up.
    pause: Duration,
}

/// What may be triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Everything.
    Running,
    /// Nothing: a region of the job does not run.
    RegionDown,
    /// Nothing: a savepoint is under way with which the job stops, or complete.
    StoppingWithSavepoint,
    /// Nothing: the final checkpoint is complete.
    Drained,
    /// Nothing: the subtasks do not run.
    Stopped,
}

impl CheckpointCoordinator {
    /// The coordinator of a job that starts now; the first checkpoint is due one interval later.
    pub fn new(config: CheckpointConfig, plan: CheckpointPlan, start: JobStart, now: Now) -> Self {
        let mut coordinator = Self {
            config,
            plan,
            phase: Phase::Stopped,
            next_id: start.next_checkpoint_id,
            first_id: start.next_checkpoint_id,
            pending: BTreeMap::new(),
            retained: BTreeSet::new(),
            unresolved: BTreeMap::new(),
            savepoints: BTreeSet::new(),
            finished: BTreeSet::new(),
            at_end: BTreeSet::new(),
            next_trigger: None,
            not_before: now.instant,
            last_pause: RETRY_PAUSE,
            wanted: None,
            n_failed: 0,
        };
        coordinator.start(start, now);
        coordinator
    }

    /// Takes in what happened, and says what is to be done.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Tick => {}
            Input::TriggerNow => {
                self.wanted = Some(Wanted { first: self.next_id, pause: RETRY_PAUSE });
                self.hurry(now, Duration::ZERO);
            }
            Input::Acknowledged { checkpoint, subtask, part, bases, end_of_data } => {
                self.on_acknowledged(checkpoint, subtask, (part, bases), end_of_data, &mut actions);
            }
            Input::Declined { checkpoint, subtask, reason } => {
                // Once all have acknowledged, nobody can take it back: the manifest may be written already.
                if self.pending.get(&checkpoint).is_some_and(|pending| !pending.is_acknowledged()) {
                    let reason = AbortReason::Declined(subtask, reason.report());
                    self.abort(checkpoint, reason, now, &mut actions);
                }
            }
            Input::EndOfData(subtask) => {
                self.at_end.insert(subtask);
            }
            Input::SubtaskFinished(subtask) => self.on_finished(subtask, now, &mut actions),
            Input::ManifestWritten { checkpoint } => self.on_written(checkpoint, now, &mut actions),
            Input::ManifestFailed { checkpoint, error } => {
                self.on_manifest_failed(checkpoint, error, now, &mut actions);
            }
            Input::TriggerSavepoint { request, kind } => self.on_savepoint(request, kind, now, &mut actions),
            Input::JobRestarted(start) => {
                self.stop(now, &mut actions);
                self.start(start, now);
            }
            Input::RegionFailed(subtasks) => self.on_region_failed(&subtasks, now, &mut actions),
            Input::RegionRestarted(start) => self.on_region_restarted(start, now),
            Input::JobStopped => self.stop(now, &mut actions),
        }
        self.expire(now, &mut actions);
        self.write_next(&mut actions);
        self.trigger_due(now, &mut actions);
        actions
    }

    /// When [`Input::Tick`] is needed, if nothing else happens; the past means now.
    pub fn next_deadline(&self) -> Option<Instant> {
        let expiring = self.pending.values().filter(|pending| !pending.is_acknowledged());
        expiring.map(|pending| pending.deadline).chain(self.next_due()).min()
    }

    /// Checkpoints and savepoints that are under way.
    pub fn n_pending(&self) -> usize {
        self.pending.len()
    }

    /// The newest complete checkpoint, savepoints apart.
    pub fn latest_complete(&self) -> Option<CheckpointId> {
        self.retained.last().copied()
    }

    /// Whether a region can be started again while others go on: not while the job stops or has come to its end.
    pub fn can_fail_over(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::RegionDown)
    }

    fn on_region_failed(&mut self, subtasks: &BTreeSet<SubtaskId>, now: Now, actions: &mut Vec<Action>) {
        assert!(self.can_fail_over(), "a region cannot fail by itself in phase {:?}", self.phase);
        self.phase = Phase::RegionDown;
        // They go back to before their end.
        self.finished.retain(|id| !subtasks.contains(id));
        self.at_end.retain(|id| !subtasks.contains(id));
        let open = self.pending.values().filter(|pending| !pending.is_acknowledged());
        for id in open.map(|pending| pending.barrier.id).collect::<Vec<_>>() {
            self.abort(id, AbortReason::RegionFailed, now, actions);
        }
    }

    fn on_region_restarted(&mut self, start: JobStart, now: Now) {
        if self.phase != Phase::RegionDown {
            return;
        }
        assert!(
            self.pending.is_empty(),
            "a region was restarted while {:?} were written",
            self.pending.keys()
        );
        assert!(
            self.next_id <= start.next_checkpoint_id && start.retained.last() == self.retained.last(),
            "a region goes on from {:?} and the others from {:?}",
            start.retained,
            self.retained
        );
        self.begin(start, now);
    }

    /// All run, and belong to a new owner.
    fn begin(&mut self, start: JobStart, now: Now) {
        self.phase = Phase::Running;
        self.next_id = start.next_checkpoint_id;
        self.first_id = start.next_checkpoint_id;
        self.retained = start.retained.into_iter().collect();
        // The new owner's garbage collection has them.
        self.unresolved.clear();
        self.savepoints.clear();
        self.not_before = now.instant;
        self.next_trigger = self.config.interval.map(|interval| now.instant + interval);
        if self.wanted.is_some() {
            // What was asked for was given up when the region failed.
            self.hurry(now, Duration::ZERO);
        }
    }

    fn start(&mut self, start: JobStart, now: Now) {
        assert!(
            self.next_id <= start.next_checkpoint_id,
            "numbers never start again: {} was next, {} is now",
            self.next_id,
            start.next_checkpoint_id
        );
        // Who asked is gone.
        self.wanted = None;
        self.begin(start, now);
        self.finished.clear();
        self.at_end.clear();
        self.n_failed = 0;
        self.last_pause = RETRY_PAUSE;
    }

    /// Gives up everything. What may be complete stays: the next owner looks.
    fn stop(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.phase = Phase::Stopped;
        for id in self.pending.keys().copied().collect::<Vec<_>>() {
            self.abort(id, AbortReason::JobStopped, now, actions);
        }
    }

    fn on_acknowledged(
        &mut self,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        (part, bases): (FileHandle, Vec<FileHandle>),
        end_of_data: bool,
        actions: &mut Vec<Action>,
    ) {
        let is_useless = match self.pending.get_mut(&checkpoint) {
            Some(pending) => {
                pending.acknowledge(subtask, part.clone(), bases, end_of_data) == Acknowledgement::Unexpected
            }
            // What is complete, or may be, owns its files; an earlier start's are not ours to judge.
            None => {
                checkpoint >= self.first_id
                    && !self.retained.contains(&checkpoint)
                    && !self.unresolved.contains_key(&checkpoint)
                    && !self.savepoints.contains(&checkpoint)
            }
        };
        if is_useless {
            actions.push(Action::DeleteFiles(vec![part]));
        }
    }

    fn on_finished(&mut self, subtask: SubtaskId, now: Now, actions: &mut Vec<Action>) {
        if !self.finished.insert(subtask) {
            return;
        }
        let waits = |pending: &PendingCheckpoint| pending.missing().contains(&subtask);
        let waiting = self.pending.values().filter(|pending| waits(pending));
        // Its barrier will never come, and what it did since the others' cannot be told apart.
        for id in waiting.map(|pending| pending.barrier.id).collect::<Vec<_>>() {
            self.abort(id, AbortReason::SubtaskFinished(subtask), now, actions);
        }
    }

    fn on_written(&mut self, id: CheckpointId, now: Now, actions: &mut Vec<Action>) {
        if !self.pending.get(&id).is_some_and(|pending| pending.is_writing) {
            // An answer to an earlier start: the new owner has looked for itself.
            return;
        }
        let Some(pending) = self.pending.remove(&id) else { return };
        let kind = pending.barrier.kind;
        let is_final = pending.is_final();
        if kind.commits() {
            self.n_failed = 0;
            self.wanted = self.wanted.filter(|wanted| id < wanted.first);
            self.retained.insert(id);
            self.subsume_before(id, now, actions);
            if is_final {
                self.phase = Phase::Drained;
            }
            if pending.is_last && !is_final {
                self.retry_last(now);
            }
            actions.push(Action::NotifyComplete { id, is_final });
            self.drop_too_many(actions);
        } else {
            self.savepoints.insert(id);
        }
        self.pause(now);
        if let Some(request) = pending.request {
            actions.push(Action::SavepointDone { request, result: Ok(id) });
        }
    }

    /// What was triggered before a complete checkpoint is of no use any more, but for savepoints, which somebody waits for.
    fn subsume_before(&mut self, id: CheckpointId, now: Now, actions: &mut Vec<Action>) {
        let older = self.pending.range(..id).filter(|(_, pending)| pending.request.is_none());
        for older in older.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.abort(older, AbortReason::Subsumed(id), now, actions);
        }
    }

    fn drop_too_many(&mut self, actions: &mut Vec<Action>) {
        let newest = self.retained.last().copied();
        let mut replaced = Vec::new();
        self.unresolved.retain(|id, _| {
            let stays = Some(*id) > newest;
            if !stays {
                replaced.push(*id);
            }
            stays
        });
        // What may still become complete, or may be, needs what it goes on from.
        let pending = self.pending.values().filter_map(PendingCheckpoint::base);
        let bases: BTreeSet<_> = pending.chain(self.unresolved.values().copied().flatten()).collect();
        let n_too_many = self.retained.len().saturating_sub(self.config.num_retained.max(1) as usize);
        let oldest = self.retained.iter().take(n_too_many).copied();
        let mut too_many: Vec<_> = oldest.filter(|id| !bases.contains(id)).collect();
        if canary("subsume-newest") && !too_many.is_empty() {
            too_many.splice(0..1, newest);
        }
        self.retained.retain(|id| !too_many.contains(id));
        replaced.extend(too_many);
        if !replaced.is_empty() {
            actions.push(Action::Subsume { replaced, kept: self.retained.iter().copied().collect() });
        }
    }

    fn on_manifest_failed(&mut self, id: CheckpointId, error: Error, now: Now, actions: &mut Vec<Action>) {
        if !self.pending.get(&id).is_some_and(|pending| pending.is_writing) {
            return;
        }
        let is_fenced = error.kind() == ErrorKind::Fenced;
        self.abort(id, AbortReason::ManifestFailed(error.report()), now, actions);
        if is_fenced {
            // Not counted, not tolerated: somebody else runs the job.
            actions.retain(|action| !matches!(action, Action::FailJob(_)));
            self.stop(now, actions);
            actions.push(Action::FailJob(error));
        }
    }

    fn on_savepoint(
        &mut self,
        request: SavepointRequest,
        kind: CheckpointKind,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        assert!(kind.is_savepoint(), "a savepoint was asked for, of kind {kind:?}");
        let refused = match self.phase {
            Phase::Running => None,
            Phase::RegionDown => Some("a region of the job is being started again"),
            Phase::StoppingWithSavepoint => Some("the job is already stopping with a savepoint"),
            Phase::Drained => Some("the job has processed all of its input"),
            Phase::Stopped => Some("the job is not running"),
        };
        let refused = refused.map(str::to_owned).or_else(|| self.refusal());
        if let Some(why) = refused {
            let error = Error::user(format!("cannot take a savepoint: {why}"));
            actions.push(Action::SavepointDone { request, result: Err(error) });
            return;
        }
        if kind.stops_job() {
            self.phase = Phase::StoppingWithSavepoint;
            for id in self.aborted_by_stop() {
                self.abort(id, AbortReason::StoppingWithSavepoint, now, actions);
            }
        }
        self.trigger(kind, Some(request), now, actions);
    }

    /// Checkpoints whose manifest is not being written yet; one that is is left to end.
    fn aborted_by_stop(&self) -> Vec<CheckpointId> {
        let goes = |pending: &&PendingCheckpoint| pending.request.is_none() && !pending.is_writing;
        self.pending.values().filter(goes).map(|pending| pending.barrier.id).collect()
    }

    /// Why nothing can be triggered although the job runs.
    fn refusal(&self) -> Option<String> {
        if self.plan.triggered(&self.finished).is_empty() {
            return Some("all subtasks have finished".to_owned());
        }
        let is_off = !self.config.after_tasks_finish && !self.finished.is_empty();
        is_off.then(|| {
            let key = flott_types::options::CHECKPOINTING_AFTER_TASKS_FINISH.key;
            format!("subtasks have finished, and '{key}' is false")
        })
    }

    /// Gives up a checkpoint, with everything that follows; nothing if it is not pending.
    fn abort(&mut self, id: CheckpointId, reason: AbortReason, now: Now, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending.remove(&id) else { return };
        let kind = pending.barrier.kind;
        let message = format!("checkpoint {id} was aborted: {reason}");
        let is_failure = reason.is_failure();
        // The write may still go on, or may have worked without an answer. Only for a savepoint that nobody restarts from, and whose
        // write has ended, that does not matter: its requester is told that there is none, so there must be none.
        let is_nobodys_base = kind == CheckpointKind::Savepoint && reason != AbortReason::JobStopped;
        actions.push(Action::NotifyAborted { id, reason });
        if pending.is_writing && !is_nobodys_base && !canary("discard-unresolved") {
            self.unresolved.insert(id, pending.base());
        } else {
            actions.push(Action::Discard { id, kind });
        }
        self.pause(now);
        if pending.request.is_none() {
            self.retry_wanted(id, now);
        }
        if let Some(request) = pending.request {
            self.on_savepoint_aborted(kind, request, message, actions);
        } else if is_failure {
            if pending.is_last {
                self.retry_later(now);
            }
            self.n_failed += 1;
            if self.n_failed > self.config.tolerable_failed {
                let tolerable = self.config.tolerable_failed;
                let text = format!("{message}; {} failed in a row, {tolerable} are tolerable", self.n_failed);
                self.phase = Phase::Stopped;
                actions.push(Action::FailJob(Error::subtask(text)));
            }
        }
    }

    fn on_savepoint_aborted(
        &mut self,
        kind: CheckpointKind,
        request: SavepointRequest,
        message: String,
        actions: &mut Vec<Action>,
    ) {
        let result = Err(Error::new(ErrorKind::Retry, message.clone()));
        actions.push(Action::SavepointDone { request, result });
        if kind.stops_job() && self.phase == Phase::StoppingWithSavepoint {
            // Some sources have stopped and others have not, or event time has ended: only a restart gets the job going again.
            self.phase = Phase::Stopped;
            actions.push(Action::FailJob(Error::subtask(message)));
        }
    }

    /// The minimal pause begins when a checkpoint ends, however it ends.
    fn pause(&mut self, now: Now) {
        self.not_before = self.not_before.max(now.instant + self.config.min_pause);
    }

    /// A final checkpoint is due at once; one that was not what it should be would be followed by the next in a loop without a pause.
    fn retry_later(&mut self, now: Now) {
        self.not_before = self.not_before.max(now.instant + RETRY_PAUSE);
    }

    /// A checkpoint was given up. Whoever waits for it does not wait for the interval, which may be long: each pause is twice the one before, up to
    /// the interval, so that what cannot succeed is not tried all the time.
    fn retry_wanted(&mut self, id: CheckpointId, now: Now) {
        let Some(Wanted { first, pause }) = self.wanted else { return };
        let is_open =
            |(id, pending): (&CheckpointId, &PendingCheckpoint)| *id >= first && pending.request.is_none();
        if id < first || self.pending.iter().any(is_open) {
            return;
        }
        self.hurry(now, pause);
        let longest = self.config.interval.unwrap_or_default().max(RETRY_PAUSE);
        self.wanted = Some(Wanted { first, pause: (2 * pause).min(longest) });
    }

    /// The next periodic checkpoint is due after `pause`, unless it is due before.
    fn hurry(&mut self, now: Now, pause: Duration) {
        self.next_trigger = self.next_trigger.map(|at| at.min(now.instant + pause));
    }

    /// Somebody still works off what the barrier has overtaken. Each pause is twice the one before, so that the end is not noticed much
    /// later than it comes, and checkpoints are few until then.
    fn retry_last(&mut self, now: Now) {
        self.not_before = self.not_before.max(now.instant + self.last_pause);
        let longest = self.config.interval.unwrap_or_default().max(RETRY_PAUSE);
        self.last_pause = (2 * self.last_pause).min(longest);
    }

    fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        let is_expired =
            |pending: &&PendingCheckpoint| !pending.is_acknowledged() && pending.deadline <= now.instant;
        let expired = self.pending.values().filter(is_expired);
        let expired: Vec<_> = expired
            .map(|pending| (pending.barrier.id, pending.missing().iter().copied().collect()))
            .collect();
        for (id, missing) in expired {
            self.abort(id, AbortReason::Expired(missing), now, actions);
        }
    }

    /// Asks for the manifest of the oldest checkpoint that has been acknowledged by all. One at a time, so that they become
    /// complete in the order of their numbers.
    fn write_next(&mut self, actions: &mut Vec<Action>) {
        if self.pending.values().any(|pending| pending.is_writing) {
            return;
        }
        if let Some(next) = self.pending.values_mut().find(|pending| pending.is_acknowledged()) {
            next.is_writing = true;
            if canary("commit-before-manifest") {
                actions.push(Action::NotifyComplete { id: next.barrier.id, is_final: false });
            }
            actions.push(Action::WriteManifest(next.manifest_request()));
        }
    }

    /// Whether everything that is triggered from outside has processed all of its input, so that one more checkpoint commits all.
    fn is_final_due(&self) -> bool {
        let triggered = self.plan.triggered(&self.finished);
        self.config.interval.is_some()
            && self.config.after_tasks_finish
            && !triggered.is_empty()
            && triggered.iter().all(|subtask| self.at_end.contains(subtask))
    }

    /// When the next checkpoint may be triggered, as far as only time is missing.
    fn next_due(&self) -> Option<Instant> {
        let n_periodic = self.pending.values().filter(|pending| pending.request.is_none()).count();
        if self.phase != Phase::Running || self.refusal().is_some() {
            return None;
        }
        if self.is_final_due() {
            // What was triggered before the end goes first: barriers stay in order, and it may be the final one itself.
            return (n_periodic == 0).then_some(self.not_before);
        }
        let has_room = n_periodic < self.config.max_concurrent as usize;
        self.next_trigger.filter(|_| has_room).map(|at| at.max(self.not_before))
    }

    fn trigger_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(due) = self.next_due() else { return };
        if due > now.instant {
            return;
        }
        // From now, not from when it was due: after a long stall there is one checkpoint, not many.
        self.next_trigger = self.config.interval.map(|interval| now.instant + interval);
        self.trigger(CheckpointKind::Checkpoint, None, now, actions);
    }

    /// What the next checkpoint may go on from: the newest that the same subtasks have completed under the same owner. Those that do not know
    /// what has changed since write everything.
    fn increment(&self, kind: CheckpointKind) -> Increment {
        if !self.config.incremental || kind.is_savepoint() {
            return Increment::None;
        }
        let newest = self.retained.last().copied().filter(|id| *id >= self.first_id);
        newest.map_or(Increment::Base, Increment::Since)
    }

    fn trigger(
        &mut self,
        kind: CheckpointKind,
        request: Option<SavepointRequest>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let id = self.next_id;
        self.next_id = CheckpointId(id.0 + 1);
        let barrier =
            CheckpointBarrier { id, timestamp: now.timestamp, kind, increment: self.increment(kind) };
        let deadline = now.instant + self.config.timeout;
        let all = self.plan.subtasks.iter().map(|subtask| subtask.id);
        let mut pending = PendingCheckpoint::new(barrier, deadline, request, all, &self.finished);
        pending.is_last = self.is_final_due();
        self.pending.insert(id, pending);
        actions.push(Action::TriggerSources { barrier, subtasks: self.plan.triggered(&self.finished) });
    }
}

#[cfg(test)]
mod tests;
