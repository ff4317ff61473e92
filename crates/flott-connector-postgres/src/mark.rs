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

/// Numbers of generations as integers of PostgreSQL.
pub(crate) fn generation(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Numbers of checkpoints as integers of PostgreSQL. The end of the input is more than any.
pub(crate) fn number(checkpoint: CheckpointId) -> i64 {
    i64::try_from(checkpoint.0).unwrap_or(i64::MAX)
}

/// The name of a prepared transaction: whose it is, for which checkpoint, and something at random that is never used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gid {
    pub(crate) text: String,
    pub(crate) subtask: i64,
    pub(crate) checkpoint: i64,
}

impl Gid {
    /// What the names of a sink of a job begin with. A uid may be longer than a name may be, so there is its hash.
    pub(crate) fn prefix(owner: &Owner) -> String {
        let hash = flott_types::key_hash(&owner.sink);
        format!("flott_{}_{hash:016x}_", owner.job)
    }

    pub(crate) fn new(owner: &Owner, checkpoint: CheckpointId, random: u64) -> Self {
        let (subtask, checkpoint) = (owner.subtask, number(checkpoint));
        let text = format!("{}{subtask}_{checkpoint}_{random:016x}", Self::prefix(owner));
        Self { text, subtask, checkpoint }
    }

    /// Reads a name that [`Gid::new`] has made for the same sink; `None` for others.
    pub(crate) fn parse(owner: &Owner, text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(&Self::prefix(owner))?.split('_');
        let (subtask, checkpoint) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { text: text.to_owned(), subtask, checkpoint })
    }
}
