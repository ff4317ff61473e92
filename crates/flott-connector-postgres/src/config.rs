//! What users see of the sink: its kinds and options.

use crate::PostgresValue;
use crate::committer::PostgresCommitter;
use crate::options::Address;
use crate::peer::Peer;
use crate::session::{Database, Target};
use crate::value::row_of_fields;
use crate::writer::PostgresWriter;
use flott_api::{Committer, Sink, SinkContext, UserResult};
use flott_types::{Error, Result, RowChange};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Rows in a request. Flink's connector for JDBC has 100, each in a statement of its own; these go in one.
const MAX_ROWS_DEFAULT: usize = 5_000;
/// As in Flink's connector for JDBC.
const FLUSH_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// As in Flink's connector for JDBC.
const MAX_RETRIES_DEFAULT: u32 = 3;
/// How long a statement waits for others that have locked what it needs.
const LOCK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How rows get into the table, and with that what is promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// When their checkpoint is complete: see [`PostgresSink::transactional`].
    Transactional,
    /// At once, and out again: see [`PostgresSink::eager`].
    Eager,
    /// At once, replacing others: see [`PostgresSink::upsert_by`].
    Upsert {
        /// The columns of the key.
        key: Vec<String>,
    },
}

/// The values, and whether the row is to be deleted.
type RowOf<T> = dyn Fn(&T, &[String]) -> UserResult<(Vec<PostgresValue>, bool)> + Send + Sync;

/// What a writer is made from.
pub(crate) struct PostgresSinkConfig<T> {
    pub(crate) address: Address,
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    pub(crate) row_of: Arc<RowOf<T>>,
    pub(crate) mode: WriteMode,
    pub(crate) create_table: Option<String>,
    pub(crate) max_rows: usize,
    pub(crate) flush_interval: Duration,
    pub(crate) max_retries: u32,
    pub(crate) lock_timeout: Duration,
    /// Another database than that of the address, for tests.
    pub(crate) peer: Option<Arc<dyn Peer>>,
}

impl<T> Clone for PostgresSinkConfig<T> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            table: self.table.clone(),
            columns: self.columns.clone(),
            row_of: Arc::clone(&self.row_of),
            mode: self.mode.clone(),
            create_table: self.create_table.clone(),
            peer: self.peer.clone(),
            ..*self
        }
    }
}

impl<T> PostgresSinkConfig<T> {
    fn peer(&self) -> Result<Arc<dyn Peer>> {
        if let Some(peer) = &self.peer {
            return Ok(Arc::clone(peer));
        }
        let target = Target {
            table: self.table.clone(),
            columns: self.columns.clone(),
            mode: self.mode.clone(),
            create_table: self.create_table.clone(),
            lock_timeout: self.lock_timeout,
        };
        Ok(Arc::new(Database::new(self.address.parse()?, target)))
    }

    fn check(&self) -> Result<()> {
        let table = &self.table;
        if self.columns.is_empty() {
            return Err(Error::user(format!("no columns to write to in table '{table}'")));
        }
        if let WriteMode::Upsert { key } = &self.mode {
            if key.is_empty() {
                return Err(Error::user(format!("the key of table '{table}' has no columns")));
            }
            if let Some(missing) = key.iter().find(|it| !self.columns.contains(it)) {
                return Err(Error::user(format!(
                    "column '{missing}' of the key of table '{table}' is not written"
                )));
            }
        }
        Ok(())
    }
}

/// Writes each record as a row of a table in a PostgreSQL database.
///
/// The table is `name` or `schema.name`. The sink keeps its books in tables whose names begin with `flott_`, in the first schema of the user's
/// search path.
pub struct PostgresSink<T> {
    pub(crate) config: PostgresSinkConfig<T>,
}

impl<T> Clone for PostgresSink<T> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone() }
    }
}

impl<T> fmt::Debug for PostgresSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink")
            .field("address", &self.config.address)
            .field("table", &self.config.table)
            .field("mode", &self.config.mode)
            .finish_non_exhaustive()
    }
}

impl<T: Serialize + 'static> PostgresSink<RowChange<T>> {
    /// Makes a table follow a changelog, such as that of [`PostgresCdcSource`](crate::PostgresCdcSource): rows are inserted, replaced and
    /// deleted by their key.
    pub fn changes<C: Into<String>>(
        url: impl Into<String>,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
        key: impl IntoIterator<Item = C>,
    ) -> Self {
        let row_of = |change: &RowChange<T>, columns: &[String]| {
            Ok((row_of_fields(&change.row, columns)?, !change.kind.is_addition()))
        };
        Self::from_parts(url.into(), table.into(), columns, Arc::new(row_of)).upsert_by(key)
    }
}

