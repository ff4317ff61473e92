//! The loop around one job: events in, commands out, and another attempt after a failure.

mod failover;

use crate::attempt::Attempt;
use crate::checkpoints::{
    CheckpointSetup, Checkpointing, ManifestOutcome, Recovery, SavepointResult, StopReply, blocking,
    report_cleanup,
};
use crate::enumerators::EnumeratorFactory;
use crate::inbox::Inbox;
use crate::job_state::JobStatus;
use crate::metrics::JobMetrics;
use crate::restart::RestartStrategy;
use flott_api::{SourceSpan, StartingPosition, WatermarkAlignment};
use flott_checkpoint::{
    CheckpointOwner, EndReport, EndedJob, Input as CheckpointInput, JobEnding, JobStart, RestoredState,
};
use flott_env::sync::{mpsc, oneshot, watch};
use flott_env::{Env, Instant};
use flott_graph::{SubtaskId, TaskCommand, TaskEvent, VertexId};
use flott_types::{
    CheckpointId, CheckpointKind, Error, ErrorKind, ExternalizedCheckpointRetention, OperatorUid, Result,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tracing::{info, warn};

/// A source of the job.
#[derive(Clone)]
pub struct SourceSpec {
    /// The vertex that its readers head.
    pub vertex: VertexId,
    /// Number of readers.
    pub parallelism: u32,
    /// What the source is called.
    pub name: String,
    /// Under which its state is found again.
    pub uid: OperatorUid,
    /// Makes its enumerator.
    pub enumerator: EnumeratorFactory,
    /// Its alignment group.
    pub alignment: Option<WatermarkAlignment>,
    /// What is read of it.
    pub span: SourceSpan,
    /// Whether event time is the timestamps that it gives.
    pub has_own_timestamps: bool,
}

impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// [`JobStatus::Finished`] or [`JobStatus::Canceled`].
    pub status: JobStatus,
    /// How often it was started again.
    pub restarts: u32,
    /// The directory of the savepoint that it stopped with, below that of savepoints.
    pub savepoint: Option<String>,
    /// The job had ended before, in a process that died before anybody heard of it; it has not run again.
    pub is_recorded: bool,
    /// Whom to tell that somebody has heard of the end; `None` if nobody else will ever ask.
    pub report: Option<EndReport>,
}

impl JobEnd {
    fn recorded(ended: EndedJob) -> Self {
        let JobEnding { canceled, restarts, savepoint, .. } = ended.ending;
        let status = if canceled { JobStatus::Canceled } else { JobStatus::Finished };
        Self { status, restarts, savepoint, is_recorded: true, report: Some(ended.report) }
    }
}

/// How a job ended, or its last failure.
pub type JobResult = std::result::Result<JobEnd, Error>;

/// What a client asks of a running job.
#[derive(Debug)]
pub enum JobControl {
    /// Stop at once.
    Cancel,
    /// Take a savepoint of this kind and say where it is.
    Savepoint(CheckpointKind, oneshot::Sender<SavepointResult>),
}

/// What an attempt is started with.
#[derive(Debug)]
pub struct AttemptStart {
    /// How many attempts there were before.
    pub number: u32,
    /// Writes the parts of checkpoints; `None` if the job takes none.
    pub owner: Option<CheckpointOwner>,
    /// Which history of the job the owner's generation belongs to.
    pub history: u128,
    /// The state to go on from.
    pub restored: Option<RestoredState>,
    /// Where subtasks report.
    pub events: mpsc::Sender<TaskEvent>,
    /// The subtasks to start, if only a region is started again: the others of the attempt before go on.
    pub region: Option<BTreeSet<SubtaskId>>,
}

/// Starts the subtasks of attempts.
pub trait Deployer: Send + Sync {
    /// Starts all subtasks, or those of a region; returns where each takes commands. Parts of subtasks that go on are written by the new owner from
    /// now on. It may block.
    ///
    /// # Errors
    /// If the program or its state do not fit together.
    fn deploy(&self, start: AttemptStart) -> Result<BTreeMap<SubtaskId, mpsc::Sender<TaskCommand>>>;
}

