//! Subtasks and the channels between them.

use crate::job_graph::{JobGraph, VertexId};
use crate::stream_graph::Partitioning;
use flott_types::SubtaskIndex;

/// A channel from one subtask to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel {
    /// The edge, as an index into [`JobGraph::edges`].
    pub edge: usize,
    /// Who writes.
    pub producer: SubtaskIndex,
    /// Who reads.
    pub consumer: SubtaskIndex,
}

/// Every channel of a job.
#[derive(Clone, Debug)]
pub struct ExecutionGraph {
    channels: Vec<Channel>,
}

impl ExecutionGraph {
    /// Expands the exchanges of a job graph.
    pub fn new(graph: &JobGraph) -> Self {
        let mut channels = Vec::new();
        for (idx, (edge, partitioning)) in graph.edges.iter().enumerate() {
            if graph.chained.contains(&idx) {
                continue;
            }
            let parallelism = |node| graph.vertex_of(node).map_or(0, |vertex| vertex.parallelism);
            let (producers, consumers) = (parallelism(edge.source), parallelism(edge.target));
            for producer in 0..producers {
                for consumer in 0..consumers {
                    if connected(*partitioning, producer, producers, consumer, consumers) {
                        let (producer, consumer) = (SubtaskIndex(producer), SubtaskIndex(consumer));
                        channels.push(Channel { edge: idx, producer, consumer });
                    }
                }
            }
        }
        Self { channels }
    }

    /// All channels.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter()
    }

    /// The channels into one input of a subtask, in the order in which its gate numbers them.
    pub fn inputs(
        &self,
        graph: &JobGraph,
        vertex: VertexId,
        subtask: SubtaskIndex,
        input: usize,
    ) -> Vec<Channel> {
        let into = |channel: &&Channel| {
            graph.edges.get(channel.edge).is_some_and(|(edge, _)| {
                edge.input == input
                    && channel.consumer == subtask
                    && graph.vertices.get(vertex.0).is_some_and(|vertex| vertex.head == edge.target)
            })
        };
        self.channels.iter().filter(into).copied().collect()
    }

    /// The channels of an edge out of a subtask, by consumer.
    pub fn outputs(&self, edge: usize, producer: SubtaskIndex) -> Vec<Channel> {
        let out_of = |channel: &&Channel| channel.edge == edge && channel.producer == producer;
        self.channels.iter().filter(out_of).copied().collect()
    }
}

fn connected(
    partitioning: Partitioning,
    producer: u32,
    producers: u32,
    consumer: u32,
    consumers: u32,
) -> bool {
    match partitioning {
        Partitioning::Forward => producer == consumer,
        // Each side's share of the other: consecutive subtasks stay together.
        Partitioning::Rescale if producers >= consumers => {
            u64::from(producer) * u64::from(consumers) / u64::from(producers) == u64::from(consumer)
        }
        Partitioning::Rescale => {
            u64::from(consumer) * u64::from(producers) / u64::from(consumers) == u64::from(producer)
        }
        Partitioning::Hash
        | Partitioning::Rebalance
        | Partitioning::Shuffle
        | Partitioning::Broadcast
        | Partitioning::Global
        | Partitioning::Custom => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescale_gives_every_subtask_a_partner_and_no_more_channels_than_needed() {
        for producers in 1..7 {
            for consumers in 1..7 {
                let pairs: Vec<_> = (0..producers)
                    .flat_map(|p| (0..consumers).map(move |c| (p, c)))
                    .filter(|(p, c)| connected(Partitioning::Rescale, *p, producers, *c, consumers))
                    .collect();
                assert!((0..producers).all(|p| pairs.iter().any(|pair| pair.0 == p)));
                assert!((0..consumers).all(|c| pairs.iter().any(|pair| pair.1 == c)));
                assert_eq!(pairs.len() as u32, producers.max(consumers));
            }
        }
    }
}
