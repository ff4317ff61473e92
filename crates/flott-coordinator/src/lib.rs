//! The control plane of one job.
//!
//! * `job_state`: the life cycle of a job as a function from (state, event) to (state, actions).
//! * `alignment`: how far splits may run ahead of each other, the same way.
//! * `enumerators`: hosts the split enumerators of sources, whose types are erased.
//! * `job_master`: the loop that feeds these and carries their actions out.
//!
//! It knows subtasks by id and talks to them through mailboxes; what they run is no concern of it.

#![deny(missing_docs)]

mod alignment;
mod enumerators;
mod job_master;
mod job_state;

pub use enumerators::{EnumeratorFactory, EnumeratorHost, Instruction, enumerator_factory};
pub use job_master::{JobControl, JobMaster, JobResult, SourceSpec};
pub use job_state::{Action, JobState, JobStatus};
