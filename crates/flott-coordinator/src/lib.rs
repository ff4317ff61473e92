//! The control plane of one job.
//!
//! * `job_state`: the life cycle of a job as a function from (state, event) to (state, actions).
//! * `alignment`: how far splits may run ahead of each other, the same way.
//! * `enumerators`: hosts the split enumerators of sources, whose types are erased.
//! * `restart`: what follows a failure, the same way.
//! * `checkpoints`: drives the coordinator of checkpoints (`flott-checkpoint`, pure as well) and its storage.
//! * `metrics`: what is counted. What happens is also said to `tracing`; who embeds the engine decides who listens.
//! * `attempt`: one attempt to run the job: carries out what all of these want.
//! * `assignments`: which splits are in no checkpoint yet. `inbox`: what subtasks report, and of which start of theirs.
//! * `job_master`: the loop around attempts, and restarts of regions.
//!
//! It knows subtasks by id and talks to them through mailboxes; what they run is no concern of it.

#![deny(missing_docs)]

mod alignment;
mod assignments;
mod attempt;
mod checkpoints;
mod enumerators;
mod inbox;
mod job_master;
mod job_state;
mod metrics;
mod restart;

pub use checkpoints::{CheckpointSetup, SavepointResult};
pub use enumerators::{EnumeratorFactory, EnumeratorHost, Instruction, enumerator_factory};
pub use job_master::{
    AttemptStart, Deployer, JobControl, JobEnd, JobMaster, JobResult, JobSetup, SourceSpec,
};
pub use job_state::{Action, JobState, JobStatus};
pub use metrics::{JobCounts, JobMetrics};
pub use restart::{ExponentialDelay, FailureRate, RestartStrategy};
