//! Which splits readers were given since which checkpoint.
//!
//! A reader that is started again goes on from the last complete checkpoint. That has the splits that it had been given before; those since then are in
//! no snapshot, and the enumerator, which goes on, believes them assigned. So they are given to the same reader again: exactly these. They do not go
//! back to the enumerator as in Flink, since a reader of another region may have passed their event time, and would drop their records as late.

use flott_graph::SubtaskId;
use flott_types::CheckpointId;
use std::collections::{BTreeMap, BTreeSet};

/// Serialized splits by reader.
type Splits = BTreeMap<SubtaskId, Vec<Vec<u8>>>;

/// The splits that are in no complete checkpoint yet.
#[derive(Debug, Default)]
pub(crate) struct Assignments {
    /// Since the last trigger.
    current: Splits,
    /// Up to the trigger of this checkpoint and since the one before: in its parts, whoever completes it.
    triggered: BTreeMap<CheckpointId, Splits>,
    /// Readers that get no more.
    ended: BTreeSet<SubtaskId>,
}

impl Assignments {
    pub(crate) fn assigned(&mut self, reader: SubtaskId, splits: &[Vec<u8>]) {
        self.current.entry(reader).or_default().extend_from_slice(splits);
    }

    pub(crate) fn no_more(&mut self, reader: SubtaskId) {
        self.ended.insert(reader);
    }

    pub(crate) fn on_triggered(&mut self, checkpoint: CheckpointId) {
        let splits = std::mem::take(&mut self.current);
        if !splits.is_empty() {
            self.triggered.insert(checkpoint, splits);
        }
    }

    /// A checkpoint that a restart goes on from is complete.
    pub(crate) fn on_complete(&mut self, checkpoint: CheckpointId) {
        self.triggered.retain(|id, _| *id > checkpoint);
    }

    /// What `reader` was given since the last complete checkpoint, in that order, and whether that was all.
    pub(crate) fn since_complete(&self, reader: SubtaskId) -> (Vec<Vec<u8>>, bool) {
        let all = self.triggered.values().chain([&self.current]);
        let splits = all.filter_map(|splits| splits.get(&reader)).flatten().cloned().collect();
        (splits, self.ended.contains(&reader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_graph::VertexId;
    use flott_types::SubtaskIndex;

    #[test]
    fn a_reader_gets_exactly_what_no_complete_checkpoint_has() {
        let reader = |idx| SubtaskId { vertex: VertexId(0), subtask: SubtaskIndex(idx) };
        let (a, b) = (reader(0), reader(1));
        let mut assignments = Assignments::default();
        assignments.assigned(a, &[vec![1]]);
        assignments.assigned(b, &[vec![2]]);
        assert_eq!(assignments.since_complete(a), (vec![vec![1]], false), "there is no checkpoint");
        assignments.on_triggered(CheckpointId(1));
        assignments.assigned(a, &[vec![3]]);
        // Aborted: what it would have had is in the next.
        assignments.on_triggered(CheckpointId(2));
        assignments.assigned(a, &[vec![4]]);
        assignments.on_complete(CheckpointId(1));
        assert_eq!(assignments.since_complete(a), (vec![vec![3], vec![4]], false));
        assert_eq!(assignments.since_complete(b), (vec![], false));
        assignments.on_triggered(CheckpointId(3));
        assignments.no_more(a);
        assignments.assigned(a, &[vec![5]]);
        assignments.on_complete(CheckpointId(3));
        assert_eq!(assignments.since_complete(a), (vec![vec![5]], true));
        assert_eq!(assignments.since_complete(a), (vec![vec![5]], true), "the second restart needs them too");
    }
}
