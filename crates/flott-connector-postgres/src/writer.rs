//! Writes the rows of one subtask.

use crate::PostgresValue;
use crate::committer::Prepared;
use crate::config::PostgresSinkConfig;
use crate::gid::Gid;
use crate::peer::{Peer, RowOp, Session, Visible};
use flott_api::{SinkContext, SinkWriter, UserResult};
use flott_connector_sql::{Owner, RefusedRows, RowBuffer, WriteMode, number};
use flott_types::{CheckpointId, ErrorKind, RecordBatch, Result};
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
    buffer: RowBuffer<T, RowOp>,
    /// Rows of the open transaction, if there is one.
    n_in_transaction: Option<u64>,
    /// The last checkpoint whose barrier has come.
    mark: CheckpointId,
    has_written_since_barrier: bool,
}

impl<T> fmt::Debug for PostgresWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresWriter")
            .field("address", &self.config.address)
            .field("table", &self.config.options.table)
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
            buffer: RowBuffer::new(&config.options, ctx),
            owner: Owner::new(ctx),
            mark: ctx.restored_checkpoint.unwrap_or(CheckpointId(0)),
            ctx: ctx.clone(),
            config,
            peer,
            session: Some(session),
            n_in_transaction: None,
            has_written_since_barrier: false,
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
        let rows = self.buffer.take();
        if rows.is_empty() {
            return Ok(());
        }
        let refused = match &self.config.options.mode {
            WriteMode::Transactional => self.write_in_transaction(&rows)?,
            // When the reply is lost nobody knows whether rows are there twice if they are written again, and a restart deletes them.
            WriteMode::Eager => {
                let (owner, how) = (self.owner.clone(), Visible::Marked { checkpoint: number(self.mark) });
                let on_bad_row = self.buffer.on_bad_row();
                self.session()?.write_visible(&owner, &how, &rows, on_bad_row)?
            }
            WriteMode::Upsert { .. } => self.upsert(&rows)?,
        };
        self.has_written_since_barrier = true;
        self.buffer.written(rows, refused)
    }

    fn write_in_transaction(&mut self, rows: &[RowOp]) -> Result<RefusedRows> {
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
        let on_bad_row = self.buffer.on_bad_row();
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
            self.config.options.table
        );
        flott_types::Error::new(ErrorKind::Retry, message)
    }

    /// Rows that are written twice are as if they were written once, so a lost connection or a deadlock is no reason to fail.
    fn upsert(&mut self, rows: &[RowOp]) -> Result<RefusedRows> {
        let (on_bad_row, mut n_retries) = (self.buffer.on_bad_row(), 0);
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
        Ok(Some(Prepared::Transaction { gid: gid.text, table: self.config.options.table.clone(), n_rows }))
    }

    fn row(&self, record: &T) -> UserResult<RowOp> {
        let (values, is_delete) = (self.config.row_of)(record, &self.config.options.columns)?;
        let has_key = matches!(self.config.options.mode, WriteMode::Upsert { .. });
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
            let row = self.row(&record);
            // The half of an update that takes the old row away is not shown without the other.
            let is_half = row.as_ref().is_ok_and(|row| row.is_delete);
            self.buffer.push(record, row)?;
            let (len, max_rows) = (self.buffer.len(), self.config.options.max_rows);
            if len >= max_rows && !is_half || len > 2 * max_rows {
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
        let prepared = match self.config.options.mode {
            WriteMode::Transactional => self.prepare(checkpoint_id)?,
            WriteMode::Eager => {
                has_written.then(|| Prepared::Completed { table: self.config.options.table.clone() })
            }
            WriteMode::Upsert { .. } => None,
        };
        Ok(prepared.iter().map(Prepared::encode).collect::<Result<_>>()?)
    }

    fn restore(&mut self, _entries: Vec<Vec<u8>>, restored_checkpoint: Option<CheckpointId>) -> UserResult {
        let (owner, from) = (self.owner.clone(), restored_checkpoint.map_or(0, number));
        let is_eager = matches!(self.config.options.mode, WriteMode::Eager);
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
