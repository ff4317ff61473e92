//! Drives the coordinator of checkpoints in one attempt: keeps what it needs between its actions, and has IO done beside the
//! master's loop.

#[cfg(test)]
mod tests;
mod worker;

use crate::metrics::JobMetrics;
use flott_checkpoint::{
    AbortReason, Action, CheckpointConfig, CheckpointCoordinator, CheckpointOwner, CheckpointPlan,
    CheckpointStorage, EndedJob, Input, JobStart, Location, ManifestRequest, Now, OpenSnapshot,
    RestoreOptions, RestoredState, SavepointRequest, StartFrom, open_snapshot,
};
use flott_env::sync::{mpsc, oneshot};
use flott_env::{Env, Instant, TaskHandle, canary};
use flott_types::{CheckpointId, CheckpointKind, Error, ErrorKind, FileHandle, OperatorUid, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tracing::{Instrument, Span, info, warn};
pub(crate) use worker::{ManifestOutcome, report_cleanup};
use worker::{STORAGE_TASKS_MAX, StorageTask, work};

/// How a job takes checkpoints and where it goes on from.
#[derive(Clone, Debug)]
pub struct CheckpointSetup {
    /// Settings.
    pub config: CheckpointConfig,
    /// Who takes part.
    pub plan: CheckpointPlan,
    /// Where checkpoints and savepoints are.
    pub storage: CheckpointStorage,
    /// The snapshot to start from, if the user named one (`execution.state-recovery.path`).
    pub recovery_path: Option<Location>,
    /// Whether the job owns that from then on. (`execution.state-recovery.claim-mode`)
    pub claims: bool,
    /// What a restore may do.
    pub restore_options: RestoreOptions,
}

/// Where a savepoint is, or why there is none.
pub type SavepointResult = Result<String>;

/// What an attempt begins with.
pub(crate) struct Recovered {
    pub(crate) owner: CheckpointOwner,
    pub(crate) retained: Vec<CheckpointId>,
    pub(crate) next_checkpoint_id: CheckpointId,
    pub(crate) restored: Option<RestoredState>,
    /// Of the job's generations.
    pub(crate) history: u128,
}

/// What there is for a start to do.
pub(crate) enum Recovery {
    /// To run the job.
    Run(Box<Recovered>),
    /// To say how it ended.
    Ended(EndedJob),
}

impl CheckpointSetup {
    /// Takes ownership and reads the state to go on from; `has_started` if an earlier attempt came that far. Blocks on IO.
    pub(crate) fn recover(&self, env: &Env, has_started: bool) -> Result<Recovery> {
        let open = |snapshot: &OpenSnapshot| RestoredState::open(snapshot, &self.plan, self.restore_options);
        // Later attempts go on from what the first has completed, or from what it started from: the storage knows.
        let from = match &self.recovery_path {
            Some(path) if !has_started => {
                match open_snapshot(env, path) {
                    Ok(snapshot) => {
                        // Before it is recorded as what the job goes on from: a snapshot that does not fit leaves no trace.
                        open(&snapshot)?;
                        let job_id = self.storage.job_id();
                        StartFrom::Snapshot(if self.claims { snapshot.claim(env, job_id)? } else { snapshot })
                    }
                    Err(_) if self.claims && self.storage.has_claimed(path)? => {
                        StartFrom::Claimed(path.clone())
                    }
                    Err(error) => return Err(error),
                }
            }
            Some(_) | None => StartFrom::Latest,
        };
        if let Some(ended) = self.storage.unreported_end(&from)? {
            return Ok(Recovery::Ended(ended));
        }
        let started = self.storage.start(from)?;
        Ok(Recovery::Run(Box::new(Recovered {
            restored: started.restore_from.as_ref().map(open).transpose()?,
            owner: started.owner,
            retained: started.retained,
            next_checkpoint_id: started.next_checkpoint_id,
            history: started.history.0,
        })))
    }
}

/// A checkpoint that has been triggered.
struct UnderWay {
    since: Instant,
    /// The states of the enumerators at the trigger, until they are in the manifest.
    enumerators: Option<BTreeMap<OperatorUid, Vec<u8>>>,
    /// The bytes of the parts, when all are known.
    bytes: u64,
}

/// The checkpoints of one attempt.
pub(crate) struct Checkpointing {
    env: Env,
    coordinator: CheckpointCoordinator,
    plan: CheckpointPlan,
    owner: CheckpointOwner,
    /// `None` while nobody owns the job: a region of it has failed.
    storage: Option<(mpsc::Sender<StorageTask>, TaskHandle)>,
    outcomes: mpsc::Receiver<ManifestOutcome>,
    under_way: BTreeMap<CheckpointId, UnderWay>,
    metrics: Arc<JobMetrics>,
    /// No smaller than any number that was used.
    next_checkpoint_id: CheckpointId,
    requests: BTreeMap<SavepointRequest, (CheckpointKind, oneshot::Sender<SavepointResult>)>,
    n_requests: u64,
    stopping: Vec<StopReply>,
}

impl fmt::Debug for Checkpointing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointing").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

impl Checkpointing {
    /// Begins when all subtasks run.
    pub(crate) fn new(
        env: &Env,
        setup: &CheckpointSetup,
        start: JobStart,
        owner: CheckpointOwner,
        metrics: &Arc<JobMetrics>,
    ) -> Self {
        let now = now(env);
        let next_checkpoint_id = start.next_checkpoint_id;
        let coordinator = CheckpointCoordinator::new(setup.config.clone(), setup.plan.clone(), start, now);
        // No sender is kept here: the first storage has one before anybody looks.
        let (_, outcomes) = mpsc::channel(1);
        let mut checkpointing = Self {
            env: env.clone(),
            coordinator,
            plan: setup.plan.clone(),
            owner,
            storage: None,
            outcomes,
            under_way: BTreeMap::new(),
            metrics: Arc::clone(metrics),
            next_checkpoint_id,
            requests: BTreeMap::new(),
            n_requests: 0,
            stopping: Vec::new(),
        };
        checkpointing.open_storage();
        checkpointing
    }

    /// Begins to do IO as the owner that is known now.
    fn open_storage(&mut self) {
        let (storage_tasks, tasks) = mpsc::channel(STORAGE_TASKS_MAX);
        let (done, outcomes) = mpsc::channel(STORAGE_TASKS_MAX);
        let work =
            work(self.owner.clone(), tasks, done, Arc::clone(&self.metrics)).instrument(Span::current());
        let worker = self.env.spawn_subtask("checkpoint storage", work);
        // The first task: what earlier starts left. The queue is empty, so there is room.
        drop(storage_tasks.try_send(StorageTask::CollectGarbage));
        self.outcomes = outcomes;
        self.storage = Some((storage_tasks, worker));
    }

    /// Does what was asked for, and nothing from then on: another owner is about to take over.
    pub(crate) async fn close_storage(&mut self) {
        if let Some((storage_tasks, worker)) = self.storage.take() {
            drop(storage_tasks);
            // Nobody reads outcomes: there is room for all that can be under way.
            drop(worker.await);
        }
    }

    /// Goes on as `owner`, which has taken over from the one before.
    pub(crate) fn take_over(&mut self, owner: CheckpointOwner, start: &JobStart) {
        self.owner = owner;
        self.next_checkpoint_id = self.next_checkpoint_id.max(start.next_checkpoint_id);
        self.open_storage();
    }

    /// Whether a region can be started again by itself.
    pub(crate) fn can_fail_over(&self) -> bool {
        self.coordinator.can_fail_over()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.coordinator.n_pending() == 0
    }

    /// What a restart goes on from, as far as it is known here.
    pub(crate) fn latest_complete(&self) -> Option<CheckpointId> {
        self.coordinator.latest_complete()
    }

    /// What became of manifests, to be fed back by [`Checkpointing::on_manifest`].
    pub(crate) fn outcomes(&mut self) -> &mut mpsc::Receiver<ManifestOutcome> {
        &mut self.outcomes
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.coordinator.next_deadline()
    }

    pub(crate) fn handle(&mut self, input: Input) -> Vec<Action> {
        self.coordinator.handle(now(&self.env), input)
    }

    pub(crate) fn on_manifest(&mut self, (checkpoint, outcome): ManifestOutcome) -> Vec<Action> {
        self.handle(match outcome {
            Ok(()) => Input::ManifestWritten { checkpoint },
            Err(error) => Input::ManifestFailed { checkpoint, error },
        })
    }

    pub(crate) fn savepoint(
        &mut self,
        kind: CheckpointKind,
        reply: oneshot::Sender<SavepointResult>,
    ) -> Vec<Action> {
        self.n_requests += 1;
        let request = SavepointRequest(self.n_requests);
        self.requests.insert(request, (kind, reply));
        self.handle(Input::TriggerSavepoint { request, kind })
    }

    /// The enumerators' part of a checkpoint that is being triggered.
    pub(crate) fn hold_enumerators(&mut self, id: CheckpointId, states: BTreeMap<OperatorUid, Vec<u8>>) {
        self.next_checkpoint_id = self.next_checkpoint_id.max(CheckpointId(id.0 + 1));
        let states = if canary("lose-enumerator-state") { BTreeMap::new() } else { states };
        let under_way = UnderWay { since: self.env.now(), enumerators: Some(states), bytes: 0 };
        self.under_way.insert(id, under_way);
    }

    /// A number that no checkpoint has.
    pub(crate) fn next_checkpoint_id(&self) -> CheckpointId {
        self.next_checkpoint_id
    }

    /// Has the manifest of a checkpoint written.
    ///
    /// # Errors
    /// If the states of its enumerators are not known. Without them the checkpoint would look complete, and a restore would read from the start
    /// what had not been assigned.
    pub(crate) async fn write_manifest(&mut self, request: &ManifestRequest) -> Result<()> {
        let id = request.barrier.id;
        let under_way = self.under_way.get_mut(&id);
        let Some((under_way, enumerators)) =
            under_way.and_then(|it| it.enumerators.take().map(|states| (it, states)))
        else {
            let message =
                format!("cannot write the manifest of checkpoint {id}: it has no states of enumerators");
            return Err(Error::subtask(message));
        };
        under_way.bytes = request.parts.values().filter_map(|part| Some(part.file.as_ref()?.len)).sum();
        let manifest = self.owner.manifest(&self.plan, request, &enumerators);
        self.ask(StorageTask::Complete(Box::new(manifest))).await;
        Ok(())
    }

    /// A checkpoint or savepoint is complete.
    pub(crate) fn on_complete(&mut self, id: CheckpointId, what: &str) {
        let Some(UnderWay { since, bytes, .. }) = self.under_way.remove(&id) else { return };
        let duration = self.env.now() - since;
        self.metrics.on_checkpoint_completed(duration, bytes);
        info!(checkpoint = id.0, duration_ms = duration.as_millis() as u64, bytes, "{what} completed");
    }

    /// A checkpoint or savepoint will never be complete.
    pub(crate) fn on_aborted(&mut self, id: CheckpointId, reason: &AbortReason) {
        let duration =
            self.under_way.remove(&id).map_or_else(Default::default, |it| self.env.now() - it.since);
        self.metrics.on_checkpoint_failed();
        let duration_ms = duration.as_millis() as u64;
        if reason.is_failure() {
            warn!(checkpoint = id.0, duration_ms, %reason, "checkpoint failed");
        } else {
            info!(checkpoint = id.0, duration_ms, %reason, "checkpoint aborted");
        }
    }

    pub(crate) async fn discard(&mut self, id: CheckpointId, kind: CheckpointKind) {
        self.ask(StorageTask::Discard(id, kind)).await;
    }

    pub(crate) async fn subsume(&mut self, replaced: Vec<CheckpointId>, kept: Vec<CheckpointId>) {
        self.ask(StorageTask::Subsume { replaced, kept }).await;
    }

    pub(crate) async fn delete_files(&mut self, files: Vec<FileHandle>) {
        self.ask(StorageTask::DeleteFiles(files)).await;
    }

    async fn ask(&mut self, task: StorageTask) {
        if let Some((storage_tasks, _)) = &self.storage {
            // The worker ends only after this side.
            drop(storage_tasks.send(task).await);
        }
    }

    /// Answers who asked for a savepoint; returns its kind. Who asked to stop the job with it hears of it when the job has stopped.
    pub(crate) fn reply(
        &mut self,
        request: SavepointRequest,
        result: Result<CheckpointId>,
    ) -> Option<CheckpointKind> {
        let (kind, reply) = self.requests.remove(&request)?;
        match result {
            Ok(id) if kind.stops_job() => {
                self.stopping.push(StopReply { reply, directory: self.owner.directory(id, kind) });
            }
            // Who asked may have gone.
            result => drop(reply.send(result.map(|id| self.owner.directory(id, kind)))),
        }
        Some(kind)
    }

    /// The attempt is over: nothing is triggered any more, and what is being written is finished, so that the next attempt sees it.
    ///
    /// Returns who waits for the job to have stopped.
    pub(crate) async fn stop(mut self) -> Vec<StopReply> {
        for action in self.handle(Input::JobStopped) {
            match action {
                Action::SavepointDone { request, result } => drop(self.reply(request, result)),
                Action::NotifyAborted { id, reason } => self.on_aborted(id, &reason),
                // What is to be deleted is left to the next start, and subtasks do not listen any more.
                Action::Discard { .. } | Action::Subsume { .. } | Action::DeleteFiles(_) => {}
                Action::TriggerSources { .. }
                | Action::WriteManifest(_)
                | Action::NotifyComplete { .. }
                | Action::FailJob(_) => {}
            }
        }
        self.close_storage().await;
        self.stopping
    }
}

/// Somebody who has asked to stop the job with a savepoint. The savepoint is complete, but what it counts as committed need not be: if a
/// commit fails the job goes on, and whoever started another from the savepoint would have the output twice (FLINK-26783).
#[derive(Debug)]
pub(crate) struct StopReply {
    reply: oneshot::Sender<SavepointResult>,
    directory: String,
}

impl StopReply {
    /// The directory of the savepoint.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// The job has stopped, and that is recorded.
    pub(crate) fn stopped(self) {
        // Who asked may have gone.
        drop(self.reply.send(Ok(self.directory)));
    }

    /// The job goes on, or has failed.
    pub(crate) fn failed(self) {
        let message = format!(
            "the job has not stopped: it failed behind the savepoint '{}', which must not be used while the job goes on",
            self.directory
        );
        drop(self.reply.send(Err(Error::new(ErrorKind::Retry, message))));
    }
}

fn now(env: &Env) -> Now {
    Now { instant: env.now(), timestamp: env.processing_time() }
}

/// Runs `f`, which blocks, on a thread of its own.
pub(crate) async fn blocking<R: Send + 'static>(
    env: &Env,
    name: &str,
    f: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    let (sender, receiver) = oneshot::channel();
    let task = env.spawn_subtask(name, async move { drop(sender.send(f())) });
    match receiver.await {
        Ok(result) => result,
        Err(_) => {
            let panic = task.await.err().map(|panic| panic.0).unwrap_or_default();
            Err(Error::subtask(format!("the task '{name}' stopped: {panic}")))
        }
    }
}
