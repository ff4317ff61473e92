//! Executing a program in this process.

use crate::program::Program;
use flott_coordinator::{JobControl, JobMaster, JobResult, JobStatus, SourceSpec};
use flott_env::sync::{mpsc, oneshot, watch};
use flott_env::{Env, Instant};
use flott_graph::{JobGraph, TaskEvent};
use flott_runtime::{AttemptSpec, JobSpec, OperatorMetrics, RuntimeConfig, TaskManager};
use flott_types::{Configuration, Error, JobId, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Reports that may wait for the master; subtasks wait when there are more.
const EVENTS_MAX: usize = 1024;

/// A handle to a running job. Dropping it lets the job run on.
pub struct JobClient {
    job_id: JobId,
    name: String,
    env: Env,
    started: Instant,
    status: watch::Receiver<JobStatus>,
    control: mpsc::Sender<JobControl>,
    metrics: Arc<Vec<OperatorMetrics>>,
    result: oneshot::Receiver<JobResult>,
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
    /// From the start to the end.
    pub net_runtime: Duration,
    /// The counters of all operators, sources first.
    pub operators: Vec<OperatorReport>,
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

    /// The counters as they are now.
    pub fn operators(&self) -> Vec<OperatorReport> {
        summarize(&self.metrics)
    }

    /// A handle with which the job can be canceled from elsewhere.
    pub fn canceler(&self) -> JobCanceler {
        JobCanceler(self.control.clone())
    }

    /// Asks the job to stop at once. It has when [`JobClient::result`] returns; user code that blocks holds that up.
    pub async fn cancel(&self) {
        self.canceler().cancel().await;
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// The failure of the job: operator, subtask and record are in [`Error::location`], causes in [`Error::report`].
    pub async fn result(self) -> Result<JobExecutionResult> {
        let lost = |_| Err(Error::subtask("the job's master has stopped without a result"));
        let status = self.result.await.unwrap_or_else(lost)?;
        Ok(JobExecutionResult {
            job_id: self.job_id,
            status,
            net_runtime: self.env.now() - self.started,
            operators: summarize(&self.metrics),
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

/// Starts the subtasks of a program and a master for them.
pub(crate) fn launch(
    env: &Env,
    config: &Configuration,
    program: Program,
    job_graph: JobGraph,
    name: String,
) -> Result<JobClient> {
    let sources = program.sources.iter().filter_map(|source| {
        let vertex = job_graph.vertex_of(source.node)?;
        Some(SourceSpec {
            vertex: vertex.id,
            parallelism: vertex.parallelism,
            name: program.graph.node(source.node).name.clone(),
            enumerator: Arc::clone(&source.enumerator),
            alignment: source.alignment.clone(),
        })
    });
    let sources = sources.collect();
    let job_id = JobId(u128::from(env.random_u64()) << 64 | u128::from(env.random_u64()));
    let spec = Arc::new(JobSpec {
        job_id,
        name: name.clone(),
        stream_graph: program.graph,
        job_graph,
        operators: program.operators,
        edges: program.edges,
        config: RuntimeConfig::new(config),
    });
    let (event_sender, events) = mpsc::channel(EVENTS_MAX);
    let attempt = Arc::new(AttemptSpec::first(job_id.0 as u64));
    let deployment = TaskManager::new(env.clone()).deploy(&spec, &attempt, &event_sender)?;
    for (id, task) in deployment.tasks {
        // A subtask reports its own end; a panic in the engine's code is reported for it.
        let events = event_sender.clone();
        env.spawn("task watcher", async move {
            if let Err(panic) = task.await {
                let error = Error::subtask(format!("the task stopped: {}", panic.0));
                drop(events.send(TaskEvent::Failed(id, error)).await);
            }
        });
    }
    let (status_sender, status) = watch::channel(JobStatus::Created);
    let (control, requests) = mpsc::channel(16);
    let (result_sender, result) = oneshot::channel();
    let master = JobMaster::new(env.clone(), deployment.mailboxes, sources, status_sender);
    // The client may be dropped, and the job goes on: the master keeps a sender of its own control channel.
    let keep = control.clone();
    let started = env.now();
    env.spawn("job master", async move {
        let result = master.run(events, requests).await;
        drop((event_sender, keep));
        // Nobody may be waiting for the result.
        drop(result_sender.send(result));
    });
    let metrics = Arc::new(deployment.metrics);
    Ok(JobClient { job_id, name, env: env.clone(), started, status, control, metrics, result })
}
