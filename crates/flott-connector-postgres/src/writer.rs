//! Writes the rows of one subtask.

use crate::PostgresValue;
use crate::committer::Prepared;
use crate::config::{PostgresSinkConfig, WriteMode};
use crate::mark::{Gid, Owner, number};
use crate::peer::{OnBadRow, Peer, RefusedRow, RowOp, Session, Visible};
use flott_api::{BoxError, SinkContext, SinkWriter, UserResult};
use flott_types::{CheckpointId, ErrorKind, RecordBatch, Result, duration_ms};
use std::fmt;
use std::sync::Arc;

/// Writes the rows of one subtask.
pub struct PostgresWriter<T> {
    config: PostgresSinkConfig<T>,
    ctx: SinkContext,
    owner: Owner,
    peer: Arc<dyn Peer>,
    session: Option<Box<dyn Session>>,
    /// Rows that the database does not have yet.
    rows: Vec<RowOp>,
    /// The records that they were made of, if the database may refuse some.
    records: Vec<T>,
    /// Rows of the open transaction, if there is one.
    n_in_transaction: Option<u64>,
    /// The last checkpoint whose barrier has come.
    mark: CheckpointId,
    has_written_since_barrier: bool,
    /// Milliseconds since the epoch at which rows in the buffer are to be written.
    flush_at: Option<i64>,
    flushed_at: i64,
}

impl<T> fmt::Debug for PostgresWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresWriter")
            .field("address", &self.config.address)
            .field("table", &self.config.table)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> PostgresWriter<T> {
    pub(crate) fn new(
        config: PostgresSinkConfig<T>,
        ctx: &SinkContext,
        peer: Arc<dyn Peer>,
        session: Box<dyn Session>,
    ) -> Self {
        Self {
            owner: Owner::new(ctx),
            mark: ctx.restored_checkpoint.unwrap_or(CheckpointId(0)),
            ctx: ctx.clone(),
            config,
            peer,
            session: Some(session),
            rows: Vec::new(),
            records: Vec::new(),
            n_in_transaction: None,
            has_written_since_barrier: false,
            flush_at: None,
            flushed_at: i64::MIN,
        }
    }

    /// The session, a new one if the last one broke. Whoever has rows in a transaction must not come here with a broken one.
    fn session(&mut self) -> Result<&mut dyn Session> {
        let open = match self.session.take().filter(|session| session.is_open()) {
            Some(open) => open,
            None => {
                let mut session = self.peer.connect()?;
                // A successor that has claimed the subtask ends this session, or it is refused here: there is no third way. What the broken
                // one was doing must not be done behind what this one does.
                let former = session.register(&self.owner)?;
                session.end(&former)?;
                session
            }
        };
        Ok(self.session.insert(open).as_mut())
    }

    /// Hands the rows of the buffer to the database.
    fn write_rows(&mut self) -> UserResult {
        self.flush_at = None;
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let refused = match &self.config.mode {
            WriteMode::Transactional => self.write_in_transaction(&rows)?,
            // When the reply is lost nobody knows whether rows are there twice if they are written again, and a restart deletes them.
            WriteMode::Eager => {
                let (owner, how) = (self.owner.clone(), Visible::Marked { checkpoint: number(self.mark) });
                let on_bad_row = self.on_bad_row();
                self.session()?.write_visible(&owner, &how, &rows, on_bad_row)?
            }
            WriteMode::Upsert { .. } => self.upsert(&rows)?,
        };
        self.has_written_since_barrier = true;
        self.flushed_at = self.ctx.env.processing_time();
        self.rows = rows;
        self.rows.clear();
        let records = std::mem::take(&mut self.records);
        for RefusedRow { idx, error } in refused {
            let record = records.get(idx).ok_or("the database refuses a row that it was not given")?;
            self.reject(record, error)?;
        }
        Ok(())
    }

    fn on_bad_row(&self) -> OnBadRow {
        if self.ctx.bad_records.are_tolerated() { OnBadRow::Refuse } else { OnBadRow::Fail }
    }

    fn reject(&self, record: &T, error: impl Into<BoxError>) -> UserResult {
        self.ctx.bad_records.reject(format_args!("table '{}'", self.config.table), record, error)
    }

    fn write_in_transaction(&mut self, rows: &[RowOp]) -> Result<Vec<RefusedRow>> {
        if self.n_in_transaction.is_none() {
            // A connection may have ended unnoticed while nothing was written.
            match self.session()?.begin() {
                Err(error) if error.kind() == ErrorKind::Retry && !self.is_open() => {
                    self.session()?.begin()?
                }
                begun => begun?,
            }
            self.n_in_transaction = Some(0);
        }
        let on_bad_row = self.on_bad_row();
        // Never on another session than that of the transaction: with its session it is gone, and the rows in it. Only a restart brings them again.
        let Some(session) = self.session.as_mut().filter(|session| session.is_open()) else {
            return Err(self.lost_transaction());
        };
        let refused = session.write(rows, on_bad_row)?;
        *self.n_in_transaction.get_or_insert(0) += (rows.len() - refused.len()) as u64;
        Ok(refused)
    }

    fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_open())
    }

    fn lost_transaction(&self) -> flott_types::Error {
        let message = format!(
            "the connection broke in the middle of a transaction on table '{}': its rows are written again after a restart",
            self.config.table
        );
        flott_types::Error::new(ErrorKind::Retry, message)
    }

    /// Rows that are written twice are as if they were written once, so a lost connection or a deadlock is no reason to fail.
    fn upsert(&mut self, rows: &[RowOp]) -> Result<Vec<RefusedRow>> {
        let (on_bad_row, mut n_retries) = (self.on_bad_row(), 0);
        loop {
            let owner = self.owner.clone();
            let written = match self.session() {
                Ok(session) => session.write_visible(&owner, &Visible::Upserted, rows, on_bad_row),
                Err(error) => Err(error),
            };
            match written {
                Err(error) if error.kind() == ErrorKind::Retry && n_retries < self.config.max_retries => {
                    n_retries += 1
                }
                written => return written,
            }
        }
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Option<Prepared>> {
        let Some(n_rows) = self.n_in_transaction.take() else { return Ok(None) };
        let gid = Gid::new(&self.owner, checkpoint, self.ctx.env.random_u64());
        let Some(session) = self.session.as_mut().filter(|session| session.is_open()) else {
            return Err(self.lost_transaction());
        };
        session.prepare(&self.owner, &gid, n_rows)?;
        Ok(Some(Prepared::Transaction { gid: gid.text, table: self.config.table.clone(), n_rows }))
    }

    /// Whether readers see rows before they are committed.
    fn is_visible_at_once(&self) -> bool {
        match self.config.mode {
            WriteMode::Transactional => false,
            WriteMode::Eager | WriteMode::Upsert { .. } => true,
        }
    }

    fn row(&self, record: &T) -> UserResult<RowOp> {
        let (values, is_delete) = (self.config.row_of)(record, &self.config.columns)?;
        let has_key = matches!(self.config.mode, WriteMode::Upsert { .. });
        if is_delete && !has_key {
            return Err("a row can only be deleted by its key: use PostgresSink::upsert_by".into());
        }
        if values.iter().any(|value| matches!(value, PostgresValue::Text(text) if text.contains('\0'))) {
            return Err("a text with a zero byte, which PostgreSQL does not store: write it as bytea".into());
        }
        Ok(RowOp { values, is_delete })
    }
}

