//! Watermark alignment (FLIP-182, FLIP-217): splits of a group that are too far ahead pause.

use flott_graph::SubtaskId;
use flott_types::{Timestamp, Watermark};
use std::collections::BTreeMap;

/// The members of one alignment group and how far they have got.
#[derive(Debug)]
pub(crate) struct AlignmentGroup {
    max_drift_ms: i64,
    members: BTreeMap<SubtaskId, Watermark>,
}

impl AlignmentGroup {
    pub(crate) fn new(max_drift_ms: i64) -> Self {
        Self { max_drift_ms, members: BTreeMap::new() }
    }

    /// Members of one group may name different drifts: the smallest counts.
    pub(crate) fn join(&mut self, max_drift_ms: i64, members: impl IntoIterator<Item = SubtaskId>) {
        self.max_drift_ms = self.max_drift_ms.min(max_drift_ms);
        self.members.extend(members.into_iter().map(|member| (member, Watermark::MIN)));
    }

    pub(crate) fn contains(&self, member: SubtaskId) -> bool {
        self.members.contains_key(&member)
    }

    /// A member has got this far; returns what each member may read up to.
    ///
    /// A member that has not reported holds the others at the beginning only until it does; one that is idle or has
    /// ended reports the maximum and holds nobody.
    pub(crate) fn on_report(
        &mut self,
        member: SubtaskId,
        watermark: Watermark,
    ) -> Vec<(SubtaskId, Timestamp)> {
        self.members.insert(member, watermark);
        self.limits()
    }

    pub(crate) fn on_ended(&mut self, member: SubtaskId) -> Vec<(SubtaskId, Timestamp)> {
        self.members.remove(&member);
        self.limits()
    }

    fn limits(&self) -> Vec<(SubtaskId, Timestamp)> {
        let Some(slowest) = self.members.values().min() else { return Vec::new() };
        // Before the slowest has any watermark there is nothing to measure drift from.
        let limit = match *slowest {
            Watermark::MIN => Timestamp::MAX,
            Watermark(timestamp) => timestamp.saturating_add(self.max_drift_ms),
        };
        self.members.keys().map(|member| (*member, limit)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_graph::VertexId;
    use flott_types::SubtaskIndex;

    #[test]
    fn the_slowest_member_and_the_drift_give_the_limit() {
        let id = |idx| SubtaskId { vertex: VertexId(idx), subtask: SubtaskIndex(0) };
        let mut group = AlignmentGroup::new(100);
        group.join(50, [id(0), id(1)]);
        assert_eq!(group.on_report(id(0), Watermark(1_000)), [(id(0), i64::MAX), (id(1), i64::MAX)]);
        assert_eq!(group.on_report(id(1), Watermark(10)), [(id(0), 60), (id(1), 60)]);
        assert_eq!(group.on_report(id(1), Watermark::MAX), [(id(0), 1_050), (id(1), 1_050)]);
        assert_eq!(group.on_ended(id(0)), [(id(1), i64::MAX)]);
    }
}
