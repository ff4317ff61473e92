//! Reads rows as records.

use crate::file::ParquetFile;
use crate::schema;
use arrow_array::RecordBatch;
use arrow_schema::{FieldRef, SchemaRef};
use flott_api::format::{DecodeInput, ReadPosition, RecordDecoder};
use flott_api::{InputStatus, SplitOutput};
use flott_types::{Error, ErrorKind, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;
use serde::de::DeserializeOwned;
use serde_arrow::Deserializer;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Rows decoded from their columns at once.
const BATCH_ROWS: usize = 1024;

pub(crate) struct ParquetDecoder<T> {
    rows: RangeRows,
    /// Rows that were decoded, and how many of them are records already.
    batch: Option<(RecordBatch, usize)>,
    /// The columns of the record type, to explain errors.
    expected: Vec<FieldRef>,
    records: PhantomData<fn() -> T>,
}

/// The rows of a range of a file, in batches.
pub(crate) struct RangeRows {
    pub(crate) path: PathBuf,
    reader: ParquetRecordBatchReader,
    pub(crate) file_schema: SchemaRef,
    /// The row of the file at which the range begins.
    first_row: u64,
    n_rows: u64,
    pub(crate) n_read: u64,
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Corruption, format!("file '{}' {what}", path.display()))
}

/// The Parquet reader checks what it reads, but not everything, and then it panics on damaged files.
fn guarded<R>(path: &Path, what: &str, read: impl FnOnce() -> parquet::errors::Result<R>) -> Result<R> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(damaged(path, what).with_source(error)),
        Err(_) => Err(damaged(path, what)
            .context(format!("reading '{}' made the Parquet reader panic", path.display()))),
    }
}

/// What is wrong with a row, and in which column, which the error only tells among its annotations.
#[cold]
fn describe(error: &serde_arrow::Error) -> String {
    let text = error.to_string();
    let column = text.split_once("field: \"$.").and_then(|(_, rest)| rest.split('"').next());
    let found = text.split_once("data_type: \"").and_then(|(_, rest)| rest.split('"').next());
    match (column, found) {
        (Some(column), Some(found)) => format!("column '{column}' of type {found}: {}", error.message()),
        (Some(column), None) => format!("column '{column}': {}", error.message()),
        (None, _) => error.message().to_owned(),
    }
}

fn start_of(row_group: &RowGroupMetaData) -> u64 {
    let starts = row_group.columns().iter().map(|column| column.byte_range().0);
    starts.min().unwrap_or(0)
}

impl<T: DeserializeOwned> ParquetDecoder<T> {
    pub(crate) fn open(input: &DecodeInput) -> Result<Self> {
        // What serde does not show is not checked.
        let expected = schema::columns_of::<T>().unwrap_or_default();
        let rows = RangeRows::open(input, |file| {
            Ok(schema::projection_of::<T>(&expected, file).filter(|_| !expected.is_empty()))
        })?;
        Ok(Self { rows, batch: None, expected, records: PhantomData })
    }

    /// Makes records of rows that were decoded; errors of the file as a whole are returned.
    fn decode_rows(&mut self, rows_max: usize, out: &mut SplitOutput<T>) -> Result<usize> {
        let Some((batch, first)) = &self.batch else { return Ok(0) };
        let rows = Deserializer::from_record_batch(batch).map_err(|error| {
            damaged(&self.rows.path, "has columns that cannot be read").with_source(error)
        })?;
        let end = rows.len().min(first.saturating_add(rows_max));
        let mut n_read = 0;
        for idx in *first..end {
            let Some(row) = rows.get(idx) else { break };
            match T::deserialize(row) {
                Ok(record) => out.collect(record),
                Err(error) => {
                    let row = format!("row {}", self.rows.row() + n_read + 1);
                    match schema::explain(
                        &self.rows.path,
                        &self.expected,
                        &self.rows.file_schema,
                        error.message(),
                    ) {
                        Some(error) => return Err(error),
                        None => out.bad_record(row, b"", describe(&error)),
                    }
                }
            }
            n_read += 1;
        }
        let (n_rows, first) = (rows.len(), *first);
        self.rows.n_read += n_read;
        let next = first + n_read as usize;
        if next >= n_rows {
            self.batch = None;
        } else if let Some((_, first)) = &mut self.batch {
            *first = next;
        }
        Ok(n_read as usize)
    }
}

