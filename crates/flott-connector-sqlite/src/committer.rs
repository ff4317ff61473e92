//! Commits what writers have prepared.

use crate::database::{Database, Statements};
use crate::schema;
use flott_api::{Committable, Committer, SinkContext, UserResult};
use flott_connector_sql::{Owner, number};
use flott_types::{Error, ErrorKind, Result};
use rusqlite::params;
use serde::{Deserialize, Serialize};

/// What a checkpoint keeps for the committer. Part of the snapshot format: new variants go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Prepared {
    /// Rows that are to be moved. Table and columns are those of the program that wrote them.
    Batch {
        id: i64,
        /// The id alone could come again in a database that somebody has made anew.
        token: String,
        n_rows: u64,
        table: String,
        columns: Vec<String>,
    },
    /// Rows of the subtask are in the table.
    Completed {
        /// For people.
        table: String,
    },
}

impl Prepared {
    const WHAT: &'static str = "a committable of an SQLite sink";

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        flott_state::encode(Self::WHAT, self)
    }
}

/// Commits in one transaction what complete checkpoints hold.
pub(crate) struct SqliteCommitter {
    owner: Owner,
    database: Database,
}

impl SqliteCommitter {
    pub(crate) fn new(ctx: &SinkContext, database: Database) -> Self {
        Self { owner: Owner::new(ctx), database }
    }
}

impl Committer for SqliteCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let Self { owner, database } = self;
        Ok(database.transaction(|db| committables.iter().try_for_each(|it| commit_one(db, owner, it)))?)
    }
}

fn commit_one(db: &Statements<'_>, owner: &Owner, committable: &Committable) -> Result<()> {
    let Owner { job, sink, .. } = owner;
    let (subtask, checkpoint) = (committable.subtask.0, number(committable.checkpoint_id));
    match flott_state::decode(Prepared::WHAT, &committable.payload)? {
        Prepared::Batch { id, token, n_rows, table, columns } => {
            let committable_id = committable.id.to_string();
            let done = "SELECT 1 FROM flott_commits WHERE committable = ?";
            if !db.query(done, [&committable_id], |_| Ok(()))?.is_empty() {
                return Ok(());
            }
            let lost = |what: String| {
                let message = format!(
                    "rows of checkpoint {} for table '{table}' are lost: {what}; restore the database to where it was when that checkpoint \
                     was taken or later, or restore the job from a newer checkpoint",
                    committable.checkpoint_id
                );
                Error::new(ErrorKind::Corruption, message)
            };
            if !schema::has_batch(db, id, &token)? {
                return Err(lost(format!("batch {id} is neither committed nor waiting")));
            }
            let n_moved = schema::move_batch(db, id, &table, &columns)?;
            if n_moved as u64 != n_rows {
                return Err(lost(format!("batch {id} has {n_moved} rows instead of {n_rows}")));
            }
            db.execute(
                "INSERT INTO flott_commits VALUES(?, ?, ?, ?, ?, ?)",
                params![committable_id, job, sink, subtask, checkpoint, n_moved as i64],
            )
            .map(|_| ())
        }
        Prepared::Completed { .. } => db
            .execute(
                "INSERT INTO flott_completed VALUES(?, ?, ?, ?) \
                 ON CONFLICT DO UPDATE SET checkpoint = max(checkpoint, excluded.checkpoint)",
                params![job, sink, subtask, checkpoint],
            )
            .map(|_| ()),
    }
}
