//! Commits what writers have prepared.

use crate::peer::{Peer, Session};
use flott_api::{Committable, Committer, SinkContext, UserResult};
use flott_connector_sql::{Owner, number};
use flott_types::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a checkpoint keeps for the committer. Part of the snapshot format: new variants go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Prepared {
    /// A prepared transaction.
    Transaction {
        gid: String,
        /// For people.
        table: String,
        n_rows: u64,
    },
    /// Rows of the subtask are in the table.
    Completed {
        /// For people.
        table: String,
    },
}

impl Prepared {
    const WHAT: &'static str = "a committable of a PostgreSQL sink";

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        flott_state::encode(Self::WHAT, self)
    }
}

/// Commits what complete checkpoints hold. A connection that broke is made again: what was committed is known by its name.
pub(crate) struct PostgresCommitter {
    owner: Owner,
    peer: Arc<dyn Peer>,
    session: Option<Box<dyn Session>>,
}

impl PostgresCommitter {
    pub(crate) fn new(ctx: &SinkContext, peer: Arc<dyn Peer>) -> Self {
        Self { owner: Owner::new(ctx), peer, session: None }
    }
}

impl Committer for PostgresCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let Self { owner, peer, session } = self;
        for committable in committables {
            let open = match session.take().filter(|session| session.is_open()) {
                Some(open) => open,
                None => peer.connect()?,
            };
            commit_one(session.insert(open).as_mut(), owner, committable)?;
        }
        Ok(())
    }
}

fn commit_one(session: &mut dyn Session, owner: &Owner, committable: &Committable) -> Result<()> {
    match flott_state::decode(Prepared::WHAT, &committable.payload)? {
        Prepared::Transaction { gid, table, n_rows } => {
            // In this order: a transaction that is gone was ended before, and if it was committed its note is seen.
            if session.commit_prepared(&gid)? || session.is_committed(&gid)? {
                return Ok(());
            }
            let message = format!(
                "{n_rows} rows of checkpoint {} for table '{table}' are lost: transaction '{gid}' is neither prepared nor committed; somebody \
                 has rolled it back, or the database is older than the checkpoint: restore the database to where it was when that checkpoint was \
                 taken or later, or restore the job from a newer checkpoint",
                committable.checkpoint_id
            );
            Err(Error::new(ErrorKind::Corruption, message))
        }
        Prepared::Completed { .. } => {
            session.complete(owner, i64::from(committable.subtask.0), number(committable.checkpoint_id))
        }
    }
}
