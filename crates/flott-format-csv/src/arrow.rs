//! Messages become rows of Arrow batches.

use crate::CsvFormat;
use crate::decoder::{CsvDecoder, is_nothing};
use flott_api::message::DecodeError;
use flott_format_arrow::array::RecordBatch;
use flott_format_arrow::schema::SchemaRef;
use flott_format_arrow::{ArrowFormat, BuildRows, Columns, MalformedRow};
use std::sync::Arc;

impl CsvFormat {
    /// Messages as rows of Arrow batches with these columns, which are found by position.
    ///
    /// An empty field, or the null literal, is null if the column may be. Numbers are written as Rust writes them, bytes in base64, dates
    /// and times by ISO 8601.
    #[must_use]
    pub fn arrow(self, schema: SchemaRef) -> ArrowFormat {
        ArrowFormat::new(Arc::clone(&schema), move || {
            self.check()?;
            // Says at once what types it does not have.
            Columns::new(&schema)?;
            Ok(Box::new(CsvRows { schema: Arc::clone(&schema), decoder: CsvDecoder::new(self.clone()) }))
        })
    }
}

struct CsvRows {
    schema: SchemaRef,
    decoder: CsvDecoder,
}

impl BuildRows for CsvRows {
    fn is_nothing(&self, message: &[u8]) -> bool {
        is_nothing(&self.decoder.format, message)
    }

    fn build(&mut self, messages: &[&[u8]], out: &mut Vec<RecordBatch>) -> Result<(), MalformedRow> {
        let failed = |error| MalformedRow { idx: 0, why: DecodeError::Failed(error) };
        let mut columns = Columns::new(&self.schema).map_err(failed)?;
        for (idx, message) in messages.iter().enumerate() {
            self.append(&mut columns, message)
                .map_err(|why| MalformedRow { idx, why: DecodeError::Malformed(why) })?;
        }
        out.push(columns.finish().map_err(failed)?);
        Ok(())
    }
}

impl CsvRows {
    fn append(&mut self, columns: &mut Columns, message: &[u8]) -> Result<(), String> {
        let Self { schema, decoder } = self;
        decoder.split(message)?;
        let (expected, found) = (schema.fields().len(), decoder.fields.len());
        if found < expected || (found > expected && !decoder.format.ignore_trailing_unmappable) {
            return Err(format!("expected {expected} fields, found {found}"));
        }
        for ((column, field), text) in
            columns.start_row().iter_mut().zip(schema.fields()).zip(&decoder.fields)
        {
            if text.is_empty() && column.is_nullable() {
                column.append_null();
                continue;
            }
            let appended = std::str::from_utf8(text)
                .map_err(|_| "expected UTF-8 text".to_owned())
                .and_then(|text| column.append_text(text));
            appended.map_err(|why| format!("column '{}': {why}", field.name()))?;
        }
        Ok(())
    }
}
