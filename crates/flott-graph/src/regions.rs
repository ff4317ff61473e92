//! Pipelined regions: what fails together.
//!
//! Subtasks with a channel between them can only go back together: what one has sent the other has processed. All exchanges are pipelined so far,
//! so a region is a connected component of the execution graph. A job in which records are divided by key is one region; one of straight pipelines has
//! as many as subtasks, and programs that have nothing to do with each other have regions of their own.

use crate::control::SubtaskId;
use crate::execution_graph::ExecutionGraph;
use crate::job_graph::JobGraph;
use flott_types::SubtaskIndex;
use std::collections::{BTreeMap, BTreeSet};

/// The regions of a job: each subtask is in exactly one. Ordered by their first subtasks.
pub fn pipelined_regions(graph: &JobGraph) -> Vec<BTreeSet<SubtaskId>> {
    let subtasks = graph.vertices.iter().flat_map(|vertex| {
        (0..vertex.parallelism).map(|idx| SubtaskId { vertex: vertex.id, subtask: SubtaskIndex(idx) })
    });
    let mut above: BTreeMap<SubtaskId, SubtaskId> = subtasks.map(|id| (id, id)).collect();
    for channel in ExecutionGraph::new(graph).channels() {
        let ends = graph.edges.get(channel.edge).and_then(|(edge, _)| {
            let (source, target) = (graph.vertex_of(edge.source)?, graph.vertex_of(edge.target)?);
            let producer = SubtaskId { vertex: source.id, subtask: channel.producer };
            Some((producer, SubtaskId { vertex: target.id, subtask: channel.consumer }))
        });
        let Some((producer, consumer)) = ends else { continue };
        let (a, b) = (root(&above, producer), root(&above, consumer));
        // The smaller is above, so that regions are named by their first subtask.
        above.insert(a.max(b), a.min(b));
    }
    let mut regions: BTreeMap<SubtaskId, BTreeSet<SubtaskId>> = BTreeMap::new();
    for id in above.keys() {
        regions.entry(root(&above, *id)).or_default().insert(*id);
    }
    regions.into_values().collect()
}

fn root(above: &BTreeMap<SubtaskId, SubtaskId>, mut id: SubtaskId) -> SubtaskId {
    while let Some(next) = above.get(&id).filter(|next| **next != id) {
        id = *next;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_graph::{NodeKind, Partitioning, StreamEdge, StreamGraph};
    use flott_types::NodeId;
    use proptest::prelude::*;

    const PARTITIONINGS: [Option<Partitioning>; 8] = [
        None,
        Some(Partitioning::Forward),
        Some(Partitioning::Rescale),
        Some(Partitioning::Hash),
        Some(Partitioning::Rebalance),
        Some(Partitioning::Broadcast),
        Some(Partitioning::Global),
        Some(Partitioning::Shuffle),
    ];

    /// A program from numbers: each operator but the sources reads from one before it. Forward edges are between equal parallelisms only.
    fn job(nodes: &[(usize, usize, u32)], chaining: bool) -> JobGraph {
        let mut graph = StreamGraph::default();
        for (idx, (before, how, parallelism)) in nodes.iter().enumerate() {
            let is_source = idx == 0 || *before % 4 == 0;
            let kind = if is_source { NodeKind::Source } else { NodeKind::OneInput };
            let id = graph.add_node(format!("n{idx}"), kind);
            graph.node_mut(id).expect("just added").parallelism = Some(*parallelism);
            if !is_source {
                let source = NodeId((*before % idx) as u32);
                let mut partitioning = PARTITIONINGS[how % PARTITIONINGS.len()];
                if partitioning == Some(Partitioning::Forward)
                    && graph.node(source).parallelism != Some(*parallelism)
                {
                    partitioning = None;
                }
                graph.edges.push(StreamEdge { source, target: id, input: 0, partitioning, side: None });
            }
        }
        JobGraph::new(&graph, 1, 128, chaining).expect("a program")
    }

    /// Whom a failure reaches, step by step: those with a channel to or from one that it has reached.
    fn reached(graph: &JobGraph, from: SubtaskId) -> BTreeSet<SubtaskId> {
        let channels = ExecutionGraph::new(graph);
        let mut reached = BTreeSet::from([from]);
        loop {
            let before = reached.len();
            for channel in channels.channels() {
                let (edge, _) = &graph.edges[channel.edge];
                let vertex = |node| graph.vertex_of(node).expect("it has one").id;
                let producer = SubtaskId { vertex: vertex(edge.source), subtask: channel.producer };
                let consumer = SubtaskId { vertex: vertex(edge.target), subtask: channel.consumer };
                if reached.contains(&producer) || reached.contains(&consumer) {
                    reached.extend([producer, consumer]);
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }

    proptest! {
        #[test]
        fn a_region_is_what_a_failure_of_any_of_its_subtasks_reaches(
            nodes in prop::collection::vec((0..9_usize, 0..8_usize, 1..5_u32), 1..8),
            chaining in any::<bool>(),
        ) {
            let graph = job(&nodes, chaining);
            let regions = pipelined_regions(&graph);
            let n_subtasks: u32 = graph.vertices.iter().map(|vertex| vertex.parallelism).sum();
            prop_assert_eq!(regions.iter().map(BTreeSet::len).sum::<usize>(), n_subtasks as usize);
            for region in &regions {
                for id in region {
                    prop_assert_eq!(region, &reached(&graph, *id));
                }
            }
        }
    }

    #[test]
    fn straight_pipelines_are_regions_and_an_exchange_by_key_makes_one() {
        let forward = [(0, 0, 3), (1, 0, 3), (2, 1, 3)];
        assert_eq!(pipelined_regions(&job(&forward, true)).len(), 3);
        assert_eq!(pipelined_regions(&job(&forward, false)).len(), 3);
        assert_eq!(pipelined_regions(&job(&[(0, 0, 3), (1, 3, 3)], true)).len(), 1);
        assert_eq!(pipelined_regions(&job(&[(0, 0, 4), (1, 2, 2)], true)).len(), 2);
        assert_eq!(pipelined_regions(&job(&[(0, 0, 1), (4, 0, 2)], true)).len(), 3, "two programs in one");
    }
}
