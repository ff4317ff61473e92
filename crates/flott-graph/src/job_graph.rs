//! Operators chained into vertices.

use crate::stream_graph::{ChainingStrategy, NodeKind, Partitioning, StreamEdge, StreamGraph};
use flott_types::{NodeId, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The position of a vertex in its job graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub usize);

/// A chain of operators that run in one task.
#[derive(Clone, Debug)]
pub struct JobVertex {
    /// Its place in [`JobGraph::vertices`].
    pub id: VertexId,
    /// The first operator of the chain.
    pub head: NodeId,
    /// All operators, each behind those it reads from.
    pub nodes: Vec<NodeId>,
    /// The names of the operators, as people see the task.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
}

/// The program with its operators chained and every setting resolved.
#[derive(Clone, Debug)]
pub struct JobGraph {
    /// Tasks, sources first.
    pub vertices: Vec<JobVertex>,
    /// The edges of the stream graph with their partitioning decided, in the same order.
    pub edges: Vec<(StreamEdge, Partitioning)>,
    /// Edges inside of a chain, as indices into `edges`.
    pub chained: BTreeSet<usize>,
}

impl JobGraph {
    /// Chains what can be chained.
    ///
    /// # Errors
    /// As [`StreamGraph::validate`].
    pub fn new(
        graph: &StreamGraph,
        default_parallelism: u32,
        max_parallelism: u32,
        chaining: bool,
    ) -> Result<Self> {
        graph.validate(default_parallelism, max_parallelism)?;
        let parallelism = |id| graph.parallelism(id, default_parallelism);
        let decide = |edge: &StreamEdge| match edge.partitioning {
            Some(partitioning) => partitioning,
            None if parallelism(edge.source) == parallelism(edge.target) => Partitioning::Forward,
            None => Partitioning::Rebalance,
        };
        let edges: Vec<_> = graph.edges.iter().map(|edge| (edge.clone(), decide(edge))).collect();
        let mut inputs: BTreeMap<NodeId, usize> = BTreeMap::new();
        edges.iter().for_each(|(edge, _)| *inputs.entry(edge.target).or_default() += 1);

        let chainable = |edge: &StreamEdge, partitioning: Partitioning| {
            let (source, target) = (graph.node(edge.source), graph.node(edge.target));
            // Between single subtasks every way of dividing records is the same.
            let straight = partitioning == Partitioning::Forward
                || (parallelism(source.id), parallelism(target.id)) == (1, 1);
            chaining
                && straight
                && target.kind == NodeKind::OneInput
                && inputs.get(&target.id) == Some(&1)
                && target.chaining == ChainingStrategy::Always
                && source.chaining != ChainingStrategy::Never
                && source.slot_sharing_group == target.slot_sharing_group
        };
        let chained: BTreeSet<usize> = (0..edges.len())
            .filter(|idx| edges.get(*idx).is_some_and(|(edge, kind)| chainable(edge, *kind)))
            .collect();

        // A node joins the vertex of the node it is chained to; ids grow along edges, so one pass does it.
        let mut head_of: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let mut members: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for node in &graph.nodes {
            let before =
                chained.iter().filter_map(|idx| edges.get(*idx)).find(|(edge, _)| edge.target == node.id);
            let head = before.and_then(|(edge, _)| head_of.get(&edge.source)).copied().unwrap_or(node.id);
            head_of.insert(node.id, head);
            members.entry(head).or_default().push(node.id);
        }
        let vertices = members.into_iter().enumerate().map(|(idx, (head, nodes))| {
            let names: Vec<_> = nodes.iter().map(|id| graph.node(*id).name.as_str()).collect();
            let max = nodes
                .iter()
                .filter_map(|id| graph.node(*id).max_parallelism)
                .max()
                .unwrap_or(max_parallelism);
            JobVertex {
                id: VertexId(idx),
                head,
                name: names.join(" -> "),
                nodes,
                parallelism: parallelism(head),
                max_parallelism: max,
            }
        });
        Ok(Self { vertices: vertices.collect(), edges, chained })
    }

    /// The vertex that runs `node`.
    pub fn vertex_of(&self, node: NodeId) -> Option<&JobVertex> {
        self.vertices.iter().find(|vertex| vertex.nodes.contains(&node))
    }

