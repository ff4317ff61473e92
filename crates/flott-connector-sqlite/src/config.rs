//! What users see: the sink and its options.

use crate::SqliteValue;
use crate::committer::SqliteCommitter;
use crate::database::Database;
use crate::schema;
use crate::value::row_of_fields;
use crate::writer::SqliteWriter;
use flott_api::{Committer, Sink, SinkContext, UserResult};
use flott_types::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Rows in a transaction. Flink's connector for JDBC has 100; SQLite syncs a file per transaction.
const MAX_ROWS_DEFAULT: usize = 5_000;
/// As in Flink's connector for JDBC.
const FLUSH_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// How long a writer waits for the others, which write to the same file.
const BUSY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How rows get into the table, and with that what is promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// When their checkpoint is complete: see [`SqliteSink::transactional`].
    Transactional,
    /// At once, and out again: see [`SqliteSink::eager`].
    Eager,
    /// At once, replacing others: see [`SqliteSink::upsert_by`].
    Upsert {
        /// The columns of the key.
        key: Vec<String>,
    },
}

type RowOf<T> = dyn Fn(&T, &[String]) -> UserResult<Vec<SqliteValue>> + Send + Sync;

/// What a writer is made from.
pub(crate) struct SqliteSinkConfig<T> {
    pub(crate) path: PathBuf,
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    pub(crate) row_of: Arc<RowOf<T>>,
    pub(crate) mode: WriteMode,
    pub(crate) create_table: Option<String>,
    pub(crate) max_rows: usize,
    pub(crate) flush_interval: Duration,
    pub(crate) busy_timeout: Duration,
}

impl<T> Clone for SqliteSinkConfig<T> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            table: self.table.clone(),
            columns: self.columns.clone(),
            row_of: Arc::clone(&self.row_of),
            mode: self.mode.clone(),
            create_table: self.create_table.clone(),
            ..*self
        }
    }
}

impl<T> SqliteSinkConfig<T> {
    pub(crate) fn open(&self) -> Result<Database> {
        Database::open(&self.path, &self.table, self.busy_timeout)
    }
}

/// Writes each record as a row of a table in an SQLite database.
///
/// All subtasks write to the same file, one after the other. The sink keeps its books in tables of that file, whose names begin with
/// `flott_`.
pub struct SqliteSink<T> {
    config: SqliteSinkConfig<T>,
}

impl<T> Clone for SqliteSink<T> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone() }
    }
}

