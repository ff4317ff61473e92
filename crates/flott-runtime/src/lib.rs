//! One subtask: its event loop, its operator chain, its inputs and outputs; and the `TaskManager` that starts them.
//!
//! Reading order, along the way of a record:
//! * `source_task`: polls a reader, assigns timestamps, derives watermarks, and feeds the chain.
//!   `span_filter`: from when and until when.
//! * `input_task`: polls input gates and feeds the chain. `alignment`: what barriers come to there.
//! * `chain`: a link calls its operator, which emits into the next link: plain calls, no queue.
//! * `chain_end`: the partition at the end of a chain, and fan-out.
//! * `subtask`: the loop around all of it: commands, back-pressure, timers, input.
//! * `factory`: how typed operators and edges are made from a program whose types are erased.
//! * `checkpointing`: what becomes of the snapshot of a subtask. `attempt`: where an attempt writes and what it goes on from.
//! * `state_types`: what the operators of a program keep by key, before it runs.
//! * `in_flight`: records that barriers had overtaken, on their way back into channels. `replay`: the same for an operator without any.
//! * `task_manager`: expands a job into subtasks and starts them.
//!
//! Invariants: one subtask is one loop over one closed set of inputs, with no lock around operators; a panic or an error
//! in an operator becomes a failure of its subtask that names operator, subtask and record, and never ends the process.

#![deny(missing_docs)]

mod alignment;
mod attempt;
mod chain;
mod chain_end;
mod checkpointing;
mod factory;
mod in_flight;
mod input_task;
mod replay;
mod source_task;
mod span_filter;
mod state_types;
mod subtask;
mod task_manager;

pub use attempt::{AtEnd, AttemptCheckpoints, AttemptSpec, BeginPart, InFlight, RestoredSnapshots};
pub use chain::ChainLink;
pub use factory::{
    BuildContext, EdgeFactory, Erased, ErasedTask, OneInputFactory, OperatorFactory, Outputs,
    PartitionContext, Share, SourceFactory, TaskInputs, TwoInputFactory, TypedEdge,
};
pub use in_flight::{Chained, check_in_flight};
pub use task_manager::{Deployment, JobSpec, OperatorMetrics, RuntimeConfig, TaskManager};
