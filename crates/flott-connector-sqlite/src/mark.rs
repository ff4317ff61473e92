//! Whose a row is.

use flott_api::{SinkContext, SinkGeneration};
use flott_types::CheckpointId;

/// A subtask of a sink of a job, as it stands in the database.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) job: String,
    pub(crate) sink: String,
    pub(crate) subtask: i64,
    pub(crate) parallelism: i64,
    /// The attempt.
    pub(crate) run: String,
    /// Its number among the attempts.
    pub(crate) generation: Option<SinkGeneration>,
}

impl Owner {
    pub(crate) fn new(ctx: &SinkContext) -> Self {
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

/// Numbers of generations as integers of SQLite.
pub(crate) fn generation(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Numbers of checkpoints as integers of SQLite. The end of the input is more than any.
pub(crate) fn number(checkpoint: CheckpointId) -> i64 {
    i64::try_from(checkpoint.0).unwrap_or(i64::MAX)
}
