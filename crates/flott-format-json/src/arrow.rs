//! Messages become rows of Arrow batches.

use crate::JsonFormat;
use crate::parse::{explain, path_in_value, to_text};
use flott_api::message::DecodeError;
use flott_format_arrow::array::RecordBatch;
use flott_format_arrow::schema::SchemaRef;
use flott_format_arrow::{ArrowFormat, BuildRows, Columns, FieldRules, MalformedRow};
use serde::de::DeserializeSeed;
use serde_json::Deserializer;
use std::sync::Arc;

impl JsonFormat {
    /// Messages as rows of Arrow batches with these columns, which are found by name.
    ///
    /// The options for fields hold, and values are as strict as with serde types: a column that is not nullable must be there, and no
    /// string is a number. Bytes are strings in base64; dates and times are strings by ISO 8601, or numbers since the epoch in
    /// the unit of the column; decimals are strings or numbers.
    #[must_use]
    pub fn arrow(self, schema: SchemaRef) -> ArrowFormat {
        let rules = FieldRules {
            fail_on_missing: self.rules.fail_on_missing,
            fail_on_unknown: self.rules.fail_on_unknown,
        };
        ArrowFormat::new(Arc::clone(&schema), move || {
            // Says at once what types it does not have.
            Columns::new(&schema)?;
            Ok(Box::new(JsonRows { schema: Arc::clone(&schema), rules }))
        })
    }
}

struct JsonRows {
    schema: SchemaRef,
    rules: FieldRules,
}

impl BuildRows for JsonRows {
    fn build(&mut self, messages: &[&[u8]], out: &mut Vec<RecordBatch>) -> Result<(), MalformedRow> {
        let failed = |error| MalformedRow { idx: 0, why: DecodeError::Failed(error) };
        let mut columns = Columns::new(&self.schema).map_err(failed)?;
        for (idx, message) in messages.iter().enumerate() {
            append(&mut columns, message, self.rules)
                .map_err(|why| MalformedRow { idx, why: DecodeError::Malformed(why) })?;
        }
        out.push(columns.finish().map_err(failed)?);
        Ok(())
    }
}

fn append(columns: &mut Columns, message: &[u8], rules: FieldRules) -> Result<(), String> {
    let text = to_text(message)?;
    let mut parser = Deserializer::from_str(text);
    let parsed = columns.row_seed(rules).deserialize(&mut parser).and_then(|()| parser.end());
    parsed.map_err(|error| {
        explain(text, &error, |parser| {
            let mut track = serde_path_to_error::Track::new();
            let tracked = serde_path_to_error::Deserializer::new(parser, &mut track);
            columns.row_seed(rules).deserialize(tracked).err()?;
            path_in_value(&track.path())
        })
    })
}
