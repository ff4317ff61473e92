//! From what the user wrote to what runs: `StreamGraph` → `JobGraph` → `ExecutionGraph`.
//!
//! * `stream_graph`: one node per operator, one edge per connection, as the program was written.
//! * `job_graph`: operators that can be are chained into vertices.
//! * `execution_graph`: vertices become subtasks, edges become channels between subtasks.
//! * `overtaking`: on which edges barriers may overtake records.
//! * `regions`: which subtasks fail together.
//! * `control`: what the control plane and subtasks say to each other.
//!
//! Everything here is a pure function of the program and its configuration: no IO, no operators, no record types. What
//! an operator *does* is looked up by [`NodeId`](flott_types::NodeId) elsewhere.

#![deny(missing_docs)]

mod control;
mod execution_graph;
mod job_graph;
mod overtaking;
mod regions;
mod stream_graph;

pub use control::{SpanEnd, SplitRequest, SubtaskId, TaskCommand, TaskEvent};
pub use execution_graph::{Channel, ExecutionGraph};
pub use job_graph::{JobGraph, JobVertex, VertexId};
pub use overtaking::overtaking_edges;
pub use regions::pipelined_regions;
pub use stream_graph::{ChainingStrategy, NodeKind, Partitioning, StreamEdge, StreamGraph, StreamNode};