/// What the master of a job is made with.
pub struct JobSetup {
    /// Sources.
    pub sources: Vec<SourceSpec>,
    /// Starts subtasks.
    pub deployer: Arc<dyn Deployer>,
    /// `None` if the job takes no checkpoints and is not restored.
    pub checkpoints: Option<CheckpointSetup>,
    /// What follows a failure.
    pub restart: RestartStrategy,
    /// What can be started again by itself; with one or none the whole job is.
    pub regions: Vec<BTreeSet<SubtaskId>>,
    /// What is counted.
    pub metrics: Arc<JobMetrics>,
}

impl fmt::Debug for JobSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSetup")
            .field("sources", &self.sources)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// The master of one job.
#[derive(Debug)]
pub struct JobMaster {
    env: Env,
    setup: JobSetup,
    status: watch::Sender<JobStatus>,
    /// No attempt gives a checkpoint a number that an earlier one has used, whether it left a trace or not.
    next_checkpoint_id: CheckpointId,
    /// The newest right to the job's checkpoints.
    owner: Option<CheckpointOwner>,
    /// Who has asked to stop the job with a savepoint that is complete.
    stopping: Vec<StopReply>,
    /// Restarts so far, of the whole job or a region of it.
    restarts: u32,
    /// The pause that the restart strategy has granted to a region that does not run again yet.
    granted: Option<Duration>,
    /// The restart strategy has refused the last failure.
    is_exhausted: bool,
    /// Savepoints that were asked for while the job did not run.
    waiting: Vec<SavepointRequest>,
}

/// An attempt, and what its checkpoints begin with.
type Running = (Attempt, Option<(JobStart, CheckpointOwner)>);

/// Somebody who wants a savepoint.
type SavepointRequest = (CheckpointKind, oneshot::Sender<SavepointResult>);

/// Something that the loop wakes up for.
enum Input {
    Event(TaskEvent),
    Control(JobControl),
    Manifest(ManifestOutcome),
    Deadline,
}

/// How an attempt ended.
enum AttemptEnd {
    Ended(JobStatus),
    /// And whether all of its subtasks had run.
    Failed(Error, bool),
    /// It had nothing to do.
    AlreadyEnded(EndedJob),
}

/// Savepoints that may wait for the job to run.
const WAITING_SAVEPOINTS_MAX: usize = 16;
/// How often the end of a job is tried to be recorded.
const END_ATTEMPTS_MAX: u32 = 8;
/// The time in between.
const END_PAUSE: Duration = Duration::from_millis(100);

impl JobMaster {
    /// A master that tells the job's status to `status`.
    pub fn new(env: Env, setup: JobSetup, status: watch::Sender<JobStatus>) -> Self {
        Self {
            env,
            setup,
            status,
            next_checkpoint_id: CheckpointId(1),
            owner: None,
            stopping: Vec::new(),
            restarts: 0,
            granted: None,
            is_exhausted: false,
            waiting: Vec::new(),
        }
    }

    /// Runs the job to its end, with as many attempts as the restart strategy allows.
    ///
    /// # Errors
    /// The last failure of a subtask, an enumerator or a checkpoint.
    pub async fn run(mut self, mut control: mpsc::Receiver<JobControl>) -> JobResult {
        let result = self.run_to_end(&mut control).await;
        let why = match &result {
            Ok(end) => format!("the job is {}", end.status),
            Err(error) => format!("the job has failed: {error}"),
        };
        control.close();
        while let Ok(request) = control.try_recv() {
            match request {
                JobControl::Savepoint(kind, reply) => self.waiting.push((kind, reply)),
                JobControl::Cancel => {}
            }
        }
        for (_, reply) in self.waiting.drain(..) {
            // Who asked may have gone.
            drop(reply.send(Err(Error::user(format!("cannot take a savepoint: {why}")))));
        }
        result
    }

    async fn run_to_end(&mut self, control: &mut mpsc::Receiver<JobControl>) -> JobResult {
        loop {
            let (error, has_run) = match self.attempt(control).await {
                AttemptEnd::Ended(status) => return self.end(status).await,
                AttemptEnd::Failed(error, has_run) => (error, has_run),
                AttemptEnd::AlreadyEnded(ended) => {
                    let end = JobEnd::recorded(ended);
                    info!(status = %end.status, "the job had ended before: its recorded result is told");
                    self.tell(end.status);
                    return Ok(end);
                }
            };
            self.stopping.drain(..).for_each(StopReply::failed);
            let Some(pause) = self.restart_after(&error, has_run) else {
                // Whoever gets the error prints it, once.
                info!(restarts = self.restarts, "the job has failed");
                self.tell(JobStatus::Failed);
                return Err(error);
            };
            let pause_ms = pause.as_millis() as u64;
            warn!(error = %error.report(), pause_ms, restart = self.restarts, "the job failed and restarts");
            self.tell(JobStatus::Restarting);
            if self.wait(self.env.now() + pause, control).await {
                return self.end(JobStatus::Canceled).await;
            }
        }
    }

