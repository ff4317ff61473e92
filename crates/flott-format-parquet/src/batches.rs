//! Reads files as Arrow batches.

use crate::ParquetFormat;
use crate::decoder::RangeRows;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use flott_api::format::{ByteRange, DecodeFormat, DecodeInput, ReadPosition, RecordDecoder};
use flott_api::{InputStatus, SplitOutput};
use flott_env::FileSystem;
use flott_format_arrow::ArrowBatch;
use flott_types::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Parquet files as Arrow batches, as they stand in the file: what [`ParquetFormat::arrow`] returns.
#[derive(Clone, Debug)]
pub struct ParquetArrowFormat {
    schema: Option<SchemaRef>,
}

impl ParquetFormat {
    /// Files as Arrow batches of up to 1024 rows, with all columns; or with those of the [`ParquetFormat::schema`] in its order, each of which a file must have, with
    /// that type.
    pub fn arrow(self) -> ParquetArrowFormat {
        ParquetArrowFormat { schema: self.schema }
    }
}

impl DecodeFormat<ArrowBatch> for ParquetArrowFormat {
    fn divide(&self, fs: &dyn FileSystem, path: &Path, len: u64, range_bytes: u64) -> Result<Vec<ByteRange>> {
        // As for rows, of whatever type.
        DecodeFormat::<()>::divide(&ParquetFormat::new(), fs, path, len, range_bytes)
    }

    fn open(&self, input: DecodeInput) -> Result<Box<dyn RecordDecoder<ArrowBatch>>> {
        let rows = RangeRows::open(&input, |file| {
            self.schema.as_ref().map(|schema| indices_of(schema, file, &input.path)).transpose()
        })?;
        Ok(Box::new(BatchDecoder { rows, schema: self.schema.clone() }))
    }
}

/// Where the columns stand in the file.
fn indices_of(schema: &Schema, file: &Schema, path: &Path) -> Result<Vec<usize>> {
    let index_of = |field: &arrow_schema::FieldRef| {
        let (name, expected) = (field.name(), field.data_type());
        let (idx, found) = file
            .column_with_name(name)
            .ok_or_else(|| Error::user(format!("file '{}' has no column '{name}'", path.display())))?;
        if found.data_type() != expected || (found.is_nullable() && !field.is_nullable()) {
            let nullable = if found.is_nullable() { ", and may have nulls" } else { "" };
            return Err(Error::user(format!(
                "column '{name}' of file '{}' has the type {}{nullable}; the schema says {expected}{}",
                path.display(),
                found.data_type(),
                if field.is_nullable() { "" } else { " without nulls" }
            )));
        }
        Ok(idx)
    };
    schema.fields().iter().map(index_of).collect()
}

struct BatchDecoder {
    rows: RangeRows,
    schema: Option<SchemaRef>,
}

impl BatchDecoder {
    fn project(&self, batch: &RecordBatch, columns: &[usize], schema: &SchemaRef) -> Result<RecordBatch> {
        let projected = batch.project(columns).and_then(|batch| batch.with_schema(Arc::clone(schema)));
        let path = self.rows.path.display();
        projected.map_err(|error| {
            Error::subtask(format!("cannot take the columns of '{path}'")).with_source(error)
        })
    }
}

impl RecordDecoder<ArrowBatch> for BatchDecoder {
    fn decode(&mut self, _: usize, out: &mut SplitOutput<ArrowBatch>) -> Result<InputStatus> {
        if out.batch.is_empty() {
            out.position = Some(format!("row {}", self.rows.row() + 1));
        }
        let Some(batch) = self.rows.next_batch()? else { return Ok(InputStatus::EndOfInput) };
        self.rows.n_read += batch.num_rows() as u64;
        let batch = match &self.schema {
            None => batch,
            // The file has its columns in an order of its own.
            Some(schema) => indices_of(schema, &batch.schema(), &self.rows.path)
                .and_then(|columns| self.project(&batch, &columns, schema))?,
        };
        out.collect(ArrowBatch(batch));
        Ok(InputStatus::MoreAvailable)
    }

    fn position(&self) -> ReadPosition {
        ReadPosition { offset: 0, records: self.rows.n_read, lines: 0 }
    }
}
