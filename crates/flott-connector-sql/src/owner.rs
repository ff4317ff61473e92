//! Whose a row is.

use flott_api::{SinkContext, SinkGeneration};
use flott_types::CheckpointId;

/// A subtask of a sink of a job, as it stands in the database.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The job.
    pub job: String,
    /// The sink within its job.
    pub sink: String,
    /// The subtask.
    pub subtask: i64,
    /// How many there are.
    pub parallelism: i64,
    /// The attempt.
    pub run: String,
    /// Its number among the attempts.
    pub generation: Option<SinkGeneration>,
}

impl Owner {
    /// The subtask to which `ctx` was given.
    pub fn new(ctx: &SinkContext) -> Self {
        Self {
            job: format!("{:032x}", ctx.job_id.0),
            sink: ctx.uid.0.clone(),
            subtask: i64::from(ctx.subtask.0),
            parallelism: i64::from(ctx.parallelism),
            run: format!("{:016x}", ctx.run_id),
            generation: ctx.generation,
        }
    }
}

/// Numbers of generations as integers of databases.
pub fn generation(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Numbers of checkpoints as integers of databases. The end of the input is more than any.
pub fn number(checkpoint: CheckpointId) -> i64 {
    i64::try_from(checkpoint.0).unwrap_or(i64::MAX)
}