    /// After which pause the job starts again; `None` if it does not.
    fn restart_after(&mut self, error: &Error, has_run: bool) -> Option<Duration> {
        // A program that is wrong in a way that shows before anything has run is the user's to repair; the same later may be the state of the world.
        let is_mistake = error.kind() == ErrorKind::UserError && !has_run && self.restarts == 0;
        if is_hopeless(error) || is_mistake || self.is_exhausted {
            return None;
        }
        if let Some(pause) = self.granted.take() {
            return Some(pause);
        }
        let pause = self.setup.restart.on_failure(self.env.now(), self.env.random_u64())?;
        self.restarts += 1;
        self.setup.metrics.on_restart();
        Some(pause)
    }

    /// Who asks for a savepoint while the job does not run waits until it does.
    fn hold(&mut self, request: SavepointRequest) {
        if self.waiting.len() < WAITING_SAVEPOINTS_MAX {
            self.waiting.push(request);
        } else {
            let message = format!("{WAITING_SAVEPOINTS_MAX} savepoints wait already for the job to run");
            drop(request.1.send(Err(Error::new(ErrorKind::Retry, message))));
        }
    }

    /// Waits between attempts; returns whether somebody cancelled the job meanwhile.
    async fn wait(&mut self, until: Instant, control: &mut mpsc::Receiver<JobControl>) -> bool {
        let mut alarm = self.env.sleep_until(until);
        std::future::poll_fn(|cx| {
            loop {
                match control.poll_recv(cx) {
                    Poll::Ready(Some(JobControl::Cancel)) => return Poll::Ready(true),
                    Poll::Ready(Some(JobControl::Savepoint(kind, reply))) => self.hold((kind, reply)),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            alarm.as_mut().poll(cx).map(|()| false)
        })
        .await
    }

    /// The job is over: its checkpoints are kept or deleted as configured.
    async fn end(&mut self, status: JobStatus) -> JobResult {
        let restarts = self.restarts;
        let savepoint = self.stopping.first().map(|stopped| stopped.directory().to_owned());
        let mut report = None;
        if let (Some(owner), Some(setup)) = (self.owner.take(), &self.setup.checkpoints) {
            let retain = status == JobStatus::Canceled
                && setup.config.retention == ExternalizedCheckpointRetention::RetainOnCancellation;
            let mut ended = Ok(Vec::new());
            for n_tried in 0..END_ATTEMPTS_MAX {
                if n_tried > 0 {
                    self.env.sleep(END_PAUSE).await;
                }
                let owner = owner.clone();
                let ending = JobEnding::new(status == JobStatus::Canceled, restarts, savepoint.clone());
                let end = move || owner.end(retain, Some(ending));
                ended = blocking(&self.env, "end of the checkpoints", end).await;
                // Everything is committed: an end that is not known to be recorded would make of a finished job a failed one, which somebody
                // starts again.
                if ended.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::Retry) {
                    break;
                }
            }
            report = Some(owner.end_report());
            match ended {
                Ok(undeleted) => undeleted
                    .iter()
                    .for_each(|error| report_cleanup(&self.setup.metrics, "delete a checkpoint", error)),
                Err(error) => {
                    self.tell(JobStatus::Failed);
                    return Err(error.context(
                        "the job has ended, but that cannot be recorded: a later start repeats its end",
                    ));
                }
            }
        }
        let reply = if status == JobStatus::Finished { StopReply::stopped } else { StopReply::failed };
        self.stopping.drain(..).for_each(reply);
        info!(%status, restarts, "the job has ended");
        self.tell(status);
        Ok(JobEnd { status, restarts, savepoint, is_recorded: false, report })
    }

    /// Watchers may all have gone; the job goes on.
    fn tell(&self, status: JobStatus) {
        self.status.send_if_modified(|known| std::mem::replace(known, status) != status);
    }

    async fn attempt(&mut self, control: &mut mpsc::Receiver<JobControl>) -> AttemptEnd {
        let mut inbox = Inbox::default();
        let is_restart = self.restarts > 0;
        let (mut attempt, mut start) = match self.start(inbox.open([])).await {
            Ok(Ok(started)) => started,
            Ok(Err(ended)) => return AttemptEnd::AlreadyEnded(ended),
            Err(error) => return AttemptEnd::Failed(error, false),
        };
        let mut has_run = false;
        while !attempt.state.status().is_terminal() {
            let input = next(&self.env, &mut attempt, &mut inbox, control).await;
            let runs = !attempt.state.is_stopping() && !attempt.is_recovering();
            match input {
                Input::Control(JobControl::Cancel) => attempt.cancel().await,
                Input::Control(JobControl::Savepoint(kind, reply)) => match &mut attempt.checkpoints {
                    _ if self.setup.checkpoints.is_none() => drop(reply.send(Err(no_savepoint()))),
                    Some(checkpoints) if runs => {
                        let actions = checkpoints.savepoint(kind, reply);
                        attempt.perform(actions).await;
                    }
                    // It is starting, or failing and may start again.
                    _ => self.hold((kind, reply)),
                },
                Input::Manifest(outcome) => {
                    if let (Some(checkpoints), false) =
                        (&mut attempt.checkpoints, attempt.state.is_stopping())
                    {
                        let actions = checkpoints.on_manifest(outcome);
                        attempt.perform(actions).await;
                    }
                }
                Input::Deadline => {
                    let discovered = attempt.discover().await;
                    attempt.stop_on_error(discovered).await;
                    attempt.checkpoint_input(CheckpointInput::Tick).await;
                }
                Input::Event(event) => {
                    if !self.fail_over(&mut attempt, &event).await {
                        attempt.on_event(event).await;
                    }
                    if attempt.state.status() == JobStatus::Running {
                        has_run = true;
                        let started = attempt.start_enumerators(self.takes_checkpoints()).await;
                        attempt.stop_on_error(started).await;
                    }
                    let is_ready = attempt.state.status() == JobStatus::Running && attempt.has_started();
                    if is_ready
                        && let (Some(setup), Some((start, owner))) = (&self.setup.checkpoints, start.take())
                    {
                        let metrics = &self.setup.metrics;
                        attempt.checkpoints =
                            Some(Checkpointing::new(&self.env, setup, start, owner, metrics));
                        self.take_waiting_savepoints(&mut attempt).await;
                    }
                    if attempt.settle_recovery().await {
                        self.granted = None;
                        self.take_waiting_savepoints(&mut attempt).await;
                    }
                }
            }
            if attempt.checkpoints.is_some() && attempt.wants_checkpoint() {
                attempt.checkpoint_input(CheckpointInput::TriggerNow).await;
            }
            if let Some(subtasks) = attempt.to_restart() {
                let restarted = self.restart_region(&mut attempt, &mut inbox, subtasks).await;
                attempt.stop_on_error(restarted).await;
            }
            match attempt.state.status() {
                JobStatus::Created if is_restart => self.tell(JobStatus::Restarting),
                JobStatus::Running if attempt.is_recovering() => self.tell(JobStatus::Restarting),
                // Whether that is the end of the job is not decided yet.
                JobStatus::Failed | JobStatus::Finished | JobStatus::Canceled => {}
                status => self.tell(status),
            }
        }
        if let Some(checkpoints) = attempt.checkpoints.take() {
            self.next_checkpoint_id = self.next_checkpoint_id.max(checkpoints.next_checkpoint_id());
            self.stopping = checkpoints.stop().await;
        }
        match attempt.state.take_failure() {
            Some(error) => AttemptEnd::Failed(error, has_run),
            None => AttemptEnd::Ended(attempt.state.status()),
        }
    }

    /// Whether the job takes checkpoints by itself.
    fn takes_checkpoints(&self) -> bool {
        self.setup.checkpoints.as_ref().is_some_and(|setup| setup.config.interval.is_some())
    }

    /// Takes the savepoints that were asked for while the job did not run.
    async fn take_waiting_savepoints(&mut self, attempt: &mut Attempt) {
        for (kind, reply) in std::mem::take(&mut self.waiting) {
            if let Some(checkpoints) = &mut attempt.checkpoints {
                let actions = checkpoints.savepoint(kind, reply);
                attempt.perform(actions).await;
            }
        }
    }

    /// Recovers what there is to go on from, and starts the subtasks; or finds that the job has ended.
    async fn start(
        &mut self,
        events: mpsc::Sender<TaskEvent>,
    ) -> Result<std::result::Result<Running, EndedJob>> {
        let recovered = match self.setup.checkpoints.clone() {
            None => None,
            Some(setup) => {
                let (env, has_started) = (self.env.clone(), self.owner.is_some());
                let recovery =
                    blocking(&self.env, "recovery", move || setup.recover(&env, has_started)).await?;
                match recovery {
                    Recovery::Run(recovered) => Some(recovered),
                    Recovery::Ended(ended) => return Ok(Err(ended)),
                }
            }
        };
        let mut start = AttemptStart {
            number: self.restarts,
            owner: None,
            history: 0,
            restored: None,
            events,
            region: None,
        };
        let (mut enumerators, mut checkpoints) = (BTreeMap::new(), None);
        if let Some(recovered) = recovered {
            if let Some(restored) = &recovered.restored {
                let uids = self.setup.sources.iter().map(|source| &source.uid);
                let state = |uid: &OperatorUid| Some((uid.clone(), restored.enumerator(uid)?.to_vec()));
                enumerators = uids.filter_map(state).collect();
            }
            let next_checkpoint_id = recovered.next_checkpoint_id.max(self.next_checkpoint_id);
            let job_start = JobStart { next_checkpoint_id, retained: recovered.retained };
            checkpoints = Some((job_start, recovered.owner.clone()));
            let generation = recovered.owner.generation().0;
            match &recovered.restored {
                Some(restored) => {
                    info!(
                        generation,
                        checkpoint = restored.checkpoint_id().0,
                        "the job goes on from a snapshot"
                    );
                    let report = restored.report();
                    if !report.migrated.is_empty() || !report.dropped.is_empty() {
                        warn!(%report, "not all state is as it was");
                    }
                    for source in &self.setup.sources {
                        if self.restarts == 0 && source.span.start != StartingPosition::Earliest {
                            let source = &source.name;
                            info!(
                                source,
                                "it goes on from the snapshot, and not where it is configured to start"
                            );
                        }
                    }
                }
                None => info!(generation, "the job starts from nothing"),
            }
            self.owner = Some(recovered.owner.clone());
            start.owner = Some(recovered.owner);
            start.history = recovered.history;
            start.restored = recovered.restored;
        }
        let deployer = Arc::clone(&self.setup.deployer);
        let mailboxes = blocking(&self.env, "deployment", move || deployer.deploy(start)).await?;
        let attempt =
            Attempt::new(self.env.clone(), mailboxes, &self.setup.sources, &enumerators, &self.setup.regions);
        Ok(Ok((attempt, checkpoints)))
    }
}

/// What nobody can repair by trying again.
fn is_hopeless(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Fenced | ErrorKind::Corruption | ErrorKind::FailJob => true,
        ErrorKind::UserError | ErrorKind::Retry | ErrorKind::FailSubtask => false,
    }
}

fn no_savepoint() -> Error {
    Error::user(
        "the job has no place for savepoints: set 'execution.checkpointing.savepoint-dir' before it starts",
    )
}

async fn next(
    env: &Env,
    attempt: &mut Attempt,
    inbox: &mut Inbox,
    control: &mut mpsc::Receiver<JobControl>,
) -> Input {
    let mut alarm = attempt.next_deadline().map(|at| env.sleep_until(at));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(Some(request)) = control.poll_recv(cx) {
            return Poll::Ready(Input::Control(request));
        }
        if let Poll::Ready(event) = inbox.poll(cx) {
            return Poll::Ready(Input::Event(event));
        }
        if let Some(checkpoints) = &mut attempt.checkpoints
            && let Poll::Ready(Some(outcome)) = checkpoints.outcomes().poll_recv(cx)
        {
            return Poll::Ready(Input::Manifest(outcome));
        }
        match alarm.as_mut().map(|alarm| alarm.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Input::Deadline),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    })
    .await
}
