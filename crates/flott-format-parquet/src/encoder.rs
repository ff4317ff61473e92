//! Writes records as rows.

use crate::format::{ParquetCompression, ParquetFormat};
use crate::schema;
use arrow_schema::{FieldRef, Schema};
use flott_api::UserResult;
use flott_api::format::RecordEncoder;
use flott_types::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::ArrayBuilder;
use std::sync::Arc;

/// Rows turned into columns at once.
const BATCH_ROWS: usize = 1024;

pub(crate) struct ParquetEncoder {
    fields: Vec<FieldRef>,
    rows: ArrayBuilder,
    /// Where records are tried, so that one that is no row leaves no part of itself among the rows.
    trials: Option<ArrayBuilder>,
    n_trials: usize,
    n_rows: usize,
    writer: ArrowWriter<Vec<u8>>,
    row_group_bytes: usize,
}

impl ParquetEncoder {
    pub(crate) fn start<T: DeserializeOwned>(format: &ParquetFormat) -> Result<Self> {
        let name = std::any::type_name::<T>();
        let refused = || Error::user(format!("records of type {name} cannot be written to Parquet"));
        let fields: Vec<FieldRef> = match &format.schema {
            Some(schema) => schema.fields().iter().cloned().collect(),
            None => schema::columns_of::<T>()?,
        };
        let compression = match format.compression {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        let properties = WriterProperties::builder().set_compression(compression).build();
        let rows = ArrayBuilder::from_arrow(&fields).map_err(|error| refused().with_source(error))?;
        let schema = Arc::new(Schema::new(fields.clone()));
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties));
        let writer = writer.map_err(|error| refused().with_source(error))?;
        Ok(Self {
            fields,
            rows,
            trials: None,
            n_trials: 0,
            n_rows: 0,
            writer,
            row_group_bytes: format.row_group_bytes,
        })
    }

    fn write_rows(&mut self) -> UserResult {
        if self.n_rows > 0 {
            self.n_rows = 0;
            self.writer.write(&self.rows.to_record_batch()?)?;
        }
        Ok(())
    }
}

impl<T: Serialize> RecordEncoder<T> for ParquetEncoder {
    fn check(&mut self, record: &T) -> UserResult {
        let mut trials = match self.trials.take() {
            Some(trials) if self.n_trials < BATCH_ROWS => trials,
            Some(_) | None => {
                self.n_trials = 0;
                ArrayBuilder::from_arrow(&self.fields)?
            }
        };
        trials.push(record)?;
        self.n_trials += 1;
        self.trials = Some(trials);
        Ok(())
    }

    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult {
        self.rows.push(record)?;
        self.n_rows += 1;
        if self.n_rows >= BATCH_ROWS {
            self.write_rows()?;
            if self.writer.in_progress_size() >= self.row_group_bytes {
                self.writer.flush()?;
            }
            out.append(self.writer.inner_mut());
        }
        Ok(())
    }

    fn buffered_bytes(&self) -> u64 {
        self.writer.in_progress_size() as u64
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> UserResult {
        self.write_rows()?;
        self.writer.finish()?;
        out.append(self.writer.inner_mut());
        Ok(())
    }
}
