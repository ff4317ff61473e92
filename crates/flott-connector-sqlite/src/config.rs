//! What users see: the sink and its options.

use crate::SqliteValue;
use crate::committer::SqliteCommitter;
use crate::database::Database;
use crate::schema;
use crate::value::row_of_fields;
use crate::writer::SqliteWriter;
use flott_api::{Committer, Sink, SinkContext, UserResult};
use flott_connector_sql::{TableOptions, WriteMode, of_columns, table_options};
use flott_types::Result;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a writer waits for the others, which write to the same file.
const BUSY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

type RowOf<T> = dyn Fn(&T, &[String]) -> UserResult<Vec<SqliteValue>> + Send + Sync;

/// What a writer is made from.
pub(crate) struct SqliteSinkConfig<T> {
    pub(crate) path: PathBuf,
    pub(crate) options: TableOptions,
    pub(crate) row_of: Arc<RowOf<T>>,
    pub(crate) busy_timeout: Duration,
}

impl<T> Clone for SqliteSinkConfig<T> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            options: self.options.clone(),
            row_of: Arc::clone(&self.row_of),
            busy_timeout: self.busy_timeout,
        }
    }
}

impl<T> SqliteSinkConfig<T> {
    pub(crate) fn open(&self) -> Result<Database> {
        Database::open(&self.path, &self.options.table, self.busy_timeout)
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
            .field("options", &self.config.options)
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
        let row_of = move |record: &T, columns: &[String]| of_columns(row_of(record), columns);
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
                options: TableOptions::new(table, columns),
                row_of,
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
    pub fn transactional(mut self) -> Self {
        self.config.options.mode = WriteMode::Transactional;
        self
    }

    table_options!(config.options);

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
        let options = &self.config.options;
        options.check(str::eq_ignore_ascii_case)?;
        let mut database = self.config.open()?;
        database.transaction(|db| schema::create(db, options))?;
        Ok(SqliteWriter::new(self.config.clone(), &ctx, database))
    }

    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(match self.config.options.mode {
            WriteMode::Transactional | WriteMode::Eager => {
                Some(Box::new(SqliteCommitter::new(&ctx, self.config.open()?)))
            }
            WriteMode::Upsert { .. } => None,
        })
    }
}