impl<T: 'static> PostgresSink<T> {
    /// Writes the fields of records into columns of the same names, of the database at `url`: `postgres://user:password@host:port/database`.
    /// Lists and nested structures become JSON text.
    pub fn new<C: Into<String>>(
        url: impl Into<String>,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self
    where
        T: Serialize,
    {
        let row_of = |record: &T, columns: &[String]| Ok((row_of_fields(record, columns)?, false));
        Self::from_parts(url.into(), table.into(), columns, Arc::new(row_of))
    }

    /// Writes what `row_of` makes of records: as many values as there are columns.
    pub fn with_row<C: Into<String>>(
        url: impl Into<String>,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
        row_of: impl Fn(&T) -> Vec<PostgresValue> + Send + Sync + 'static,
    ) -> Self {
        let row_of = move |record: &T, columns: &[String]| {
            let row = row_of(record);
            if row.len() != columns.len() {
                return Err(format!("the row has {} values for {} columns", row.len(), columns.len()).into());
            }
            Ok((row, false))
        };
        Self::from_parts(url.into(), table.into(), columns, Arc::new(row_of))
    }

    fn from_parts<C: Into<String>>(
        url: String,
        table: String,
        columns: impl IntoIterator<Item = C>,
        row_of: Arc<RowOf<T>>,
    ) -> Self {
        Self {
            config: PostgresSinkConfig {
                address: Address::new(url),
                table,
                columns: columns.into_iter().map(Into::into).collect(),
                row_of,
                mode: WriteMode::Transactional,
                create_table: None,
                max_rows: MAX_ROWS_DEFAULT,
                flush_interval: FLUSH_INTERVAL_DEFAULT,
                max_retries: MAX_RETRIES_DEFAULT,
                lock_timeout: LOCK_TIMEOUT_DEFAULT,
                peer: None,
            },
        }
    }

    /// Rows are in the table when their checkpoint is complete, and then for ever: exactly once for every reader. This is the default.
    ///
    /// Each subtask writes in one transaction from barrier to barrier, which it prepares (`PREPARE TRANSACTION`) at the barrier; it is committed
    /// when the checkpoint is complete. The server must allow that: `max_prepared_transactions` has to be twice the sink's parallelism at
    /// least. A row that the table does not accept fails the job at once. Two rows with the same unique key in neighbouring checkpoints wait for each
    /// other until [`PostgresSink::lock_timeout`] has passed, and fail the job.
    ///
    /// `flott_commits` has a row for each commit; those of checkpoints and savepoints that do not exist any more may be deleted. Without
    /// checkpoints rows are in the table at the end of the input.
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

    /// The user, if the URL does not name one.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.config.address.username = Some(username.into());
        self
    }

    /// The password, which is better not in a URL. It is never shown.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.config.address.password = Some(password.into());
        self
    }

    /// How long to wait for a connection: `connection.max-retry-timeout` of Flink's connector for JDBC.
    #[must_use]
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.config.address.connect_timeout = Some(timeout);
        self
    }

    /// Statements to execute before the table is written, such as `CREATE TABLE IF NOT EXISTS …`; each subtask executes them.
    #[must_use]
    pub fn create_table(mut self, statements: impl Into<String>) -> Self {
        self.config.create_table = Some(statements.into());
        self
    }

    /// Rows that are sent to the server at once, at most: `sink.buffer-flush.max-rows` of Flink's connector for JDBC.
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

    /// How often rows that are upserted are sent again after a lost connection or a deadlock: `sink.max-retries` of Flink's connector for JDBC. In
    /// the other modes that would double rows or lose them, so the job is restarted from its checkpoint instead.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.config.max_retries = max_retries;
        self
    }

    /// How long a statement waits for others that have locked what it needs, before that is an error.
    #[must_use]
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.config.lock_timeout = lock_timeout;
        self
    }
}

impl<T: Send + 'static> Sink<T> for PostgresSink<T> {
    type Writer = PostgresWriter<T>;

    fn create_writer(&self, ctx: SinkContext) -> Result<PostgresWriter<T>> {
        self.config.check()?;
        let peer = self.config.peer()?;
        let mut session = peer.connect()?;
        session.set_up(i64::from(ctx.parallelism))?;
        Ok(PostgresWriter::new(self.config.clone(), &ctx, peer, session))
    }

    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(match self.config.mode {
            WriteMode::Transactional | WriteMode::Eager => {
                Some(Box::new(PostgresCommitter::new(&ctx, self.config.peer()?)))
            }
            WriteMode::Upsert { .. } => None,
        })
    }
}
