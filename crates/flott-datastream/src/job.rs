//! Executing a program in this process.

use crate::deployment::{
    LocalDeployer, SavepointRoot, SharedMetrics, SharedReport, checkpoint_dir, checkpoint_setup,
    copy_savepoint, failover_regions, job_id,
};
use crate::program::Program;
use crate::spans::source_spans;
use flott_checkpoint::{EndReport, Location, RestoreReport};
use flott_coordinator::{
    JobControl, JobCounts, JobEnd, JobMaster, JobMetrics, JobResult, JobSetup, JobStatus, RestartStrategy,
    SourceSpec,
};
use flott_env::sync::{mpsc, oneshot, watch};
use flott_env::{Env, Instant};
use flott_graph::JobGraph;
use flott_runtime::{JobSpec, OperatorMetrics, RuntimeConfig};
use flott_types::{CheckpointKind, Configuration, Error, JobId, Result};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::Instrument;

/// A handle to a running job. Dropping it lets the job run on.
pub struct JobClient {
    job_id: JobId,
    name: String,
    env: Env,
    started: Instant,
    status: watch::Receiver<JobStatus>,
    control: JobHandle,
    metrics: SharedMetrics,
    job_metrics: Arc<JobMetrics>,
    restored: SharedReport,
    result: Untold,
}

/// The result of a job until somebody asks for it. Who lets it fall does not want to hear it: the job's next start begins anew.
struct Untold(oneshot::Receiver<JobResult>);

impl Drop for Untold {
    fn drop(&mut self) {
        if let Ok(Ok(JobEnd { report: Some(report), .. })) = self.0.try_recv() {
            record_told(&report);
        }
    }
}

/// The user was told in any case; if that cannot be recorded the next start tells it once more.
fn record_told(report: &EndReport) {
    if let Err(error) = report.told() {
        tracing::warn!(error = %error.report(), "cannot record that the job's end was told");
    }
}