    /// The graph as text: a line per vertex, and one per exchange.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        for vertex in &self.vertices {
            // Writing to a String cannot fail.
            writeln!(text, "{}: {} (parallelism {})", vertex.id.0, vertex.name, vertex.parallelism).ok();
            for (idx, (edge, partitioning)) in self.edges.iter().enumerate() {
                if self.chained.contains(&idx) || !vertex.nodes.contains(&edge.source) {
                    continue;
                }
                let target = self.vertex_of(edge.target).map_or(usize::MAX, |target| target.id.0);
                let side =
                    edge.side.as_ref().map(|tag| format!(" of side output '{tag}'")).unwrap_or_default();
                let input = if edge.input == 0 { "" } else { " (second input)" };
                writeln!(text, "   {partitioning}{side} to {target}{input}").ok();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(graph: &StreamGraph, parallelism: u32, expected: Expect) {
        let explained = JobGraph::new(graph, parallelism, 128, true).map(|graph| graph.explain());
        expected.assert_eq(&explained.unwrap_or_else(|error| format!("error: {error}\n")));
    }

    fn connect(graph: &mut StreamGraph, source: NodeId, target: NodeId, partitioning: Option<Partitioning>) {
        graph.edges.push(StreamEdge { source, target, input: 0, partitioning, side: None });
    }

    fn keyed() -> StreamGraph {
        let mut graph = StreamGraph::default();
        let source = graph.add_node("source", NodeKind::Source);
        let map = graph.add_node("map", NodeKind::OneInput);
        let window = graph.add_node("window", NodeKind::OneInput);
        let sink = graph.add_node("sink", NodeKind::OneInput);
        connect(&mut graph, source, map, None);
        connect(&mut graph, map, window, Some(Partitioning::Hash));
        connect(&mut graph, window, sink, None);
        graph
    }

    #[test]
    fn operators_between_exchanges_are_chained() {
        check(
            &keyed(),
            2,
            expect![[r#"
            0: source -> map (parallelism 2)
               HASH to 1
            1: window -> sink (parallelism 2)
        "#]],
        );
    }

    #[test]
    fn with_one_subtask_on_both_sides_an_exchange_is_a_call() {
        check(
            &keyed(),
            1,
            expect![[r#"
            0: source -> map -> window -> sink (parallelism 1)
        "#]],
        );
    }

    #[test]
    fn a_change_of_parallelism_rebalances() {
        let mut graph = keyed();
        graph.node_mut(NodeId(3)).unwrap().parallelism = Some(1);
        check(
            &graph,
            2,
            expect![[r#"
            0: source -> map (parallelism 2)
               HASH to 1
            1: window (parallelism 2)
               REBALANCE to 2
            2: sink (parallelism 1)
        "#]],
        );
    }

    #[test]
    fn chaining_can_be_cut() {
        let mut graph = keyed();
        graph.node_mut(NodeId(1)).unwrap().chaining = ChainingStrategy::Head;
        graph.node_mut(NodeId(3)).unwrap().slot_sharing_group = "other".to_owned();
        check(
            &graph,
            1,
            expect![[r#"
            0: source (parallelism 1)
               FORWARD to 1
            1: map -> window (parallelism 1)
               FORWARD to 2
            2: sink (parallelism 1)
        "#]],
        );
    }

    #[test]
    fn a_union_and_a_second_input_are_never_chained() {
        let mut graph = keyed();
        let other = graph.add_node("other", NodeKind::Source);
        connect(&mut graph, other, NodeId(3), None);
        let join = graph.add_node("join", NodeKind::TwoInput);
        connect(&mut graph, NodeId(2), join, Some(Partitioning::Hash));
        graph.edges.push(StreamEdge {
            source: other,
            target: join,
            input: 1,
            partitioning: Some(Partitioning::Broadcast),
            side: None,
        });
        check(
            &graph,
            1,
            expect![[r#"
            0: source -> map -> window (parallelism 1)
               FORWARD to 1
               HASH to 3
            1: sink (parallelism 1)
            2: other (parallelism 1)
               FORWARD to 1
               BROADCAST to 3 (second input)
            3: join (parallelism 1)
        "#]],
        );
    }

    #[test]
    fn what_cannot_run_is_refused() {
        check(
            &StreamGraph::default(),
            1,
            expect![[r#"
            error: the program has no operator: add a source and a sink before execute
        "#]],
        );
        check(
            &keyed(),
            200,
            expect![[r#"
            error: operator 'source' has parallelism 200 and max parallelism 128: 1 <= parallelism <= max parallelism <= 65536 is needed
        "#]],
        );
        let mut graph = keyed();
        for idx in [1, 2] {
            graph.node_mut(NodeId(idx)).unwrap().uid = Some(flott_types::OperatorUid("same".to_owned()));
        }
        check(
            &graph,
            1,
            expect![[r#"
            error: two operators have the uid 'same': a uid names one operator
        "#]],
        );
        let mut graph = keyed();
        graph.edges[2].partitioning = Some(Partitioning::Forward);
        graph.node_mut(NodeId(3)).unwrap().parallelism = Some(1);
        check(
            &graph,
            2,
            expect![[r#"
            error: forward from 'window' with parallelism 2 to 'sink' with parallelism 1: use rescale or rebalance
        "#]],
        );
    }
}
