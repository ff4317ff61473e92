//! The loop around one job: events in, commands out.

use crate::alignment::AlignmentGroup;
use crate::enumerators::{EnumeratorFactory, EnumeratorHost, Instruction};
use crate::job_state::{Action, JobState, JobStatus};
use flott_api::{EnumeratorInit, WatermarkAlignment};
use flott_env::sync::{mpsc, watch};
use flott_env::{Env, Instant};
use flott_graph::{SubtaskId, TaskCommand, TaskEvent, VertexId};
use flott_types::{Error, Result, SubtaskIndex, duration_ms};
use std::collections::BTreeMap;
use std::fmt;
use std::task::Poll;

/// A source of the job.
#[derive(Clone)]
pub struct SourceSpec {
    /// The vertex that its readers head.
    pub vertex: VertexId,
    /// Number of readers.
    pub parallelism: u32,
    /// What the source is called.
    pub name: String,
    /// Makes its enumerator.
    pub enumerator: EnumeratorFactory,
    /// Its alignment group.
    pub alignment: Option<WatermarkAlignment>,
}

impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a job ended.
pub type JobResult = std::result::Result<JobStatus, Error>;

/// What a client asks of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobControl {
    /// Stop at once.
    Cancel,
}

/// The master of one job.
pub struct JobMaster {
    env: Env,
    state: JobState,
    mailboxes: BTreeMap<SubtaskId, mpsc::Sender<TaskCommand>>,
    sources: Vec<HostedSource>,
    groups: BTreeMap<String, AlignmentGroup>,
    status: watch::Sender<JobStatus>,
}

impl fmt::Debug for JobMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobMaster").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A source, its enumerator once it has been started, and when that next looks for new splits.
type HostedSource = (SourceSpec, Option<Box<dyn EnumeratorHost>>, Option<Instant>);

/// Something that the loop wakes up for.
enum Input {
    Event(TaskEvent),
    Control(JobControl),
    Discover,
}

impl JobMaster {
    /// A master of the subtasks behind `mailboxes`, which tells the job's status to `status`.
    pub fn new(
        env: Env,
        mailboxes: BTreeMap<SubtaskId, mpsc::Sender<TaskCommand>>,
        sources: Vec<SourceSpec>,
        status: watch::Sender<JobStatus>,
    ) -> Self {
        let mut groups: BTreeMap<String, AlignmentGroup> = BTreeMap::new();
        for source in &sources {
            if let Some(alignment) = &source.alignment {
                let drift = duration_ms(alignment.max_drift);
                let group =
                    groups.entry(alignment.group.clone()).or_insert_with(|| AlignmentGroup::new(drift));
                let members = (0..source.parallelism).map(|idx| reader(source.vertex, SubtaskIndex(idx)));
                group.join(drift, members);
            }
        }
        let state = JobState::new(mailboxes.keys().copied());
        let sources = sources.into_iter().map(|source| (source, None, None)).collect();
        Self { env, state, mailboxes, sources, groups, status }
    }