impl<T: Send + 'static> SinkWriter<T> for PostgresWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        for (record, _) in batch {
            let row = match self.row(&record) {
                Ok(row) => row,
                Err(error) => {
                    self.reject(&record, error)?;
                    continue;
                }
            };
            // The half of an update that takes the old row away is not shown without the other.
            let is_half = row.is_delete;
            self.rows.push(row);
            if self.ctx.bad_records.are_tolerated() {
                self.records.push(record);
            }
            if self.rows.len() >= self.config.max_rows && !is_half
                || self.rows.len() > 2 * self.config.max_rows
            {
                self.write_rows()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> UserResult {
        // The input pauses after every record if records come slowly, and a transaction for each would sync the log for each.
        if self.is_visible_at_once() && !self.rows.is_empty() && self.flush_at.is_none() {
            let due = self.flushed_at.saturating_add(duration_ms(self.config.flush_interval));
            if due <= self.ctx.env.processing_time() {
                self.write_rows()?;
            } else {
                self.flush_at = Some(due);
            }
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<i64> {
        self.flush_at
    }

    fn on_processing_time(&mut self, now: i64) -> UserResult {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.write_rows()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> UserResult {
        self.write_rows()
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, _is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        self.write_rows()?;
        self.mark = checkpoint_id;
        let has_written = std::mem::take(&mut self.has_written_since_barrier);
        let prepared = match self.config.mode {
            WriteMode::Transactional => self.prepare(checkpoint_id)?,
            WriteMode::Eager => has_written.then(|| Prepared::Completed { table: self.config.table.clone() }),
            WriteMode::Upsert { .. } => None,
        };
        Ok(prepared.iter().map(Prepared::encode).collect::<Result<_>>()?)
    }

    fn restore(&mut self, _entries: Vec<Vec<u8>>, restored_checkpoint: Option<CheckpointId>) -> UserResult {
        let (owner, from) = (self.owner.clone(), restored_checkpoint.map_or(0, number));
        let is_eager = matches!(self.config.mode, WriteMode::Eager);
        // Not by `session`: this one is not registered yet, claiming does that.
        let session = match &mut self.session {
            Some(session) if session.is_open() => session,
            session => session.insert(self.peer.connect()?),
        };
        let former = session.claim(&owner)?;
        session.end(&former)?;
        // From here on nobody of an earlier attempt can prepare anything or write rows.
        for gid in session.prepared(&owner)? {
            // What a checkpoint up to the restored one holds is committed next.
            if gid.checkpoint > from && gid.subtask % owner.parallelism == owner.subtask {
                session.roll_back_prepared(&gid.text)?;
            }
        }
        if is_eager {
            session.delete_marked(&owner, from)?;
        }
        Ok(())
    }
}
