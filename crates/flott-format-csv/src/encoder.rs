//! A record becomes a row.

use crate::texts::{TextRules, WithRules};
use crate::{CsvFormat, SharedBuffer};
use flott_api::UserResult;
use flott_api::message::{MessageEncoder, SerializationSchema};
use flott_types::Result;
use serde::Serialize;

impl<T: Serialize + 'static> SerializationSchema<T> for CsvFormat {
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<T>>> {
        self.check()?;
        let (writer, written) = self.writer();
        Ok(Box::new(CsvEncoder { format: self.clone(), writer, written }))
    }
}

impl CsvFormat {
    fn writer(&self) -> (csv::Writer<SharedBuffer>, SharedBuffer) {
        let written = SharedBuffer::default();
        let mut builder = csv::WriterBuilder::new();
        builder.delimiter(self.field_delimiter).has_headers(false).flexible(true);
        builder.escape(self.escape_character.unwrap_or(b'"')).double_quote(self.escape_character.is_none());
        // A row that begins like a comment would be read as one.
        builder.comment(self.allow_comments.then_some(b'#'));
        match self.quote_character {
            Some(quote) => builder.quote(quote),
            None => builder.quote_style(csv::QuoteStyle::Never),
        };
        (builder.from_writer(written.clone()), written)
    }
}

struct CsvEncoder {
    format: CsvFormat,
    writer: csv::Writer<SharedBuffer>,
    written: SharedBuffer,
}

impl<T: Serialize> MessageEncoder<T> for CsvEncoder {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult {
        let before = out.len();
        if let Err(error) = self.write(record) {
            // The writer has a part of the record.
            (self.writer, self.written) = self.format.writer();
            return Err(error);
        }
        self.written.move_to(out);
        if out.last() == Some(&b'\n') {
            out.pop();
        }
        if self.format.quote_character.is_none() {
            self.check_is_plain(out.get(before..).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl CsvEncoder {
    fn write(&mut self, record: &impl Serialize) -> UserResult {
        if self.format.null_literal.is_none() && self.format.escape_character.is_none() {
            self.writer.serialize(record)?;
        } else {
            let null_literal = self.format.null_literal.as_deref();
            let escape = self.format.escape_character.map(char::from);
            self.writer.serialize(WithRules { value: record, rules: TextRules { null_literal, escape } })?;
        }
        Ok(self.writer.flush()?)
    }

    /// Without quotes a line end in a field ends the row. (A delimiter in a field cannot be told from one between two.)
    fn check_is_plain(&self, row: &[u8]) -> UserResult {
        if row.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(
                "a field with a line end cannot be written without quotes (disable_quote_character)".into()
            );
        }
        Ok(())
    }
}
