//! Connections, and errors that say what to do.

use flott_connector_sql::{OnBadRow, RefusedRows};
use flott_types::{Error, ErrorKind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often somebody else may be in the way of the switch to WAL.
const SWITCHES_MAX: usize = 100;

/// A connection to the database, and what messages say about it.
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    table: String,
}

impl Database {
    /// Opens or creates the database.
    pub(crate) fn open(path: &Path, table: &str, busy_timeout: Duration) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            // First, as the others may have to wait.
            connection.busy_timeout(busy_timeout)?;
            switch_to_wal(&connection)?;
            // A transaction is durable when it has been committed. NORMAL would lose the newest when the power fails, and with them what a
            // checkpoint counts as prepared.
            connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")?;
            Ok(connection)
        };
        let connection = open().map_err(|error| describe(path, table, "PRAGMA journal_mode = WAL", error))?;
        Ok(Self { connection, path: path.to_owned(), table: table.to_owned() })
    }

    /// Does `f` in one transaction, which takes its lock at once: a lock that is taken later can fail without waiting.
    pub(crate) fn transaction<R>(&mut self, f: impl FnOnce(&Statements<'_>) -> Result<R>) -> Result<R> {
        let Self { connection, path, table } = self;
        let fail = |statement: &str, error| describe(path, table, statement, error);
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(|error| fail("BEGIN IMMEDIATE", error))?;
        let statements = Statements { transaction, path, table };
        // An error rolls back, as the transaction is dropped.
        let result = f(&statements)?;
        statements.transaction.commit().map_err(|error| fail("COMMIT", error))?;
        Ok(result)
    }
}

/// In this mode readers do not wait for writers, nor writers for readers. Who switches a new database while another one does is refused without
/// having waited, as each could wait for the other. So it waits as for any lock, and looks again: most often it is done then.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let switch = || connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
    for _ in 0..SWITCHES_MAX {
        match switch() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
            }
            done => return done,
        }
    }
    switch()
}

/// Statements in a transaction.
pub(crate) struct Statements<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
    table: &'a str,
}

impl Statements<'_> {
    /// The table that the sink writes to.
    pub(crate) fn table(&self) -> &str {
        self.table
    }

    /// Executes a statement; returns the number of rows that it changed.
    pub(crate) fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize> {
        let mut statement = self.prepare(sql)?;
        statement.execute(parameters).map_err(|error| self.describe(sql, error))
    }

    /// Executes a statement for each of `rows`, which have numbers. Returns those that the table does not take for what is in them, unless such a row
    /// is to fail the call.
    pub(crate) fn execute_each<P: rusqlite::Params>(
        &self,
        sql: &str,
        rows: impl Iterator<Item = (usize, P)>,
        on_bad_row: OnBadRow,
    ) -> Result<RefusedRows> {
        let mut statement = self.prepare(sql)?;
        let mut refused = RefusedRows::new();
        for (idx, row) in rows {
            let Err(error) = statement.execute(row) else { continue };
            let is_of_the_row = matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
            );
            let error = self.describe(sql, error);
            // A table can say that a conflict rolls back the transaction (ON CONFLICT ROLLBACK), and with it the rows before.
            if on_bad_row == OnBadRow::Fail || !is_of_the_row || self.transaction.is_autocommit() {
                return Err(error);
            }
            refused.insert(idx, error);
        }
        Ok(refused)
    }

    /// The rows of a query.
    pub(crate) fn query<R>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<R>,
    ) -> Result<Vec<R>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(parameters, read).and_then(Iterator::collect);
        rows.map_err(|error| self.describe(sql, error))
    }

    /// Executes statements of the user.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        self.transaction.execute_batch(sql).map_err(|error| self.describe(sql, error))
    }

    pub(crate) fn last_id(&self) -> i64 {
        self.transaction.last_insert_rowid()
    }

    fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>> {
        self.transaction.prepare_cached(sql).map_err(|error| self.describe(sql, error))
    }

    fn describe(&self, statement: &str, error: rusqlite::Error) -> Error {
        describe(self.path, self.table, statement, error)
    }
}

/// Names table, statement and remedy.
#[cold]
fn describe(path: &Path, table: &str, statement: &str, error: rusqlite::Error) -> Error {
    let text = error.to_string();
    let (kind, remedy) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Retry,
            "somebody holds a lock for longer than SqliteSink::busy_timeout: end the other transaction or wait longer",
        ),
        Some(ErrorCode::DiskFull) => (ErrorKind::Retry, "free space on the disk"),
        Some(ErrorCode::ReadOnly) => (ErrorKind::UserError, "make the file and its directory writable"),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::UserError,
            "create the directory, and make it writable: SQLite puts files beside the database",
        ),
        Some(ErrorCode::NotADatabase) => {
            (ErrorKind::UserError, "choose another file: this is no SQLite database")
        }
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Corruption,
            "restore the database from a copy; PRAGMA integrity_check says what is damaged",
        ),
        Some(ErrorCode::ConstraintViolation) => (
            ErrorKind::UserError,
            "the table does not accept the row: change its constraints or the records, replace rows with SqliteSink::upsert_by, or say what becomes of \
             such records (on_error of the sink)",
        ),
        _ if text.contains("no such table") => (
            ErrorKind::UserError,
            "create the table, or give the statement for it to SqliteSink::create_table",
        ),
        _ if text.contains("ON CONFLICT clause does not match") => {
            (ErrorKind::UserError, "declare the key as PRIMARY KEY or UNIQUE in the table")
        }
        _ if text.contains("column") => (ErrorKind::UserError, "name columns that the table has"),
        _ => (ErrorKind::FailSubtask, "see the cause"),
    };
    let path = path.display();
    Error::new(
        kind,
        format!("cannot execute [{statement}] for table '{table}' of SQLite database '{path}'; {remedy}"),
    )
    .with_source(error)
}
