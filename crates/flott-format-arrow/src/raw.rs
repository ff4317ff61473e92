//! Messages as they are.

use crate::{ArrowFormat, BuildRows, MalformedRow};
use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use flott_api::message::DecodeError;
use flott_types::Error;
use std::sync::Arc;

struct RawRows(SchemaRef);

pub(crate) fn format(column: String) -> ArrowFormat {
    let schema = Arc::new(Schema::new(vec![Field::new(column, DataType::Binary, false)]));
    ArrowFormat::new(Arc::clone(&schema), move || Ok(Box::new(RawRows(Arc::clone(&schema)))))
}

impl BuildRows for RawRows {
    fn is_nothing(&self, _: &[u8]) -> bool {
        false
    }

    fn build(&mut self, messages: &[&[u8]], out: &mut Vec<RecordBatch>) -> Result<(), MalformedRow> {
        let column: ArrayRef = Arc::new(BinaryArray::from(messages.to_vec()));
        let batch = RecordBatch::try_new(Arc::clone(&self.0), vec![column]).map_err(|error| {
            let why = DecodeError::Failed(Error::subtask("cannot make an Arrow batch").with_source(error));
            MalformedRow { idx: 0, why }
        })?;
        out.push(batch);
        Ok(())
    }
}
