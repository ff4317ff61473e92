//! Rows that the database does not have yet.

use crate::TableOptions;
use flott_api::{BadRecords, BoxError, SinkContext, UserResult};
use flott_env::Env;
use flott_types::{Error, duration_ms};
use std::collections::BTreeMap;
use std::time::Duration;

/// What becomes of the others if there is a row that the table does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadRow {
    /// None is written, and the call fails.
    Fail,
    /// They are written, and the call returns the row.
    Refuse,
}

/// Rows that the table does not take, whatever is tried, by their number among those that were to be written.
pub type RefusedRows = BTreeMap<usize, Error>;

/// The rows of one subtask that the database does not have yet, when it gets them, and what becomes of records without a row and of rows that are
/// refused.
#[derive(Debug)]
pub struct RowBuffer<T, R> {
    env: Env,
    bad_records: BadRecords,
    table: String,
    flush_interval: Duration,
    is_visible_at_once: bool,
    rows: Vec<R>,
    /// The records that they were made of, if the database may refuse some.
    records: Vec<T>,
    /// Milliseconds since the epoch at which they are to be written.
    flush_at: Option<i64>,
    flushed_at: i64,
}

impl<T: 'static, R> RowBuffer<T, R> {
    /// An empty buffer.
    pub fn new(options: &TableOptions, ctx: &SinkContext) -> Self {
        Self {
            env: ctx.env.clone(),
            bad_records: ctx.bad_records.clone(),
            table: options.table.clone(),
            flush_interval: options.flush_interval,
            is_visible_at_once: options.mode.is_visible_at_once(),
            rows: Vec::new(),
            records: Vec::new(),
            flush_at: None,
            flushed_at: i64::MIN,
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes the row of a record; one that has none is rejected.
    ///
    /// # Errors
    /// If it has none and that is to fail the job.
    pub fn push(&mut self, record: T, row: UserResult<R>) -> UserResult {
        match row {
            Ok(row) => self.rows.push(row),
            Err(error) => return self.reject(&record, error),
        }
        if self.bad_records.are_tolerated() {
            self.records.push(record);
        }
        Ok(())
    }

    fn reject(&self, record: &T, error: impl Into<BoxError>) -> UserResult {
        self.bad_records.reject(format_args!("table '{}'", self.table), record, error)
    }

    /// What is to become of the others if the table refuses a row.
    pub fn on_bad_row(&self) -> OnBadRow {
        if self.bad_records.are_tolerated() { OnBadRow::Refuse } else { OnBadRow::Fail }
    }

    /// The input pauses: whether the rows are to be written now. It pauses after every record if records come slowly, and a transaction for each would
    /// have the database sync for each.
    pub fn pause(&mut self) -> bool {
        if !self.is_visible_at_once || self.rows.is_empty() || self.flush_at.is_some() {
            return false;
        }
        let due = self.flushed_at.saturating_add(duration_ms(self.flush_interval));
        let is_due = due <= self.env.processing_time();
        self.flush_at = (!is_due).then_some(due);
        is_due
    }

    /// When they are to be written, in milliseconds since the epoch.
    pub fn flush_at(&self) -> Option<i64> {
        self.flush_at
    }

    /// The rows, to be written now; [`RowBuffer::written`] says that they are.
    pub fn take(&mut self) -> Vec<R> {
        self.flush_at = None;
        std::mem::take(&mut self.rows)
    }

    /// The rows that were taken are written, but for those that the table has refused; gives back their memory.
    ///
    /// # Errors
    /// If one is refused though that is to fail the job.
    pub fn written(&mut self, mut rows: Vec<R>, refused: RefusedRows) -> UserResult {
        rows.clear();
        self.rows = rows;
        self.flushed_at = self.env.processing_time();
        let records = std::mem::take(&mut self.records);
        for (idx, error) in refused {
            let record = records.get(idx).ok_or("the database refuses a row that it was not given")?;
            self.reject(record, error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_api::OnError;
    use flott_env::sim::Simulation;
    use flott_types::SubtaskIndex;

    fn buffer(on_error: OnError) -> (RowBuffer<u8, u8>, BadRecords) {
        let ctx = SinkContext::new(Simulation::new(1).env(), SubtaskIndex(0), 1, 1);
        let ctx = ctx.with_on_error::<u8>(on_error);
        (RowBuffer::new(&TableOptions::new("t", ["n"]), &ctx), ctx.bad_records)
    }

    fn refused() -> RefusedRows {
        BTreeMap::from([(1, Error::user("it is odd"))])
    }

    #[test]
    fn records_without_a_row_and_rows_that_are_refused_are_dead_letters_of_the_table() {
        let (mut buffer, bad_records) = buffer(OnError::SideOutput);
        buffer.push(6, Err("it has no row".into())).unwrap();
        buffer.push(7, Ok(70)).unwrap();
        buffer.push(9, Ok(90)).unwrap();
        let rows = buffer.take();
        assert_eq!(rows, [70, 90]);
        buffer.written(rows, refused()).unwrap();
        let letters = bad_records.take().dead_letters.into_iter();
        let letters = letters.map(|letter| (letter.split.0, letter.raw, letter.message));
        let letter = |raw: &str, why: &str| ("table 't'".to_owned(), raw.as_bytes().to_vec(), why.to_owned());
        assert!(letters.eq([letter("6", "it has no row"), letter("9", "it is odd")]));
        // The next rows are numbered anew.
        buffer.push(8, Ok(80)).unwrap();
        let rows = buffer.take();
        let error = buffer.written(rows, refused()).unwrap_err().to_string();
        assert!(error.contains("a row that it was not given"), "{error}");
    }

    #[test]
    fn what_is_not_tolerated_is_an_error_that_names_the_table() {
        let (mut buffer, bad_records) = buffer(OnError::Fail);
        assert_eq!(buffer.on_bad_row(), OnBadRow::Fail);
        let error = buffer.push(6, Err("it has no row".into())).unwrap_err().to_string();
        assert!(error.starts_with("bad record for table 't': it has no row"), "{error}");
        assert_eq!((buffer.is_empty(), bad_records.take().n_records), (true, 0));
    }
}
