//! The program as it was written.

use flott_types::{Error, MAX_MAX_PARALLELISM, NodeId, OperatorUid, Result, TagId};
use std::collections::BTreeSet;
use std::fmt;

/// Whether an operator may run in one task with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainingStrategy {
    /// With the operator before it and those behind it.
    Always,
    /// Only with those behind it.
    Head,
    /// With none.
    Never,
}

/// What an operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Nothing: it is a source.
    Source,
    /// One input, possibly the union of several streams.
    OneInput,
    /// Two inputs of their own types.
    TwoInput,
}

/// How records find the subtask of the next operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// To the subtask with the same index; both sides have the same parallelism.
    Forward,
    /// By the key group of the record's key.
    Hash,
    /// In turn to all.
    Rebalance,
    /// In turn to those of the sender's share, so that few channels are needed.
    Rescale,
    /// To a random one.
    Shuffle,
    /// To all.
    Broadcast,
    /// To the first.
    Global,
    /// As a function of the user's says.
    Custom,
}

impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "FORWARD",
            Self::Hash => "HASH",
            Self::Rebalance => "REBALANCE",
            Self::Rescale => "RESCALE",
            Self::Shuffle => "SHUFFLE",
            Self::Broadcast => "BROADCAST",
            Self::Global => "GLOBAL",
            Self::Custom => "CUSTOM",
        })
    }
}

/// An operator of the program.
#[derive(Clone, Debug)]
pub struct StreamNode {
    /// Its place in [`StreamGraph::nodes`].
    pub id: NodeId,
    /// The identity of its state, if the user gave one.
    pub uid: Option<OperatorUid>,
    /// What people call it.
    pub name: String,
    /// What it reads.
    pub kind: NodeKind,
    /// Number of subtasks; `None` for the job's default.
    pub parallelism: Option<u32>,
    /// Number of key groups; `None` for the job's default.
    pub max_parallelism: Option<u32>,
    /// The most subtasks that make sense, for example 1 for a window over all records.
    pub parallelism_limit: Option<u32>,
    /// Whether it may be chained.
    pub chaining: ChainingStrategy,
    /// Operators of different groups never share a task.
    pub slot_sharing_group: String,
}

/// A connection of the program.
#[derive(Clone, Debug)]
pub struct StreamEdge {
    /// Who writes.
    pub source: NodeId,
    /// Who reads.
    pub target: NodeId,
    /// Which input of the target: 0 or 1.
    pub input: usize,
    /// How records are divided; `None` for forward where parallelism allows and rebalance where not.
    pub partitioning: Option<Partitioning>,
    /// The side output that is read, `None` for the main output.
    pub side: Option<TagId>,
}

/// The program as it was written.
#[derive(Clone, Debug, Default)]
pub struct StreamGraph {
    /// Operators; a node's id is its index.
    pub nodes: Vec<StreamNode>,
    /// Connections.
    pub edges: Vec<StreamEdge>,
}

impl StreamGraph {
    /// Adds an operator.
    pub fn add_node(&mut self, name: impl Into<String>, kind: NodeKind) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("fewer than four billion operators"));
        self.nodes.push(StreamNode {
            id,
            uid: None,
            name: name.into(),
            kind,
            parallelism: None,
            max_parallelism: None,
            parallelism_limit: None,
            chaining: ChainingStrategy::Always,
            slot_sharing_group: "default".to_owned(),
        });
        id
    }

    /// The node `id`.
    ///
    /// # Panics
    /// If it belongs to another graph.
    pub fn node(&self, id: NodeId) -> &StreamNode {
        &self.nodes[id.0 as usize]
    }

    /// The node `id`, to change; `None` if it belongs to another graph.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut StreamNode> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// The uid of a node: the user's, or one made of its name and position.
    pub fn uid(&self, id: NodeId) -> OperatorUid {
        let node = self.node(id);
        node.uid.clone().unwrap_or_else(|| OperatorUid(format!("{}-{}", node.name, id.0)))
    }

    /// Checks what the builder's types cannot.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError): no operator, a uid twice, parallelism out of range, a
    /// forward edge between different parallelisms.
    pub fn validate(&self, default_parallelism: u32, max_parallelism: u32) -> Result<()> {
        if self.nodes.is_empty() {
            return Err(Error::user("the program has no operator: add a source and a sink before execute"));
        }
        let mut uids = BTreeSet::new();
        for node in &self.nodes {
            if let Some(uid) = &node.uid
                && !uids.insert(uid)
            {
                return Err(Error::user(format!(
                    "two operators have the uid '{uid}': a uid names one operator"
                )));
            }
            let parallelism = self.parallelism(node.id, default_parallelism);
            let max = node.max_parallelism.unwrap_or(max_parallelism);
            if parallelism == 0 || max == 0 || max > MAX_MAX_PARALLELISM || parallelism > max {
                return Err(Error::user(format!(
                    "operator '{}' has parallelism {parallelism} and max parallelism {max}: \
                     1 <= parallelism <= max parallelism <= {MAX_MAX_PARALLELISM} is needed",
                    node.name
                )));
            }
            if let Some(limit) = node.parallelism_limit
                && node.parallelism.is_some_and(|parallelism| parallelism > limit)
            {
                return Err(Error::user(format!(
                    "operator '{}' runs with parallelism {limit} at most",
                    node.name
                )));
            }
        }
        for edge in &self.edges {
            let (from, to) = (
                self.parallelism(edge.source, default_parallelism),
                self.parallelism(edge.target, default_parallelism),
            );
            if edge.partitioning == Some(Partitioning::Forward) && from != to {
                return Err(Error::user(format!(
                    "forward from '{}' with parallelism {from} to '{}' with parallelism {to}: use rescale or rebalance",
                    self.node(edge.source).name,
                    self.node(edge.target).name
                )));
            }
        }
        Ok(())
    }

    /// The number of subtasks of a node.
    pub fn parallelism(&self, id: NodeId, default_parallelism: u32) -> u32 {
        let node = self.node(id);
        let wanted = node.parallelism.unwrap_or(default_parallelism);
        node.parallelism_limit.map_or(wanted, |limit| wanted.min(limit))
    }
}
