//! Who takes part in the checkpoints of a job.

use flott_graph::{SubtaskId, VertexId};
use flott_state::StateTypes;
use flott_types::{OperatorUid, SubtaskIndex};
use std::collections::BTreeSet;

/// The subtasks and operators of one attempt of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// Every subtask, once.
    pub subtasks: Vec<PlannedSubtask>,
    /// Every operator, once, also stateless ones: whoever has a uid can be restored.
    pub operators: Vec<PlannedOperator>,
}

/// A subtask and those that send it barriers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSubtask {
    /// The subtask.
    pub id: SubtaskId,
    /// The subtasks at the other ends of its input channels; none for a source.
    pub inputs: Vec<SubtaskId>,
}

/// An operator of a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedOperator {
    /// Under which its state is found again.
    pub uid: OperatorUid,
    /// As people call it.
    pub name: String,
    /// The task whose chain it is part of.
    pub vertex: VertexId,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The types of its keyed states; `None` if they are not known.
    pub states: Option<StateTypes>,
}

impl CheckpointPlan {
    /// The subtasks that a trigger goes to: those that run and get no barrier from anybody who runs. At first these are the
    /// sources; when all inputs of a task have finished, it has to be told itself.
    pub fn triggered(&self, finished: &BTreeSet<SubtaskId>) -> Vec<SubtaskId> {
        let runs = |id: &SubtaskId| !finished.contains(id);
        let is_triggered = |subtask: &&PlannedSubtask| runs(&subtask.id) && !subtask.inputs.iter().any(runs);
        self.subtasks.iter().filter(is_triggered).map(|subtask| subtask.id).collect()
    }

    /// The subtasks of an operator, by index.
    pub fn subtasks_of(&self, operator: &PlannedOperator) -> impl Iterator<Item = SubtaskId> {
        let vertex = operator.vertex;
        (0..operator.parallelism).map(move |idx| SubtaskId { vertex, subtask: SubtaskIndex(idx) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(vertex: usize, subtask: u32) -> SubtaskId {
        SubtaskId { vertex: VertexId(vertex), subtask: SubtaskIndex(subtask) }
    }

    #[test]
    fn a_task_whose_inputs_have_all_finished_is_triggered_itself() {
        let inputs = vec![id(0, 0), id(0, 1)];
        let plan = CheckpointPlan {
            subtasks: vec![
                PlannedSubtask { id: id(0, 0), inputs: vec![] },
                PlannedSubtask { id: id(0, 1), inputs: vec![] },
                PlannedSubtask { id: id(1, 0), inputs },
            ],
            operators: vec![],
        };
        for (finished, triggered) in [
            (vec![], vec![id(0, 0), id(0, 1)]),
            (vec![id(0, 0)], vec![id(0, 1)]),
            (vec![id(0, 0), id(0, 1)], vec![id(1, 0)]),
            (vec![id(0, 0), id(0, 1), id(1, 0)], vec![]),
        ] {
            assert_eq!(plan.triggered(&finished.into_iter().collect()), triggered);
        }
    }
}
