//! What the sink asks of a database, in steps each of which the database does whole or not at all. The real one is in `session`; tests have a
//! simulated one that loses requests and replies.

use crate::PostgresValue;
use crate::gid::Gid;
use flott_connector_sql::{OnBadRow, Owner, RefusedRows};
use flott_types::Result;
use std::fmt;

/// A row on its way, and what is to become of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowOp {
    pub(crate) values: Vec<PostgresValue>,
    /// Only where rows have keys.
    pub(crate) is_delete: bool,
}

/// A session of an attempt, which its successor ends. The database numbers sessions; the time makes a number unique that comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) pid: i32,
    pub(crate) started: String,
}

/// What becomes of rows that are not prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Visible {
    /// Rows of the eager mode, with their mark.
    Marked {
        checkpoint: i64,
    },
    Upserted,
}

/// A database.
pub(crate) trait Peer: Send + Sync + 'static {
    /// Opens a session.
    fn connect(&self) -> Result<Box<dyn Session>>;
}

impl fmt::Debug for dyn Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer")
    }
}

/// A session with a database. A call that fails while [`Session::is_open`] becomes false may have been done or not: the reply is lost.
pub(crate) trait Session: Send {
    /// Whether the session can still be used. A transaction that is open and not prepared ends with its session, undone.
    fn is_open(&self) -> bool;

    /// Creates what the sink needs and is missing, and checks what the user has said, the number of subtasks among it.
    fn set_up(&mut self, parallelism: i64) -> Result<()>;

    /// Makes `owner` the owner of its subtask and of those for which it stands, and notes that this session works for it. Returns the other
    /// sessions that worked for these subtasks and are not known to have ended. Fails with `Fenced` if a later generation has been here.
    fn claim(&mut self, owner: &Owner) -> Result<Vec<Backend>>;

    /// Ends sessions; returns when what they were doing is done or undone, and forgets them.
    fn end(&mut self, backends: &[Backend]) -> Result<()>;

    /// Notes that this session works for `owner`, and returns the others that worked for its subtask and are not known to have ended. Fails with
    /// `Fenced` if somebody else has claimed its subtask.
    fn register(&mut self, owner: &Owner) -> Result<Vec<Backend>>;

    /// Begins a transaction.
    fn begin(&mut self) -> Result<()>;

    /// Writes rows in the transaction.
    fn write(&mut self, rows: &[RowOp], on_bad_row: OnBadRow) -> Result<RefusedRows>;

    /// Prepares the transaction, with a note in it that it has been committed.
    fn prepare(&mut self, owner: &Owner, gid: &Gid, n_rows: u64) -> Result<()>;

    /// The names of prepared transactions of the sink, of whatever subtask.
    fn prepared(&mut self, owner: &Owner) -> Result<Vec<Gid>>;

    /// Commits a prepared transaction; `false` if there is none of this name.
    fn commit_prepared(&mut self, gid: &str) -> Result<bool>;

    /// Undoes a prepared transaction, if there is one of this name.
    fn roll_back_prepared(&mut self, gid: &str) -> Result<()>;

    /// Whether the note of a transaction is there.
    fn is_committed(&mut self, gid: &str) -> Result<bool>;

    /// Writes rows that everybody sees at once, in a transaction of their own.
    fn write_visible(
        &mut self,
        owner: &Owner,
        how: &Visible,
        rows: &[RowOp],
        on_bad_row: OnBadRow,
    ) -> Result<RefusedRows>;

    /// Deletes rows of the eager mode of `owner`, and of those for which it stands, whose mark is not less than `from`.
    fn delete_marked(&mut self, owner: &Owner, from: i64) -> Result<()>;

    /// Notes that the rows of `subtask` with a mark less than `checkpoint` stay. Fails with `Fenced` if `owner` owns its subtask no more.
    fn complete(&mut self, owner: &Owner, subtask: i64, checkpoint: i64) -> Result<()>;
}
