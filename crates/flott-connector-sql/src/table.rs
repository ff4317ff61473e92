//! What a sink writes to, and how.

use flott_types::{Error, Result};
use std::time::Duration;

/// Rows in a request or transaction. Flink's connector for JDBC has 100, each in a statement of its own.
const MAX_ROWS_DEFAULT: usize = 5_000;
/// As in Flink's connector for JDBC.
const FLUSH_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// How rows get into the table, and with that what is promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// When their checkpoint is complete: see `transactional` of the sink.
    Transactional,
    /// At once, and out again: see `eager` of the sink.
    Eager,
    /// At once, replacing others: see `upsert_by` of the sink.
    Upsert {
        /// The columns of the key.
        key: Vec<String>,
    },
}

impl WriteMode {
    /// Whether readers see rows before they are committed.
    pub fn is_visible_at_once(&self) -> bool {
        match self {
            Self::Transactional => false,
            Self::Eager | Self::Upsert { .. } => true,
        }
    }
}

/// The options that sinks of all databases have.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// The table.
    pub table: String,
    /// Its columns that are written.
    pub columns: Vec<String>,
    /// How.
    pub mode: WriteMode,
    /// Statements to execute before.
    pub create_table: Option<String>,
    /// Rows that the database is given at once, at most.
    pub max_rows: usize,
    /// How long a row waits for others, in modes that show it at once.
    pub flush_interval: Duration,
}

impl TableOptions {
    /// The default options.
    pub fn new<C: Into<String>>(table: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        Self {
            table: table.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            mode: WriteMode::Transactional,
            create_table: None,
            max_rows: MAX_ROWS_DEFAULT,
            flush_interval: FLUSH_INTERVAL_DEFAULT,
        }
    }

    /// Refuses what cannot be written; `is_same` says when two names are those of one column.
    ///
    /// # Errors
    /// If there are no columns, or the key has none or one that is not written.
    pub fn check(&self, is_same: fn(&str, &str) -> bool) -> Result<()> {
        let table = &self.table;
        if self.columns.is_empty() {
            return Err(Error::user(format!("no columns to write to in table '{table}'")));
        }
        let WriteMode::Upsert { key } = &self.mode else { return Ok(()) };
        if key.is_empty() {
            return Err(Error::user(format!("the key of table '{table}' has no columns")));
        }
        if let Some(missing) = key.iter().find(|it| !self.columns.iter().any(|name| is_same(name, it))) {
            let problem = format!("column '{missing}' of the key of table '{table}' is not written");
            return Err(Error::user(problem));
        }
        Ok(())
    }
}

/// The methods of a sink for the options that all have. The argument is where the sink has its [`TableOptions`].
#[macro_export]
macro_rules! table_options {
    ($($options:ident).+) => {
        /// Rows are in the table at once, and a restart deletes those that come after its checkpoint: exactly once for readers of the view
        /// `<table>_committed`, and at the end for all.
        ///
        /// The table gets the columns `flott_job`, `flott_sink`, `flott_subtask` and `flott_checkpoint` if it lacks them. A job that starts from
        /// nothing deletes all rows that an earlier run of the same job and sink has written.
        #[must_use]
        pub fn eager(mut self) -> Self {
            self.$($options).+.mode = $crate::WriteMode::Eager;
            self
        }

        /// A row replaces the one with the same values in the columns of the key, which the table has as primary key or declares unique.
        ///
        /// After a restart rows go back to older values and forth again until the job is where it was. If the last row of a key is a function of
        /// the input, the table is in the end as if nothing had failed.
        #[must_use]
        pub fn upsert_by<C: Into<String>>(mut self, key: impl IntoIterator<Item = C>) -> Self {
            self.$($options).+.mode = $crate::WriteMode::Upsert { key: key.into_iter().map(Into::into).collect() };
            self
        }

        /// Statements to execute before the table is written, such as `CREATE TABLE IF NOT EXISTS …`; each subtask executes them.
        #[must_use]
        pub fn create_table(mut self, statements: impl Into<String>) -> Self {
            self.$($options).+.create_table = Some(statements.into());
            self
        }

        /// Rows that the database is given at once, at most: `sink.buffer-flush.max-rows` of Flink's connector for JDBC.
        #[must_use]
        pub fn buffer_flush_max_rows(mut self, max_rows: usize) -> Self {
            self.$($options).+.max_rows = max_rows.max(1);
            self
        }

        /// How long a row waits for others, in modes that show it at once: `sink.buffer-flush.interval` of Flink's connector for JDBC.
        #[must_use]
        pub fn buffer_flush_interval(mut self, interval: std::time::Duration) -> Self {
            self.$($options).+.flush_interval = interval;
            self
        }
    };
}