impl RangeRows {
    /// Opens a range; `choose` says which columns of a file are read, by their indices, or `None` for all.
    pub(crate) fn open(
        input: &DecodeInput,
        choose: impl FnOnce(&SchemaRef) -> Result<Option<Vec<usize>>>,
    ) -> Result<Self> {
        let path = input.path.clone();
        let file = ParquetFile::open(input).map_err(|error| {
            Error::user(format!("cannot open file '{}'", path.display())).with_source(error)
        })?;
        let what =
            "is no Parquet file, a damaged one, or truncated: its end, which is the index, cannot be read";
        let builder = guarded(&path, what, || ParquetRecordBatchReaderBuilder::try_new(file))?;
        let file_schema = builder.schema().clone();
        let projection = match choose(&file_schema)? {
            Some(columns) => ProjectionMask::roots(builder.parquet_schema(), columns),
            None => ProjectionMask::all(),
        };
        let range = input.range;
        let in_range = |start: u64| range.start <= start && range.end.is_none_or(|end| start < end);
        let row_groups = builder.metadata().row_groups();
        let n_rows = |row_group: &RowGroupMetaData| u64::try_from(row_group.num_rows()).unwrap_or(0);
        let n_total: u64 = row_groups.iter().map(n_rows).sum();
        if u64::try_from(builder.metadata().file_metadata().num_rows()) != Ok(n_total) {
            return Err(damaged(
                &path,
                "is damaged: its index does not agree with itself on the number of rows",
            ));
        }
        let starts = guarded(&path, what, || Ok(row_groups.iter().map(start_of).collect::<Vec<_>>()))?;
        let chosen: Vec<usize> =
            starts.iter().enumerate().filter(|(_, start)| in_range(**start)).map(|(idx, _)| idx).collect();
        let n_before = chosen.first().copied().unwrap_or(0);
        let first_row = row_groups.iter().take(n_before).map(n_rows).sum();
        let n_chosen: u64 = chosen.iter().filter_map(|idx| row_groups.get(*idx)).map(n_rows).sum();
        let n_read = input.position.map_or(0, |position| position.records);
        if n_read > n_chosen {
            return Err(damaged(&path, "has become shorter since it was first read"));
        }
        let offset = usize::try_from(n_read).unwrap_or(usize::MAX);
        let reader = guarded(&path, "cannot be read", || {
            builder
                .with_batch_size(BATCH_ROWS)
                .with_row_groups(chosen)
                .with_projection(projection)
                .with_offset(offset)
                .build()
        })?;
        Ok(Self { path, reader, file_schema, first_row, n_rows: n_chosen, n_read })
    }

    pub(crate) fn row(&self) -> u64 {
        self.first_row + self.n_read
    }

    /// The next rows, if there are any; `n_read` is told by the caller.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let reader = &mut self.reader;
            let next = guarded(
                &self.path,
                &format!("is damaged after row {}", self.first_row + self.n_read),
                || Ok(reader.next().transpose()?),
            )?;
            match next {
                None if self.n_read == self.n_rows => return Ok(None),
                None => {
                    let (n_read, n_rows) = (self.n_read, self.n_rows);
                    return Err(damaged(
                        &self.path,
                        &format!("is damaged: it ended after {n_read} of {n_rows} rows"),
                    ));
                }
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => return Ok(Some(batch)),
            }
        }
    }
}

impl<T: DeserializeOwned + 'static> RecordDecoder<T> for ParquetDecoder<T> {
    fn decode(&mut self, records_max: usize, out: &mut SplitOutput<T>) -> Result<InputStatus> {
        if out.batch.is_empty() {
            out.position = Some(format!("row {}", self.rows.row() + 1));
        }
        if self.batch.is_none() {
            let Some(batch) = self.rows.next_batch()? else { return Ok(InputStatus::EndOfInput) };
            self.batch = Some((batch, 0));
        }
        self.decode_rows(records_max.max(1), out)?;
        Ok(InputStatus::MoreAvailable)
    }

    fn position(&self) -> ReadPosition {
        ReadPosition { offset: 0, records: self.rows.n_read, lines: 0 }
    }
}
