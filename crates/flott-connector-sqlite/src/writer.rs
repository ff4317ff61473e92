//! Writes the rows of one subtask.

use crate::committer::Prepared;
use crate::config::SqliteSinkConfig;
use crate::database::{Database, Statements};
use crate::schema;
use flott_api::{SinkContext, SinkWriter, UserResult};
use flott_connector_sql::{OnBadRow, Owner, RefusedRows, RowBuffer, TableOptions, WriteMode, number};
use flott_types::{CheckpointId, RecordBatch, Result};
use rusqlite::types::Value;
use std::fmt;

/// What is written between two barriers in the transactional mode.
struct Batch {
    id: i64,
    token: String,
    n_rows: u64,
}

/// Writes the rows of one subtask.
pub struct SqliteWriter<T> {
    config: SqliteSinkConfig<T>,
    ctx: SinkContext,
    owner: Owner,
    database: Database,
    insert: String,
    /// Rows that are in no transaction yet.
    buffer: RowBuffer<T, Vec<Value>>,
    batch: Option<Batch>,
    /// The last checkpoint whose barrier has come.
    mark: CheckpointId,
    has_written_since_barrier: bool,
}

impl<T> fmt::Debug for SqliteWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteWriter")
            .field("path", &self.config.path)
            .field("table", &self.config.options.table)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> SqliteWriter<T> {
    pub(crate) fn new(config: SqliteSinkConfig<T>, ctx: &SinkContext, database: Database) -> Self {
        Self {
            insert: schema::insert_statement(&config.options),
            buffer: RowBuffer::new(&config.options, ctx),
            owner: Owner::new(ctx),
            mark: ctx.restored_checkpoint.unwrap_or(CheckpointId(0)),
            ctx: ctx.clone(),
            config,
            database,
            batch: None,
            has_written_since_barrier: false,
        }
    }

    /// What stands before the record's values in each row of a transaction.
    fn prefix(owner: &Owner, mode: &WriteMode, mark: CheckpointId, batch: Option<i64>) -> Vec<Value> {
        match mode {
            WriteMode::Transactional => batch.map(Value::Integer).into_iter().collect(),
            WriteMode::Eager => vec![
                Value::Text(owner.job.clone()),
                Value::Text(owner.sink.clone()),
                Value::Integer(owner.subtask),
                Value::Integer(number(mark)),
            ],
            WriteMode::Upsert { .. } => Vec::new(),
        }
    }

    /// Which rows the target does not take. The table in which they wait takes every row, and when they are committed it is too late to refuse one.
    fn try_rows(db: &Statements<'_>, options: &TableOptions, rows: &[Vec<Value>]) -> Result<RefusedRows> {
        db.batch("SAVEPOINT flott_trial")?;
        let rows = rows.iter().enumerate().map(|(idx, row)| (idx, rusqlite::params_from_iter(row)));
        let trial = schema::trial_statement(options);
        let refused = db.execute_each(&trial, rows, OnBadRow::Refuse)?;
        db.batch("ROLLBACK TO flott_trial; RELEASE flott_trial")?;
        Ok(refused)
    }

    /// Writes the rows of the buffer in one transaction, which is durable when this returns.
    fn write_rows(&mut self) -> UserResult {
        let (on_bad_row, rows) = (self.buffer.on_bad_row(), self.buffer.take());
        if rows.is_empty() {
            return Ok(());
        }
        let Self { database, config, owner, insert, batch, mark, ctx, .. } = self;
        let is_new = batch.is_none();
        let token = || format!("{:016x}", ctx.env.random_u64());
        let (id, refused) = database.transaction(|db| {
            schema::check_owner(db, owner)?;
            let mut refused = match (&config.options.mode, on_bad_row) {
                (WriteMode::Transactional, OnBadRow::Refuse) => Self::try_rows(db, &config.options, &rows)?,
                _ => RefusedRows::new(),
            };
            let id = match (&config.options.mode, batch.as_ref()) {
                (WriteMode::Transactional, Some(batch)) => Some((batch.id, batch.token.clone())),
                (WriteMode::Transactional, None) => {
                    let token = token();
                    Some((schema::begin_batch(db, owner, &token, *mark)?, token))
                }
                (WriteMode::Eager | WriteMode::Upsert { .. }, _) => None,
            };
            let prefix = Self::prefix(owner, &config.options.mode, *mark, id.as_ref().map(|(id, _)| *id));
            let rest = rows.iter().enumerate().filter(|(idx, _)| !refused.contains_key(idx));
            let rest = rest.map(|(idx, row)| (idx, rusqlite::params_from_iter(prefix.iter().chain(row))));
            let late = db.execute_each(insert, rest, on_bad_row)?;
            refused.extend(late);
            Ok((id, refused))
        })?;
        if let (true, Some((id, token))) = (is_new, id) {
            *batch = Some(Batch { id, token, n_rows: 0 });
        }
        if let Some(batch) = batch {
            batch.n_rows += (rows.len() - refused.len()) as u64;
        }
        self.has_written_since_barrier = true;
        self.buffer.written(rows, refused)
    }
}

impl<T: Send + 'static> SinkWriter<T> for SqliteWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        for (record, _) in batch {
            let row = (self.config.row_of)(&record, &self.config.options.columns);
            let row = row.map(|row| row.into_iter().map(|value| value.into_parameter()).collect());
            self.buffer.push(record, row)?;
            if self.buffer.len() >= self.config.options.max_rows {
                self.write_rows()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> UserResult {
        if self.buffer.pause() { self.write_rows() } else { Ok(()) }
    }

    fn next_timer(&self) -> Option<i64> {
        self.buffer.flush_at()
    }

    fn on_processing_time(&mut self, now: i64) -> UserResult {
        if self.buffer.flush_at().is_some_and(|at| at <= now) { self.write_rows() } else { Ok(()) }
    }

    fn finish(&mut self) -> UserResult {
        self.write_rows()
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, _is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        self.write_rows()?;
        self.mark = checkpoint_id;
        let has_written = std::mem::take(&mut self.has_written_since_barrier);
        let TableOptions { table, columns, mode, .. } = &self.config.options;
        let table = || table.clone();
        let prepared = match mode {
            WriteMode::Transactional => self.batch.take().map(|Batch { id, token, n_rows }| {
                Prepared::Batch { id, token, n_rows, table: table(), columns: columns.clone() }
            }),
            WriteMode::Eager => has_written.then(|| Prepared::Completed { table: table() }),
            WriteMode::Upsert { .. } => None,
        };
        Ok(prepared.iter().map(Prepared::encode).collect::<Result<_>>()?)
    }

    fn restore(&mut self, _entries: Vec<Vec<u8>>, restored_checkpoint: Option<CheckpointId>) -> UserResult {
        let Self { database, owner, config, .. } = self;
        Ok(database
            .transaction(|db| schema::take_over(db, owner, &config.options.mode, restored_checkpoint))?)
    }
}
