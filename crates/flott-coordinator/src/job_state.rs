//! The life cycle of one attempt to run a job.

use flott_graph::{SubtaskId, TaskEvent};
use flott_types::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a job is in its life; the names are Flink's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Subtasks are being started.
    Created,
    /// All subtasks run, or have finished.
    Running,
    /// It failed, and is started again after a pause.
    Restarting,
    /// A subtask failed; the others are being stopped.
    Failing,
    /// The job failed and nothing of it runs.
    Failed,
    /// Somebody asked to stop it; subtasks are being stopped.
    Cancelling,
    /// The job was stopped and nothing of it runs.
    Canceled,
    /// All subtasks have finished.
    Finished,
}

impl JobStatus {
    /// Whether nothing of the job runs any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
            Self::Cancelling => "CANCELLING",
            Self::Canceled => "CANCELED",
            Self::Finished => "FINISHED",
        })
    }
}

/// What the master does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell this subtask to stop.
    Cancel(SubtaskId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubtaskState {
    Created,
    Running,
    /// Its region is being stopped, to be started again.
    Leaving,
    /// It has stopped, to be started again.
    Left,
    Ended,
}

/// The state of a job and its subtasks.
#[derive(Debug)]
pub struct JobState {
    status: JobStatus,
    subtasks: BTreeMap<SubtaskId, SubtaskState>,
    failure: Option<Error>,
}

impl JobState {
    /// A job whose subtasks are being started.
    pub fn new(subtasks: impl IntoIterator<Item = SubtaskId>) -> Self {
        let subtasks = subtasks.into_iter().map(|id| (id, SubtaskState::Created)).collect();
        Self { status: JobStatus::Created, subtasks, failure: None }
    }

    /// Where the job is.
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// Why the job failed: the first failure, since those after it are often its consequences.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Whether a subtask has started and not ended.
    pub fn is_running(&self, id: SubtaskId) -> bool {
        self.subtasks.get(&id) == Some(&SubtaskState::Running)
    }

    /// Whether all of these have been started, and are not being stopped.
    pub(crate) fn all_run(&self, ids: &BTreeSet<SubtaskId>) -> bool {
        let runs = |id| matches!(self.subtasks.get(id), Some(SubtaskState::Running | SubtaskState::Ended));
        ids.iter().all(runs)
    }

    /// Whether all of these have stopped.
    pub(crate) fn all_left(&self, ids: &BTreeSet<SubtaskId>) -> bool {
        ids.iter().all(|id| self.subtasks.get(id) == Some(&SubtaskState::Left))
    }

    /// A region is stopped, to be started again; `failed` has ended already. The job goes on.
    pub(crate) fn leave(&mut self, region: &BTreeSet<SubtaskId>, failed: SubtaskId) -> Vec<Action> {
        let mut actions = Vec::new();
        for (id, state) in self.subtasks.iter_mut().filter(|(id, _)| region.contains(id)) {
            *state = match state {
                SubtaskState::Created | SubtaskState::Running if *id != failed => {
                    actions.push(Action::Cancel(*id));
                    SubtaskState::Leaving
                }
                SubtaskState::Leaving if *id != failed => SubtaskState::Leaving,
                _ => SubtaskState::Left,
            };
        }
        actions
    }

    /// Subtasks that had left are being started.
    pub(crate) fn rejoin(&mut self, region: &BTreeSet<SubtaskId>) {
        for (_, state) in self.subtasks.iter_mut().filter(|(id, _)| region.contains(id)) {
            *state = SubtaskState::Created;
        }
    }

    /// Whether it is being stopped, or has been.
    pub fn is_stopping(&self) -> bool {
        !matches!(self.status, JobStatus::Created | JobStatus::Running)
    }

    /// Something besides the subtasks keeps the job from going on.
    pub fn fail(&mut self, error: Error) -> Vec<Action> {
        if self.is_stopping() {
            return Vec::new();
        }
        self.failure = Some(error);
        self.stop(JobStatus::Failing)
    }

    /// Somebody wants the job to stop.
    pub fn cancel(&mut self) -> Vec<Action> {
        match self.status {
            JobStatus::Created | JobStatus::Running => self.stop(JobStatus::Cancelling),
            JobStatus::Restarting
            | JobStatus::Failing
            | JobStatus::Failed
            | JobStatus::Cancelling
            | JobStatus::Canceled
            | JobStatus::Finished => Vec::new(),
        }
    }

    /// A subtask has reported. An event that comes twice, or after the subtask has ended, changes nothing.
    pub fn on_event(&mut self, event: TaskEvent) -> Vec<Action> {
        let actions = match event {
            TaskEvent::Running(id) => {
                self.advance(id, SubtaskState::Running);
                Vec::new()
            }
            TaskEvent::Finished(id) | TaskEvent::Canceled(id) => {
                self.advance(id, SubtaskState::Ended);
                Vec::new()
            }
            // Its neighbours were taken from it.
            TaskEvent::Failed(id, _) if self.subtasks.get(&id) == Some(&SubtaskState::Leaving) => {
                self.advance(id, SubtaskState::Ended);
                Vec::new()
            }
            TaskEvent::Failed(id, error) => {
                self.advance(id, SubtaskState::Ended);
                match self.status {
                    JobStatus::Created | JobStatus::Running => {
                        self.failure = Some(error);
                        self.stop(JobStatus::Failing)
                    }
                    // A job that is being stopped loses its subtasks in any order: those left alone fail.
                    JobStatus::Restarting
                    | JobStatus::Failing
                    | JobStatus::Cancelling
                    | JobStatus::Failed
                    | JobStatus::Canceled
                    | JobStatus::Finished => Vec::new(),
                }
            }
            TaskEvent::SplitRequested(_)
            | TaskEvent::WatermarkReported(..)
            | TaskEvent::Ended(_)
            | TaskEvent::CheckpointAcknowledged { .. }
            | TaskEvent::CheckpointDeclined(..) => Vec::new(),
        };
        self.settle();
        actions
    }

    fn advance(&mut self, id: SubtaskId, to: SubtaskState) {
        let is_stopping = self.is_stopping();
        let Some(state) = self.subtasks.get_mut(&id) else { return };
        *state = match (*state, to) {
            (SubtaskState::Ended | SubtaskState::Left, _) => *state,
            (SubtaskState::Leaving, SubtaskState::Ended) if !is_stopping => SubtaskState::Left,
            (SubtaskState::Leaving, SubtaskState::Running) => SubtaskState::Leaving,
            (_, to) => to,
        };
    }

    fn stop(&mut self, status: JobStatus) -> Vec<Action> {
        self.status = status;
        let mut actions = Vec::new();
        for (id, state) in &mut self.subtasks {
            match state {
                SubtaskState::Created | SubtaskState::Running => actions.push(Action::Cancel(*id)),
                // It is not started again.
                SubtaskState::Left => *state = SubtaskState::Ended,
                // It was told already.
                SubtaskState::Leaving | SubtaskState::Ended => {}
            }
        }
        self.settle();
        actions
    }

    fn settle(&mut self) {
        let all_ended = self.subtasks.values().all(|state| *state == SubtaskState::Ended);
        let all_started = self.subtasks.values().all(|state| *state != SubtaskState::Created);
        self.status = match self.status {
            JobStatus::Created | JobStatus::Running if all_ended => JobStatus::Finished,
            JobStatus::Created if all_started => JobStatus::Running,
            JobStatus::Failing if all_ended => JobStatus::Failed,
            JobStatus::Cancelling if all_ended => JobStatus::Canceled,
            unchanged => unchanged,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_graph::VertexId;
    use flott_types::SubtaskIndex;

    fn id(subtask: u32) -> SubtaskId {
        SubtaskId { vertex: VertexId(0), subtask: SubtaskIndex(subtask) }
    }

    fn running() -> JobState {
        let mut job = JobState::new([id(0), id(1)]);
        assert!(job.on_event(TaskEvent::Running(id(0))).is_empty());
        assert_eq!(job.status(), JobStatus::Created);
        job.on_event(TaskEvent::Running(id(1)));
        assert_eq!(job.status(), JobStatus::Running);
        job
    }

    #[test]
    fn a_job_finishes_when_all_its_subtasks_have() {
        let mut job = running();
        job.on_event(TaskEvent::Finished(id(1)));
        assert_eq!(job.status(), JobStatus::Running);
        job.on_event(TaskEvent::Finished(id(0)));
        assert_eq!(job.status(), JobStatus::Finished);
    }

    #[test]
    fn the_first_failure_is_the_one_that_is_told_and_the_rest_is_stopped() {
        let mut job = running();
        let actions = job.on_event(TaskEvent::Failed(id(1), Error::user("first")));
        assert_eq!(actions, [Action::Cancel(id(0))]);
        assert_eq!(job.status(), JobStatus::Failing);
        job.on_event(TaskEvent::Failed(id(0), Error::user("a task upstream has stopped")));
        assert_eq!(job.status(), JobStatus::Failed);
        assert_eq!(job.take_failure().map(|error| error.to_string()), Some("first".to_owned()));
    }

    #[test]
    fn a_canceled_job_ends_canceled_even_if_subtasks_fail_on_the_way() {
        let mut job = running();
        assert_eq!(job.cancel().len(), 2);
        assert!(job.cancel().is_empty());
        job.on_event(TaskEvent::Failed(id(0), Error::user("a task upstream has stopped")));
        job.on_event(TaskEvent::Canceled(id(1)));
        assert_eq!(job.status(), JobStatus::Canceled);
        assert!(job.take_failure().is_none());
    }

    #[test]
    fn a_region_leaves_and_comes_back_while_the_job_goes_on() {
        let region = BTreeSet::from([id(1), id(2)]);
        let start = || {
            let mut job = JobState::new([id(0), id(1), id(2)]);
            (0..3).for_each(|idx| drop(job.on_event(TaskEvent::Running(id(idx)))));
            assert_eq!(job.leave(&region, id(1)), [Action::Cancel(id(2))]);
            job
        };
        let mut job = start();
        assert!(job.on_event(TaskEvent::Failed(id(2), Error::user("it lost its neighbour"))).is_empty());
        assert!(job.all_left(&region) && !job.all_run(&region));
        job.rejoin(&region);
        assert_eq!((job.status(), job.all_left(&region)), (JobStatus::Running, false));
        (1..3).for_each(|idx| drop(job.on_event(TaskEvent::Running(id(idx)))));
        assert!(job.all_run(&region));
        // What has left is not the end of the job.
        let mut job = start();
        job.on_event(TaskEvent::Canceled(id(2)));
        job.on_event(TaskEvent::Finished(id(0)));
        assert_eq!(job.status(), JobStatus::Running);
        assert!(job.cancel().is_empty());
        assert_eq!(job.status(), JobStatus::Canceled);
        // Who was told to leave is waited for.
        let mut job = start();
        assert_eq!(job.fail(Error::user("something else")), [Action::Cancel(id(0))]);
        job.on_event(TaskEvent::Canceled(id(0)));
        assert_eq!(job.status(), JobStatus::Failing);
        job.on_event(TaskEvent::Canceled(id(2)));
        assert_eq!(job.status(), JobStatus::Failed);
    }

    #[test]
    fn a_subtask_that_fails_before_it_ran_fails_the_job() {
        let mut job = JobState::new([id(0)]);
        job.on_event(TaskEvent::Failed(id(0), Error::user("cannot open")));
        assert_eq!(job.status(), JobStatus::Failed);
    }
}