    /// Runs the job to its end.
    ///
    /// # Errors
    /// The first failure of a subtask or an enumerator.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<TaskEvent>,
        mut control: mpsc::Receiver<JobControl>,
    ) -> JobResult {
        let mut failure = None;
        while !self.state.status().is_terminal() {
            let actions = match self.next(&mut events, &mut control).await {
                Input::Control(JobControl::Cancel) => self.state.cancel(),
                Input::Discover => {
                    let discovered = self.discover().await;
                    self.stop_on_error(discovered, &mut failure)
                }
                Input::Event(event) => {
                    let followed = self.follow(&event).await;
                    let mut actions = self.state.on_event(event);
                    actions.extend(self.stop_on_error(followed, &mut failure));
                    if self.state.status() == JobStatus::Running {
                        let started = self.start_enumerators().await;
                        actions.extend(self.stop_on_error(started, &mut failure));
                    }
                    actions
                }
            };
            for Action::Cancel(id) in actions {
                self.send(id, TaskCommand::Cancel).await;
            }
            // Watchers may all have gone; the job goes on.
            let current = self.state.status();
            self.status.send_if_modified(|known| std::mem::replace(known, current) != current);
        }
        let status = self.state.status();
        match self.state.take_failure().or(failure) {
            Some(error) => {
                self.status.send_replace(JobStatus::Failed);
                Err(error)
            }
            None => Ok(status),
        }
    }

    /// An error of an enumerator stops the job.
    fn stop_on_error(&mut self, result: Result<()>, failure: &mut Option<Error>) -> Vec<Action> {
        let Err(error) = result else { return Vec::new() };
        failure.get_or_insert(error);
        self.state.cancel()
    }

    async fn next(
        &mut self,
        events: &mut mpsc::Receiver<TaskEvent>,
        control: &mut mpsc::Receiver<JobControl>,
    ) -> Input {
        let discover_at = self.sources.iter().filter_map(|(_, _, at)| *at).min();
        let mut alarm = discover_at.map(|at| self.env.sleep_until(at));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Some(request)) = control.poll_recv(cx) {
                return Poll::Ready(Input::Control(request));
            }
            if let Poll::Ready(event) = events.poll_recv(cx) {
                let event =
                    event.expect("the master's caller keeps a sender of events until the job has ended");
                return Poll::Ready(Input::Event(event));
            }
            match alarm.as_mut().map(|alarm| alarm.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Input::Discover),
                Some(Poll::Pending) | None => Poll::Pending,
            }
        })
        .await
    }

    /// What an event means for sources, beyond the state of the job.
    async fn follow(&mut self, event: &TaskEvent) -> Result<()> {
        match event {
            TaskEvent::SplitRequested(id) => {
                let found = self.sources.iter_mut().find(|(source, ..)| source.vertex == id.vertex);
                if let Some((source, Some(host), _)) = found {
                    let instructions =
                        host.split_requested(id.subtask).map_err(|error| of_source(error, source))?;
                    let vertex = source.vertex;
                    self.instruct(vertex, instructions).await;
                }
            }
            TaskEvent::WatermarkReported(id, watermark) => {
                let group = self.groups.values_mut().find(|group| group.contains(*id));
                let limits = group.map(|group| group.on_report(*id, *watermark)).unwrap_or_default();
                self.limit(limits).await;
            }
            TaskEvent::Finished(id) | TaskEvent::Canceled(id) => {
                let group = self.groups.values_mut().find(|group| group.contains(*id));
                let limits = group.map(|group| group.on_ended(*id)).unwrap_or_default();
                self.limit(limits).await;
            }
            TaskEvent::Running(_)
            | TaskEvent::Failed(..)
            | TaskEvent::Ended(_)
            | TaskEvent::CheckpointAcknowledged(..)
            | TaskEvent::CheckpointDeclined(..) => {}
        }
        Ok(())
    }

    async fn limit(&mut self, limits: Vec<(SubtaskId, i64)>) {
        for (member, limit) in limits {
            if self.state.is_running(member) {
                self.send(member, TaskCommand::AlignWatermark(limit)).await;
            }
        }
    }

    /// Starts the enumerators that have not been, now that all readers run.
    async fn start_enumerators(&mut self) -> Result<()> {
        for idx in 0..self.sources.len() {
            let Some((source, host @ None, discover_at)) = self.sources.get_mut(idx) else { continue };
            let init =
                EnumeratorInit { env: self.env.clone(), parallelism: source.parallelism, restored: None };
            let started = (source.enumerator)(init).and_then(|mut new| {
                let instructions = new.start()?;
                Ok((new, instructions))
            });
            let (new, instructions) = started.map_err(|error| of_source(error, source))?;
            *discover_at = new.discovery_interval().map(|interval| self.env.now() + interval);
            *host = Some(new);
            let (vertex, parallelism) = (source.vertex, source.parallelism);
            self.instruct(vertex, instructions).await;
            for subtask in 0..parallelism {
                self.send(reader(vertex, SubtaskIndex(subtask)), TaskCommand::SplitsAssigned).await;
            }
        }
        Ok(())
    }

    async fn discover(&mut self) -> Result<()> {
        let now = self.env.now();
        for idx in 0..self.sources.len() {
            let Some((source, Some(host), Some(at))) = self.sources.get_mut(idx) else { continue };
            if *at > now {
                continue;
            }
            let instructions = host.discover().map_err(|error| of_source(error, source))?;
            *at = host
                .discovery_interval()
                .map_or(Instant(std::time::Duration::MAX), |interval| now + interval);
            let vertex = source.vertex;
            self.instruct(vertex, instructions).await;
        }
        Ok(())
    }

    async fn instruct(&mut self, vertex: VertexId, instructions: Vec<Instruction>) {
        let mut splits: BTreeMap<SubtaskIndex, Vec<Vec<u8>>> = BTreeMap::new();
        let mut finished = Vec::new();
        for instruction in instructions {
            match instruction {
                Instruction::Assign(subtask, split) => splits.entry(subtask).or_default().push(split),
                Instruction::NoMoreSplits(subtask) => finished.push(subtask),
            }
        }
        for (subtask, splits) in splits {
            self.send(reader(vertex, subtask), TaskCommand::AddSplits(splits)).await;
        }
        for subtask in finished {
            self.send(reader(vertex, subtask), TaskCommand::NoMoreSplits).await;
        }
    }

    /// A subtask that has ended takes no commands, and needs none.
    async fn send(&mut self, id: SubtaskId, command: TaskCommand) {
        if let Some(mailbox) = self.mailboxes.get(&id) {
            drop(mailbox.send(command).await);
        }
    }
}

fn reader(vertex: VertexId, subtask: SubtaskIndex) -> SubtaskId {
    SubtaskId { vertex, subtask }
}

fn of_source(error: Error, source: &SourceSpec) -> Error {
    error.at(|| format!("source '{}'", source.name))
}
