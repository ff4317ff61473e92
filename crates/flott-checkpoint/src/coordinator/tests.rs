mod orders;
mod scenarios;

use super::*;
use crate::plan::PlannedSubtask;
use flott_graph::VertexId;
use flott_types::{CheckpointingMode, ExternalizedCheckpointRetention, SubtaskIndex};

fn config() -> CheckpointConfig {
    CheckpointConfig {
        interval: Some(Duration::from_millis(100)),
        mode: CheckpointingMode::ExactlyOnce,
        unaligned_after: None,
        timeout: Duration::from_millis(1_000),
        min_pause: Duration::ZERO,
        max_concurrent: 1,
        tolerable_failed: 0,
        num_retained: 1,
        retention: ExternalizedCheckpointRetention::NoExternalizedCheckpoints,
        after_tasks_finish: true,
        incremental: false,
    }
}

fn subtask(vertex: usize, subtask: u32) -> SubtaskId {
    SubtaskId { vertex: VertexId(vertex), subtask: SubtaskIndex(subtask) }
}

/// Two sources and a task that reads from both.
fn plan() -> CheckpointPlan {
    let sources = [subtask(0, 0), subtask(0, 1)];
    let mut subtasks: Vec<_> = sources.iter().map(|id| PlannedSubtask { id: *id, inputs: vec![] }).collect();
    subtasks.push(PlannedSubtask { id: subtask(1, 0), inputs: sources.to_vec() });
    CheckpointPlan { subtasks, operators: vec![] }
}

fn all_subtasks() -> [SubtaskId; 3] {
    [subtask(0, 0), subtask(0, 1), subtask(1, 0)]
}

fn at(ms: u64) -> Now {
    Now { instant: Instant(Duration::from_millis(ms)), timestamp: 1_000_000 + ms as i64 }
}

fn part(id: u64, subtask: SubtaskId) -> FileHandle {
    FileHandle { path: format!("job/chk-{id}/{subtask}"), len: 1, checksum: id }
}

fn start(next: u64, retained: &[u64]) -> JobStart {
    JobStart {
        next_checkpoint_id: CheckpointId(next),
        retained: retained.iter().copied().map(CheckpointId).collect(),
    }
}

fn acknowledged(id: u64, subtask: SubtaskId) -> Input {
    let (checkpoint, part) = (CheckpointId(id), part(id, subtask));
    Input::Acknowledged { checkpoint, subtask, part, bases: vec![], end_of_data: false }
}

fn acknowledged_at_end(id: u64, subtask: SubtaskId) -> Input {
    let (checkpoint, part) = (CheckpointId(id), part(id, subtask));
    Input::Acknowledged { checkpoint, subtask, part, bases: vec![], end_of_data: true }
}

fn written(id: u64) -> Input {
    Input::ManifestWritten { checkpoint: CheckpointId(id) }
}

/// An action in one line.
fn show(action: &Action) -> String {
    let ids =
        |subtasks: &[SubtaskId]| subtasks.iter().map(SubtaskId::to_string).collect::<Vec<_>>().join(" ");
    match action {
        Action::TriggerSources { barrier, subtasks } => {
            let since = match barrier.increment {
                Increment::None => String::new(),
                Increment::Base => " as base".to_owned(),
                Increment::Since(base) => format!(" since {base}"),
            };
            let CheckpointBarrier { id, kind, timestamp, .. } = barrier;
            format!("trigger {id}{since} {kind:?} at {timestamp}: {}", ids(subtasks))
        }
        Action::WriteManifest(request) => {
            let part = |(id, part): (&SubtaskId, &SubtaskPart)| match (&part.file, part.finished) {
                (Some(_), false) => id.to_string(),
                (Some(_), true) => format!("{id}(end)"),
                (None, _) => format!("{id}(finished)"),
            };
            let parts: Vec<_> = request.parts.iter().map(part).collect();
            let is_final = if request.is_final { " final" } else { "" };
            format!("write {}{is_final}: {}", request.barrier.id, parts.join(" "))
        }
        Action::NotifyComplete { id, is_final } => {
            format!("complete {id}{}", if *is_final { " final" } else { "" })
        }
        Action::NotifyAborted { id, reason } => format!("aborted {id}: {reason}"),
        Action::Discard { id, .. } => format!("discard {id}"),
        Action::Subsume { replaced, kept } => {
            format!("subsume {replaced:?}, keep {kept:?}").replace("CheckpointId", "")
        }
        Action::DeleteFiles(files) => {
            let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
            format!("delete {}", paths.join(" "))
        }
        Action::FailJob(error) => format!("fail job ({:?}): {}", error.kind(), error.report()),
        Action::SavepointDone { request, result } => match result {
            Ok(id) => format!("savepoint {} is {id}", request.0),
            Err(error) => format!("savepoint {} failed: {}", request.0, error.report()),
        },
    }
}

/// A coordinator and everything it has said, with the time.
struct Script {
    coordinator: CheckpointCoordinator,
    text: String,
}

impl Script {
    fn new(config: CheckpointConfig) -> Self {
        Self {
            coordinator: CheckpointCoordinator::new(config, plan(), start(1, &[]), at(0)),
            text: String::new(),
        }
    }

    fn on(&mut self, ms: u64, input: Input) -> &mut Self {
        for action in self.coordinator.handle(at(ms), input) {
            self.text.push_str(&format!("{ms} {}\n", show(&action)));
        }
        self
    }

    fn tick(&mut self, ms: u64) -> &mut Self {
        self.on(ms, Input::Tick)
    }

    /// All subtasks acknowledge.
    fn acknowledge(&mut self, ms: u64, id: u64) -> &mut Self {
        for subtask in all_subtasks() {
            self.on(ms, acknowledged(id, subtask));
        }
        self
    }

    fn check(&mut self, expected: expect_test::Expect) {
        expected.assert_eq(&self.text);
    }
}
