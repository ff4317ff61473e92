//! On which edges barriers of unaligned checkpoints may overtake records.
//!
//! Not where the order of records rests on which subtask sent them, as that is lost when they are divided anew (forward, rescale); and not where
//! several subtasks have the same record, of which each would bring back its own (broadcast).
//!
//! Nor where a task would wait for itself. A task that aligns takes nothing more from a channel that has delivered the barrier, so what writes there
//! is pushed back. If that has overtaken, tasks before it may not have had their barrier, and they may be pushed back by it; one of them whose own barrier
//! waits behind records, on an edge without overtaking, never gets to it. If the first task waits for just that barrier, nobody ever moves. Where all barriers are aligned this cannot be: who has
//! sent one has had it from everybody before.

use crate::job_graph::{JobGraph, VertexId};
use crate::stream_graph::Partitioning;
use std::collections::{BTreeMap, BTreeSet};

/// An edge between two tasks.
#[derive(Clone, Copy)]
struct Exchange {
    idx: usize,
    from: VertexId,
    to: VertexId,
    /// Channels of a subtask at its end, at most.
    n_channels: u32,
    overtakes: bool,
}

/// The edges, as indices into [`JobGraph::edges`], on which barriers may overtake records.
pub fn overtaking_edges(graph: &JobGraph) -> BTreeSet<usize> {
    let mut exchanges = exchanges(graph);
    loop {
        let (stuck, blocked) = (may_be_stuck(&exchanges), may_be_blocked(&exchanges));
        let closes_circle = |exchange: &&mut Exchange| {
            exchange.overtakes && stuck.contains(&exchange.from) && blocked.contains(&exchange.to)
        };
        let circles: Vec<_> = exchanges.iter_mut().filter(closes_circle).collect();
        if circles.is_empty() {
            break;
        }
        // That makes one more task that aligns.
        circles.into_iter().for_each(|exchange| exchange.overtakes = false);
    }
    exchanges.iter().filter(|exchange| exchange.overtakes).map(|exchange| exchange.idx).collect()
}

/// In the order of the tasks, of which those that write have lower numbers.
fn exchanges(graph: &JobGraph) -> Vec<Exchange> {
    let exchange = |idx: usize| {
        let (edge, partitioning) = graph.edges.get(idx).filter(|_| !graph.chained.contains(&idx))?;
        let (from, to) = (graph.vertex_of(edge.source)?, graph.vertex_of(edge.target)?);
        let n_channels = if *partitioning == Partitioning::Forward { 1 } else { from.parallelism };
        let overtakes = keeps_its_meaning(*partitioning);
        Some(Exchange { idx, from: from.id, to: to.id, n_channels, overtakes })
    };
    let mut exchanges: Vec<_> = (0..graph.edges.len()).filter_map(exchange).collect();
    exchanges.sort_by_key(|exchange| (exchange.from, exchange.to));
    exchanges
}

/// Whether records that were overtaken can be divided anew.
const fn keeps_its_meaning(partitioning: Partitioning) -> bool {
    match partitioning {
        Partitioning::Hash
        | Partitioning::Custom
        | Partitioning::Rebalance
        | Partitioning::Shuffle
        | Partitioning::Global => true,
        Partitioning::Forward | Partitioning::Rescale | Partitioning::Broadcast => false,
    }
}

/// Tasks that do not get to a barrier while they are pushed back, and all behind these: they do not get it either.
fn may_be_stuck(exchanges: &[Exchange]) -> BTreeSet<VertexId> {
    let mut stuck = BTreeSet::new();
    for exchange in exchanges {
        if !exchange.overtakes || stuck.contains(&exchange.from) {
            stuck.insert(exchange.to);
        }
    }
    stuck
}

/// Tasks that may be pushed back by one that waits for another barrier than theirs.
fn may_be_blocked(exchanges: &[Exchange]) -> BTreeSet<VertexId> {
    let mut n_aligned = BTreeMap::<VertexId, u32>::new();
    for exchange in exchanges.iter().filter(|exchange| !exchange.overtakes) {
        *n_aligned.entry(exchange.to).or_default() += exchange.n_channels;
    }
    let waits = |vertex: &VertexId| n_aligned.get(vertex).is_some_and(|n_channels| *n_channels > 1);
    let mut blocked = BTreeSet::new();
    for exchange in exchanges.iter().rev() {
        if (!exchange.overtakes && waits(&exchange.to)) || blocked.contains(&exchange.to) {
            blocked.insert(exchange.from);
        }
    }
    blocked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_graph::{NodeKind, StreamEdge, StreamGraph};
    use flott_types::NodeId;

    const FORWARD: Partitioning = Partitioning::Forward;
    const HASH: Partitioning = Partitioning::Hash;
    const BROADCAST: Partitioning = Partitioning::Broadcast;

    /// Edges of a program without chaining, all tasks with two subtasks.
    fn overtaking(n_sources: u32, edges: &[(u32, u32, Partitioning)]) -> Vec<(u32, u32)> {
        let n_nodes = edges.iter().map(|(_, to, _)| to + 1).max().unwrap_or_default();
        let mut graph = StreamGraph::default();
        for idx in 0..n_nodes {
            let kind = if idx < n_sources { NodeKind::Source } else { NodeKind::OneInput };
            graph.add_node(format!("n{idx}"), kind);
        }
        graph.edges.extend(edges.iter().map(|(from, to, partitioning)| StreamEdge {
            source: NodeId(*from),
            target: NodeId(*to),
            input: 0,
            partitioning: Some(*partitioning),
            side: None,
        }));
        let graph = JobGraph::new(&graph, 2, 128, false).expect("a program");
        let edge = |idx: usize| edges.get(idx).map(|(from, to, _)| (*from, *to)).expect("an edge");
        overtaking_edges(&graph).into_iter().map(edge).collect()
    }

    #[test]
    fn straight_programs_overtake_wherever_records_are_divided() {
        let edges = [(0, 1, FORWARD), (1, 2, HASH), (2, 3, FORWARD), (3, 4, HASH), (4, 5, FORWARD)];
        assert_eq!(overtaking(1, &edges), [(1, 2), (3, 4)]);
    }

    /// What the second writes to the last is held back until the barrier of the first comes, which waits behind what the second does not take.
    #[test]
    fn who_aligns_with_a_task_before_it_is_not_overtaken() {
        let diamond = [(0, 1, FORWARD), (1, 2, HASH), (1, 3, FORWARD), (2, 3, FORWARD)];
        assert_eq!(overtaking(1, &diamond), []);
        // A source gets its barriers from the master.
        let behind_a_source = [(0, 1, HASH), (0, 2, FORWARD), (1, 2, FORWARD)];
        assert_eq!(overtaking(1, &behind_a_source), [(0, 1)]);
        // The last waits for nobody.
        let overtaken_at_last = [(0, 1, FORWARD), (1, 2, HASH), (1, 3, HASH), (2, 3, FORWARD)];
        assert_eq!(overtaking(1, &overtaken_at_last), [(1, 2), (1, 3)]);
    }

    #[test]
    fn a_broadcast_is_many_channels_that_wait_for_each_other() {
        let edges = [(0, 1, FORWARD), (1, 2, HASH), (2, 3, BROADCAST)];
        assert_eq!(overtaking(1, &edges), []);
        let edges = [(0, 1, HASH), (1, 2, BROADCAST), (2, 3, HASH)];
        assert_eq!(overtaking(1, &edges), [(0, 1), (2, 3)]);
    }
}