impl fmt::Debug for JobClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobClient")
            .field("job_id", &self.job_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The counters of one operator, over all its subtasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorReport {
    /// The operator's name.
    pub name: String,
    /// `numRecordsIn`
    pub records_in: u64,
    /// `numRecordsOut`
    pub records_out: u64,
    /// `numLateRecordsDropped`
    pub late_records_dropped: u64,
    /// `numRecordsInErrors`
    pub records_in_errors: u64,
    /// `currentInputWatermark`: the least over the subtasks, in milliseconds since the epoch.
    pub current_input_watermark: i64,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct JobExecutionResult {
    /// The job.
    pub job_id: JobId,
    /// [`JobStatus::Finished`] or [`JobStatus::Canceled`]; a failure is an error instead.
    pub status: JobStatus,
    /// How often it was started again after a failure.
    pub restarts: u32,
    /// The savepoint that it stopped with.
    pub savepoint: Option<String>,
    /// The job had ended in an earlier process, which died before it could say so: it has not run again, and counters are empty. The next start
    /// begins anew.
    pub is_recorded: bool,
    /// From the start to the end.
    pub net_runtime: Duration,
    /// The counters of all operators, sources first.
    pub operators: Vec<OperatorReport>,
    /// Restarts, checkpoints, and what could not be deleted.
    pub counts: JobCounts,
    /// What the job went on from when it started, and what became of it: see [`JobClient::restored`].
    pub restored: Option<RestoreReport>,
}

impl JobClient {
    /// The identity of this run.
    pub fn job_id(&self) -> JobId {
        self.job_id
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the job is in its life.
    pub fn status(&self) -> JobStatus {
        *self.status.borrow()
    }

    /// The job's status with its changes, to wait for one of them.
    pub fn status_changes(&self) -> watch::Receiver<JobStatus> {
        self.status.clone()
    }

    /// The counters as they are now.
    pub fn operators(&self) -> Vec<OperatorReport> {
        summarize(&self.metrics.get())
    }

    /// Restarts, checkpoints, and what could not be deleted, as counted up to now.
    pub fn counts(&self) -> JobCounts {
        self.job_metrics.counts()
    }

    /// What became of the savepoint or checkpoint that the job goes on from: which state is reused, read as another type, or left
    /// behind. `None` if it began anew, or has not started yet.
    pub fn restored(&self) -> Option<RestoreReport> {
        self.restored.get()
    }

    /// A handle with which the job can be canceled from elsewhere.
    pub fn canceler(&self) -> JobCanceler {
        JobCanceler(self.control.control.clone())
    }

    /// A handle with which savepoints of the job can be taken from elsewhere, also while somebody waits for
    /// [`JobClient::result`].
    pub fn savepoints(&self) -> JobHandle {
        self.control.clone()
    }

    /// Takes a savepoint below the directory `dir`, or below `execution.checkpointing.savepoint-dir` if it is `None`, and returns its
    /// path when it is complete. The job goes on.
    ///
    /// # Errors
    /// As [`JobHandle::trigger_savepoint`].
    pub async fn trigger_savepoint(&self, dir: Option<&str>) -> Result<String> {
        self.control.trigger_savepoint(dir).await
    }

    /// Takes a savepoint and stops the job with it: see [`JobHandle::stop_with_savepoint`].
    ///
    /// # Errors
    /// As [`JobHandle::stop_with_savepoint`].
    pub async fn stop_with_savepoint(&self, dir: Option<&str>, at_stop: AtStop) -> Result<String> {
        self.control.stop_with_savepoint(dir, at_stop).await
    }

    /// Asks the job to stop at once. It has when [`JobClient::result`] returns; user code that blocks holds that up.
    pub async fn cancel(&self) {
        self.canceler().cancel().await;
    }

    /// Waits for the end of the job. When this returns the end counts as told, and the job begins anew if it is started again. A process that dies
    /// earlier is told of it when it is run again: see [`JobExecutionResult::is_recorded`].
    ///
    /// # Errors
    /// The failure of the job: operator, subtask and record are in [`Error::location`], causes in [`Error::report`].
    pub async fn result(mut self) -> Result<JobExecutionResult> {
        let lost = |_| Err(Error::subtask("the job's master has stopped without a result"));
        let end = (&mut self.result.0).await.unwrap_or_else(lost)?;
        if let Some(report) = end.report {
            let (sender, told) = oneshot::channel();
            self.env.spawn_subtask("report of the end", async move {
                record_told(&report);
                sender.send(()).ok();
            });
            // Whether or not it was recorded.
            told.await.ok();
        }
        let savepoint = end.savepoint.and_then(|relative| {
            self.control.savepoints.0.as_ref().map(|root| root.join(&relative).to_string())
        });
        Ok(JobExecutionResult {
            job_id: self.job_id,
            status: end.status,
            restarts: end.restarts,
            savepoint,
            is_recorded: end.is_recorded,
            net_runtime: self.env.now() - self.started,
            operators: summarize(&self.metrics.get()),
            counts: self.job_metrics.counts(),
            restored: self.restored.get(),
        })
    }

    /// [`JobClient::result`] for callers outside of asynchronous code.
    ///
    /// # Errors
    /// As [`JobClient::result`].
    pub fn wait(self) -> Result<JobExecutionResult> {
        let env = self.env.clone();
        env.block_on(self.result())
    }
}

/// What becomes of event time when a job stops with a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStop {
    /// It stands still: windows that have not fired are in the savepoint.
    Suspend,
    /// It ends: all windows fire, as at the end of a bounded input. The savepoint is not for going on, but for what comes after.
    Drain,
}

/// Takes savepoints of a job.
#[derive(Clone, Debug)]
pub struct JobHandle {
    env: Env,
    control: mpsc::Sender<JobControl>,
    savepoints: SavepointRoot,
}

impl JobHandle {
    /// Takes a savepoint below the directory `dir`, or below `execution.checkpointing.savepoint-dir` if it is `None`, and returns its
    /// path when it is complete. The job goes on, and commits nothing because of it. While the job starts or restarts it is waited for.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if the job has no directory for savepoints, else what kept it from being
    /// complete.
    pub async fn trigger_savepoint(&self, dir: Option<&str>) -> Result<String> {
        self.take(CheckpointKind::Savepoint, dir).await
    }

    /// Takes a savepoint and stops the job with it: sources read nothing behind it, and sinks commit what comes before it. Returns
    /// its path when it is complete; the job has stopped when [`JobClient::result`] returns.
    ///
    /// # Errors
    /// As [`JobHandle::trigger_savepoint`]; the job then restarts, as after a failure.
    pub async fn stop_with_savepoint(&self, dir: Option<&str>, at_stop: AtStop) -> Result<String> {
        let kind = match at_stop {
            AtStop::Suspend => CheckpointKind::SavepointSuspend,
            AtStop::Drain => CheckpointKind::SavepointTerminate,
        };
        self.take(kind, dir).await
    }

    async fn take(&self, kind: CheckpointKind, dir: Option<&str>) -> Result<String> {
        let Some(root) = self.savepoints.0.clone() else {
            return Err(Error::user(
                "the job has no directory for savepoints: set 'execution.checkpointing.savepoint-dir' before it starts",
            ));
        };
        let (reply, answer) = oneshot::channel();
        let ended = || Error::user("the job has ended before the savepoint was complete");
        self.control.send(JobControl::Savepoint(kind, reply)).await.map_err(|_| ended())?;
        let relative = answer.await.map_err(|_| ended())??;
        let path = root.join(&relative);
        match dir.map(Location::parse).transpose()? {
            Some(dir) if dir != root => copy_savepoint(&self.env, path, dir).await,
            Some(_) | None => Ok(path.to_string()),
        }
    }
}

/// Cancels a job.
#[derive(Clone, Debug)]
pub struct JobCanceler(mpsc::Sender<JobControl>);

impl JobCanceler {
    /// Asks the job to stop at once; one that has ended already is left as it is.
    pub async fn cancel(&self) {
        self.0.send(JobControl::Cancel).await.ok();
    }

    /// [`JobCanceler::cancel`] without waiting for room in the mailbox, for example from a signal handler; returns whether
    /// the request was taken.
    pub fn try_cancel(&self) -> bool {
        self.0.try_send(JobControl::Cancel).is_ok()
    }
}

fn summarize(metrics: &[OperatorMetrics]) -> Vec<OperatorReport> {
    let mut reports: Vec<(flott_types::NodeId, OperatorReport)> = Vec::new();
    for OperatorMetrics { node, name, metrics, .. } in metrics {
        let counted = OperatorReport {
            name: name.clone(),
            records_in: metrics.records_in.load(Ordering::Relaxed),
            records_out: metrics.records_out.load(Ordering::Relaxed),
            late_records_dropped: metrics.late_records_dropped.load(Ordering::Relaxed),
            records_in_errors: metrics.records_in_errors.load(Ordering::Relaxed),
            current_input_watermark: metrics.current_input_watermark.load(Ordering::Relaxed),
        };
        match reports.iter_mut().find(|(known, _)| known == node) {
            None => reports.push((*node, counted)),
            Some((_, report)) => {
                report.records_in += counted.records_in;
                report.records_out += counted.records_out;
                report.late_records_dropped += counted.late_records_dropped;
                report.records_in_errors += counted.records_in_errors;
                report.current_input_watermark =
                    report.current_input_watermark.min(counted.current_input_watermark);
            }
        }
    }
    reports.sort_by_key(|(node, _)| *node);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Starts the master of a program, which starts everything else.
pub(crate) fn launch(
    env: &Env,
    config: &Configuration,
    program: Program,
    job_graph: JobGraph,
    name: String,
) -> Result<JobClient> {
    let spans = source_spans(config, &program)?;
    let has_chains = program.sources.iter().any(|source| source.is_chain);
    let sources = program.sources.iter().filter_map(|source| {
        let vertex = job_graph.vertex_of(source.node)?;
        Some(SourceSpec {
            vertex: vertex.id,
            parallelism: vertex.parallelism,
            name: program.graph.node(source.node).name.clone(),
            uid: program.graph.uid(source.node),
            enumerator: Arc::clone(&source.enumerator),
            alignment: source.alignment.clone(),
            span: spans.get(&source.node).cloned().unwrap_or_default(),
            has_own_timestamps: source.has_own_timestamps,
        })
    });
    let sources = sources.collect();
    let job_id = job_id(env, config, &name)?;
    let spec = Arc::new(JobSpec {
        job_id,
        name: name.clone(),
        stream_graph: program.graph,
        job_graph,
        operators: program.operators,
        edges: program.edges,
        config: RuntimeConfig::new(config),
        spans,
    });
    let (checkpoints, savepoints) = checkpoint_setup(env, config, &spec)?.unzip();
    let settings = checkpoints.as_ref().map(|setup| setup.config.clone());
    let has_checkpoints = settings.as_ref().is_some_and(|settings| settings.interval.is_some());
    let metrics = SharedMetrics::default();
    let regions = if has_chains { Vec::new() } else { failover_regions(config, settings.as_ref(), &spec) };
    let restored = SharedReport::default();
    let restart = RestartStrategy::new(config, has_checkpoints);
    let deployer = LocalDeployer {
        env: env.clone(),
        spec,
        checkpoints: settings,
        restart_delay: restart.longest_pause(),
        has_durable_checkpoints: checkpoint_dir(config)?.is_some(),
        metrics: metrics.clone(),
        execution: Mutex::default(),
        restored: restored.clone(),
    };
    let job_metrics = Arc::new(JobMetrics::default());
    let setup = JobSetup {
        sources,
        deployer: Arc::new(deployer),
        checkpoints,
        restart,
        regions,
        metrics: Arc::clone(&job_metrics),
    };
    let (status_sender, status) = watch::channel(JobStatus::Created);
    let (control, requests) = mpsc::channel(16);
    let (result_sender, result) = oneshot::channel();
    let master = JobMaster::new(env.clone(), setup, status_sender);
    // The client may be dropped, and the job goes on: the master keeps a sender of its own control channel.
    let keep = control.clone();
    let started = env.now();
    let span = tracing::info_span!("job", id = %job_id, name);
    let run = async move {
        let result = master.run(requests).await;
        drop(keep);
        // Who has let the client fall does not want to hear it.
        if let Err(Ok(JobEnd { report: Some(report), .. })) = result_sender.send(result) {
            record_told(&report);
        }
    };
    env.spawn("job master", run.instrument(span));
    let control = JobHandle { env: env.clone(), control, savepoints: savepoints.unwrap_or_default() };
    Ok(JobClient {
        job_id,
        name,
        env: env.clone(),
        started,
        status,
        control,
        metrics,
        job_metrics,
        restored,
        result: Untold(result),
    })
}
