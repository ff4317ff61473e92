//! A row becomes a record.

use crate::{CsvFormat, explain_fields};
use csv::ByteRecord;
use csv_core::ReadRecordResult;
use flott_api::message::{DecodeError, DeserializationSchema, MessageDecoder};
use flott_types::Result;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

impl<T: DeserializeOwned + 'static> DeserializationSchema<T> for CsvFormat {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<T>>> {
        self.check()?;
        Ok(Box::new(CsvDecoder::new(self.clone())))
    }
}

pub(crate) struct CsvDecoder {
    pub(crate) format: CsvFormat,
    core: csv_core::Reader,
    /// The text of the fields so far, one behind the other, `n_text` bytes of it.
    text: Vec<u8>,
    n_text: usize,
    /// Where each field ends in the text, `n_ends` of them.
    ends: Vec<usize>,
    n_ends: usize,
    pub(crate) fields: ByteRecord,
}

/// A record, and how many fields stand behind it.
struct Row<T> {
    record: T,
    n_trailing: usize,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Row<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RowVisitor(PhantomData))
    }
}

/// Takes the record for the first element of a list, which has as many fields as it likes, and counts the rest.
struct RowVisitor<T>(PhantomData<fn() -> T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for RowVisitor<T> {
    type Value = Row<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Row<T>, A::Error> {
        let Some(record) = fields.next_element()? else { return Err(A::Error::invalid_length(0, &self)) };
        let mut n_trailing = 0;
        while fields.next_element::<IgnoredAny>()?.is_some() {
            n_trailing += 1;
        }
        Ok(Row { record, n_trailing })
    }
}

impl<T: DeserializeOwned> MessageDecoder<T> for CsvDecoder {
    fn decode(&mut self, message: &[u8], out: &mut Vec<T>) -> Result<(), DecodeError> {
        if is_nothing(&self.format, message) {
            return Ok(());
        }
        self.split(message).map_err(DecodeError::Malformed)?;
        let Row { record, n_trailing } = (self.fields.deserialize::<Row<T>>(None))
            .map_err(|error| DecodeError::Malformed(explain_fields::<Row<T>>(&self.fields, None, &error)))?;
        if n_trailing > 0 && !self.format.ignore_trailing_unmappable {
            let n_fields = self.fields.len();
            let expected = n_fields.saturating_sub(n_trailing);
            return Err(DecodeError::malformed(format!("expected {expected} fields, found {n_fields}")));
        }
        out.push(record);
        Ok(())
    }
}

/// Whether a message is a tombstone or a comment.
pub(crate) fn is_nothing(format: &CsvFormat, message: &[u8]) -> bool {
    message.is_empty() || (format.allow_comments && message.starts_with(b"#"))
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Fields longer than this, together, do not make a decoder keep memory for them.
const TEXT_BYTES_KEPT: usize = 1 << 20;

impl CsvDecoder {
    pub(crate) fn new(format: CsvFormat) -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(format.field_delimiter);
        builder.quote(format.quote_character.unwrap_or(b'"')).quoting(format.quote_character.is_some());
        builder.escape(format.escape_character).double_quote(format.escape_character.is_none());
        let (core, fields) = (builder.build(), ByteRecord::new());
        Self { format, core, text: Vec::new(), n_text: 0, ends: vec![0; 32], n_ends: 0, fields }
    }

    /// Finds the fields of the one row.
    pub(crate) fn split(&mut self, message: &[u8]) -> Result<(), String> {
        if message.iter().all(|byte| is_line_end(*byte)) {
            return Err("only line ends, no row".to_owned());
        }
        self.core.reset();
        // What a row means is never longer than how it is written.
        if self.text.len() < message.len() || self.text.len() > message.len().max(TEXT_BYTES_KEPT) {
            self.text = vec![0; message.len()];
        }
        (self.n_text, self.n_ends) = (0, 0);
        let mut n_read = 0;
        loop {
            let unread = message.get(n_read..).unwrap_or_default();
            // The core takes no bytes to mean the end, even of a quoted field; a line end ends the others.
            let (unread, is_end) = if unread.is_empty() { (&b"\n"[..], true) } else { (unread, false) };
            let (result, n_in) = self.feed(unread);
            n_read += if is_end { 0 } else { n_in };
            match result {
                ReadRecordResult::Record => break,
                ReadRecordResult::InputEmpty if is_end => {
                    return Err("a quoted field that does not end before the message does".to_owned());
                }
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2 + 1, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
        let rest = message.get(n_read..).unwrap_or_default();
        if !rest.iter().all(|byte| is_line_end(*byte)) {
            return Err(format!("more than one row: the second begins at byte {}", n_read + 1));
        }
        self.copy_fields();
        Ok(())
    }

    /// Parses on, and says how many bytes were read.
    fn feed(&mut self, bytes: &[u8]) -> (ReadRecordResult, usize) {
        let text = self.text.get_mut(self.n_text..).unwrap_or_default();
        let ends = self.ends.get_mut(self.n_ends..).unwrap_or_default();
        let (result, n_in, n_text, n_ends) = self.core.read_record(bytes, text, ends);
        (self.n_text, self.n_ends) = (self.n_text + n_text, self.n_ends + n_ends);
        (result, n_in)
    }

    fn copy_fields(&mut self) {
        self.fields.clear();
        let mut start = 0;
        for &end in self.ends.iter().take(self.n_ends) {
            let field = self.text.get(start..end).unwrap_or_default();
            let is_null = self.format.null_literal.as_ref().is_some_and(|null| null.as_bytes() == field);
            self.fields.push_field(if is_null { b"" } else { field });
            start = end;
        }
    }
}
