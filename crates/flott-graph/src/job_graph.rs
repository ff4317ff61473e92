//! Operators chained into vertices.

use crate::stream_graph::{ChainingStrategy, NodeKind, Partitioning, StreamEdge, StreamGraph, StreamNode};
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

/// A chain as it grows.
#[derive(Default)]
struct Chain {
    nodes: Vec<NodeId>,
    /// What the first operator that wants a number of key groups wants.
    key_groups: Option<u32>,
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

        // How many key groups an operator wants; what reads without keys and says nothing goes by those it is chained with.
        let is_keyed = |id| edges.iter().any(|(edge, kind)| edge.target == id && *kind == Partitioning::Hash);
        let key_groups =
            |node: &StreamNode| node.max_parallelism.or_else(|| is_keyed(node.id).then_some(max_parallelism));

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
        // A node joins the vertex of the node it is chained to; ids grow along edges, so one pass does it. It stays out if it
        // wants other key groups: where its keyed state goes must not depend on what it happens to be chained with.
        let mut head_of: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let mut members: BTreeMap<NodeId, Chain> = BTreeMap::new();
        let mut chained = BTreeSet::new();
        for node in &graph.nodes {
            let own = key_groups(node);
            let before =
                edges.iter().position(|(edge, kind)| edge.target == node.id && chainable(edge, *kind));
            let joined = before.and_then(|idx| {
                let head = *head_of.get(&edges.get(idx)?.0.source)?;
                let of_chain = members.get(&head)?.key_groups;
                (own.is_none() || of_chain.is_none() || own == of_chain).then_some((idx, head))
            });
            chained.extend(joined.map(|(idx, _)| idx));
            let head = joined.map_or(node.id, |(_, head)| head);
            head_of.insert(node.id, head);
            let chain = members.entry(head).or_default();
            chain.nodes.push(node.id);
            chain.key_groups = chain.key_groups.or(own);
        }
        let vertices = members.into_iter().enumerate().map(|(idx, (head, Chain { nodes, key_groups }))| {
            let names: Vec<_> = nodes.iter().map(|id| graph.node(*id).name.as_str()).collect();
            JobVertex {
                id: VertexId(idx),
                head,
                name: names.join(" -> "),
                nodes,
                parallelism: parallelism(head),
                max_parallelism: key_groups.unwrap_or(max_parallelism),
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

    /// The number of key groups of each operator, with chains and without: it is the same.
    fn check_key_groups(graph: &StreamGraph, parallelism: u32, expected: [u32; 4]) {
        for chaining in [true, false] {
            let graph = JobGraph::new(graph, parallelism, 128, chaining).unwrap();
            let of_node = |idx| graph.vertex_of(NodeId(idx)).unwrap().max_parallelism;
            // What is not keyed has no key groups, and goes by those it is chained with.
            let keyed: Vec<_> = graph
                .edges
                .iter()
                .filter(|(_, kind)| *kind == Partitioning::Hash)
                .map(|it| it.0.target)
                .collect();
            for (idx, expected) in (0..).zip(expected) {
                if keyed.contains(&NodeId(idx)) {
                    assert_eq!(of_node(idx), expected, "operator {idx}, chaining: {chaining}");
                }
            }
        }
    }

    #[test]
    fn operators_with_different_numbers_of_key_groups_are_not_chained() {
        let mut graph = keyed();
        graph.edges[2].partitioning = Some(Partitioning::Hash);
        // With one subtask nothing else would keep them apart.
        graph.node_mut(NodeId(2)).unwrap().max_parallelism = Some(64);
        graph.node_mut(NodeId(3)).unwrap().max_parallelism = Some(256);
        check(
            &graph,
            1,
            expect![[r#"
            0: source -> map -> window (parallelism 1)
               HASH to 1
            1: sink (parallelism 1)
        "#]],
        );
        check_key_groups(&graph, 1, [128, 128, 64, 256]);
        // What says nothing and is keyed has the job's number; a map in between has no say.
        graph.node_mut(NodeId(3)).unwrap().max_parallelism = None;
        graph.edges[1].partitioning = None;
        graph.node_mut(NodeId(1)).unwrap().max_parallelism = Some(64);
        graph.node_mut(NodeId(2)).unwrap().max_parallelism = None;
        graph.edges[0].partitioning = Some(Partitioning::Hash);
        check(
            &graph,
            1,
            expect![[r#"
            0: source -> map -> window (parallelism 1)
               HASH to 1
            1: sink (parallelism 1)
        "#]],
        );
        check_key_groups(&graph, 1, [128, 64, 128, 128]);
        // Equal ones are chained.
        graph.node_mut(NodeId(3)).unwrap().max_parallelism = Some(64);
        check(
            &graph,
            1,
            expect![[r#"
            0: source -> map -> window -> sink (parallelism 1)
        "#]],
        );
        check_key_groups(&graph, 1, [128, 64, 128, 64]);
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
