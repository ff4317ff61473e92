//! What users see of the sink: its kinds and options.

use crate::PostgresValue;
use crate::committer::PostgresCommitter;
use crate::options::{Address, credentials};
use crate::peer::Peer;
use crate::session::{Database, Target};
use crate::value::row_of_fields;
use crate::writer::PostgresWriter;
use flott_api::{Committer, Sink, SinkContext, UserResult};
use flott_connector_sql::{TableOptions, WriteMode, of_columns, table_options};
use flott_types::{Result, RowChange};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// As in Flink's connector for JDBC.
const MAX_RETRIES_DEFAULT: u32 = 3;
/// How long a statement waits for others that have locked what it needs.
const LOCK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The values, and whether the row is to be deleted.
type RowOf<T> = dyn Fn(&T, &[String]) -> UserResult<(Vec<PostgresValue>, bool)> + Send + Sync;

/// What a writer is made from.
pub(crate) struct PostgresSinkConfig<T> {
    pub(crate) address: Address,
    pub(crate) options: TableOptions,
    pub(crate) row_of: Arc<RowOf<T>>,
    pub(crate) max_retries: u32,
    pub(crate) lock_timeout: Duration,
    /// Another database than that of the address, for tests.
    pub(crate) peer: Option<Arc<dyn Peer>>,
}

impl<T> Clone for PostgresSinkConfig<T> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            options: self.options.clone(),
            row_of: Arc::clone(&self.row_of),
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
        let target = Target { options: self.options.clone(), lock_timeout: self.lock_timeout };
        Ok(Arc::new(Database::new(self.address.parse()?, target)))
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
            .field("options", &self.config.options)
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
        let row_of = move |record: &T, columns: &[String]| Ok((of_columns(row_of(record), columns)?, false));
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
                options: TableOptions::new(table, columns),
                row_of,
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
    pub fn transactional(mut self) -> Self {
        self.config.options.mode = WriteMode::Transactional;
        self
    }

    table_options!(config.options);

    credentials!(config.address);

    /// How long to wait for a connection: `connection.max-retry-timeout` of Flink's connector for JDBC.
    #[must_use]
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.config.address.connect_timeout = Some(timeout);
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
        self.config.options.check(|name, it| name == it)?;
        let peer = self.config.peer()?;
        let mut session = peer.connect()?;
        session.set_up(i64::from(ctx.parallelism))?;
        Ok(PostgresWriter::new(self.config.clone(), &ctx, peer, session))
    }

    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(match self.config.options.mode {
            WriteMode::Transactional | WriteMode::Eager => {
                Some(Box::new(PostgresCommitter::new(&ctx, self.config.peer()?)))
            }
            WriteMode::Upsert { .. } => None,
        })
    }
}