impl<T> fmt::Debug for SqliteSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSink")
            .field("path", &self.config.path)
            .field("table", &self.config.table)
            .field("mode", &self.config.mode)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> SqliteSink<T> {
    /// Writes the fields of records into columns of the same names. Lists and nested structures become JSON text.
    pub fn new<C: Into<String>>(
        path: impl Into<PathBuf>,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self
    where
        T: Serialize,
    {
        Self::from_parts(path.into(), table.into(), columns, Arc::new(row_of_fields))
    }

    /// Writes what `row_of` makes of records: as many values as there are columns.
    pub fn with_row<C: Into<String>>(
        path: impl Into<PathBuf>,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
        row_of: impl Fn(&T) -> Vec<SqliteValue> + Send + Sync + 'static,
    ) -> Self {
        let row_of = move |record: &T, columns: &[String]| {
            let row = row_of(record);
            if row.len() != columns.len() {
                return Err(format!("the row has {} values for {} columns", row.len(), columns.len()).into());
            }
            Ok(row)
        };
        Self::from_parts(path.into(), table.into(), columns, Arc::new(row_of))
    }

    fn from_parts<C: Into<String>>(
        path: PathBuf,
        table: String,
        columns: impl IntoIterator<Item = C>,
        row_of: Arc<RowOf<T>>,
    ) -> Self {
        Self {
            config: SqliteSinkConfig {
                path,
                table,
                columns: columns.into_iter().map(Into::into).collect(),
                row_of,
                mode: WriteMode::Transactional,
                create_table: None,
                max_rows: MAX_ROWS_DEFAULT,
                flush_interval: FLUSH_INTERVAL_DEFAULT,
                busy_timeout: BUSY_TIMEOUT_DEFAULT,
            },
        }
    }

    /// Rows are in the table when their checkpoint is complete, and then for ever: exactly once for every reader. This is the default.
    ///
    /// Until then they are in the table `flott_staged_<table>`, without constraints: a row that the target does not accept fails the job
    /// when it is committed, and does again until the target accepts it. `flott_commits` has a row for each commit; those of checkpoints and
    /// savepoints that do not exist any more may be deleted.
    ///
    /// Without checkpoints rows are in the table at the end of the input.
    #[must_use]
    pub fn transactional(self) -> Self {
        self.mode(WriteMode::Transactional)
    }

    /// Rows are in the table at once, and a restart deletes those that come after its checkpoint: exactly once for readers of the view
    /// `<table>_committed`, and at the end for all.
    ///
    /// The table gets the columns `flott_job`, `flott_sink`, `flott_subtask` and `flott_checkpoint` if it lacks them. A job that starts from
    /// nothing deletes all rows that an earlier run of the same job and sink has written.
    #[must_use]
    pub fn eager(self) -> Self {
        self.mode(WriteMode::Eager)
    }

    /// A row replaces the one with the same values in the columns of the key, which the table has as primary key or declares unique.
    ///
    /// After a restart rows go back to older values and forth again until the job is where it was. If the last row of a key is a function of
    /// the input, the table is in the end as if nothing had failed.
    #[must_use]
    pub fn upsert_by<C: Into<String>>(self, key: impl IntoIterator<Item = C>) -> Self {
        self.mode(WriteMode::Upsert { key: key.into_iter().map(Into::into).collect() })
    }

    fn mode(mut self, mode: WriteMode) -> Self {
        self.config.mode = mode;
        self
    }

    /// Statements to execute before the table is written, such as `CREATE TABLE IF NOT EXISTS …`; each subtask executes them.
    #[must_use]
    pub fn create_table(mut self, statements: impl Into<String>) -> Self {
        self.config.create_table = Some(statements.into());
        self
    }

    /// Rows in a transaction at most: `sink.buffer-flush.max-rows` of Flink's connector for JDBC.
    #[must_use]
    pub fn buffer_flush_max_rows(mut self, max_rows: usize) -> Self {
        self.config.max_rows = max_rows.max(1);
        self
    }

    /// How long a row waits for others, in modes that show it at once: `sink.buffer-flush.interval` of Flink's connector for JDBC.
    #[must_use]
    pub fn buffer_flush_interval(mut self, interval: Duration) -> Self {
        self.config.flush_interval = interval;
        self
    }

    /// How long to wait for others who write to the database before that is an error; in place of `sink.max-retries` of Flink's connector for
    /// JDBC.
    #[must_use]
    pub fn busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.config.busy_timeout = busy_timeout;
        self
    }
}

impl<T: Send + 'static> Sink<T> for SqliteSink<T> {
    type Writer = SqliteWriter<T>;

    fn create_writer(&self, ctx: SinkContext) -> Result<SqliteWriter<T>> {
        let SqliteSinkConfig { table, columns, mode, create_table, .. } = &self.config;
        if columns.is_empty() {
            return Err(Error::user(format!("no columns to write to in table '{table}'")));
        }
        if let WriteMode::Upsert { key } = mode
            && let Some(missing) =
                key.iter().find(|it| !columns.iter().any(|name| name.eq_ignore_ascii_case(it)))
        {
            return Err(Error::user(format!(
                "column '{missing}' of the key of table '{table}' is not written"
            )));
        }
        let mut database = self.config.open()?;
        database.transaction(|db| schema::create(db, mode, columns, create_table.as_deref()))?;
        Ok(SqliteWriter::new(self.config.clone(), &ctx, database))
    }

    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(match self.config.mode {
            WriteMode::Transactional | WriteMode::Eager => {
                Some(Box::new(SqliteCommitter::new(&ctx, self.config.open()?)))
            }
            WriteMode::Upsert { .. } => None,
        })
    }
}
