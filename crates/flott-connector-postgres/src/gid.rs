//! What prepared transactions are called.

use flott_connector_sql::{Owner, number};
use flott_types::CheckpointId;

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
