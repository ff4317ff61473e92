//! CSV.

mod parser;

use super::{Budget, Cursor, DeferredError, lines, too_long};
use crate::MAX_RECORD_BYTES_DEFAULT;
use crate::input::Input;
use csv::{ByteRecord, DeserializeErrorKind};
use flott_api::format::{
    ByteRange, DecodeFormat, DecodeInput, EncodeFormat, FileLayout, ReadPosition, RecordDecoder,
    RecordEncoder,
};
use flott_api::{InputStatus, SplitOutput, UserResult};
use flott_env::FileSystem;
use flott_format_csv::{SharedBuffer, explain_fields};
use flott_types::{Error, Result};
use parser::{CsvParser, Parsed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    FirstRecord,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordLines {
    Any,
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldCount {
    AsInHeader,
    Any,
}

/// CSV as RFC 4180 and spreadsheets have it: fields in quotes may contain delimiters and line ends, empty lines are
/// left out. With a header, the fields of a struct are found by name and may stand in any order; without, by position.
///
/// An empty field is `None` for an `Option`, and so is a column that the header lacks. Columns that the record type does
/// not have are ignored, unless it says `#[serde(deny_unknown_fields)]`; a column that it needs and the header lacks
/// fails the job.
#[derive(Clone, Debug)]
pub struct CsvFormat {
    delimiter: u8,
    quote: Option<u8>,
    comment: Option<u8>,
    null_values: Vec<String>,
    header: Header,
    record_lines: RecordLines,
    field_count: FieldCount,
    max_record_bytes: usize,
}

impl CsvFormat {
    /// Commas, double quotes, a header, no comments.
    #[expect(clippy::new_without_default, reason = "the other formats have no default either")]
    pub fn new() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            comment: None,
            null_values: Vec::new(),
            header: Header::FirstRecord,
            record_lines: RecordLines::Any,
            field_count: FieldCount::AsInHeader,
            max_record_bytes: MAX_RECORD_BYTES_DEFAULT,
        }
    }

    /// What separates fields.
    #[must_use]
    pub fn delimiter(self, delimiter: u8) -> Self {
        Self { delimiter, ..self }
    }

    /// What encloses fields that contain delimiters, quotes or line ends; doubled, it stands for itself.
    #[must_use]
    pub fn quote(self, quote: u8) -> Self {
        Self { quote: Some(quote), ..self }
    }

    /// Quotes have no meaning.
    #[must_use]
    pub fn without_quotes(self) -> Self {
        Self { quote: None, ..self }
    }

    /// The first record is data, not a header.
    #[must_use]
    pub fn without_header(self) -> Self {
        Self { header: Header::None, ..self }
    }

    /// Lines that begin with this byte are left out when reading.
    #[must_use]
    pub fn comment(self, comment: u8) -> Self {
        Self { comment: Some(comment), ..self }
    }

    /// A field with this text is read as if it were empty, for example `NA`.
    #[must_use]
    pub fn null_value(mut self, null_value: impl Into<String>) -> Self {
        self.null_values.push(null_value.into());
        self
    }

    /// Promises that no field contains a line end, so that big files that are not compressed can be read in ranges. The
    /// job fails at a record that breaks the promise.
    #[must_use]
    pub fn one_line_records(self) -> Self {
        Self { record_lines: RecordLines::One, ..self }
    }

    /// Records may have fewer or more fields than the header.
    #[must_use]
    pub fn flexible(self) -> Self {
        Self { field_count: FieldCount::Any, ..self }
    }

    /// How long a record may be; a longer one is a bad record and is not held in memory.
    #[must_use]
    pub fn max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self { max_record_bytes, ..self }
    }
}

impl<T: DeserializeOwned + 'static> DecodeFormat<T> for CsvFormat {
    fn divide(&self, _: &dyn FileSystem, path: &Path, len: u64, range_bytes: u64) -> Result<Vec<ByteRange>> {
        Ok(match self.record_lines {
            // Whether a newline ends a record or stands in quotes is known only to who has read from the start.
            RecordLines::Any => vec![ByteRange::WHOLE],
            RecordLines::One => lines::divide(path, len, range_bytes),
        })
    }

    fn open(&self, decode: DecodeInput) -> Result<Box<dyn RecordDecoder<T>>> {
        let mut input = Input::open(&decode, self.max_record_bytes.saturating_add(LINE_END_BYTES_MAX))?;
        input.skip_byte_order_mark()?;
        let mut parser = CsvParser::new(self.delimiter, self.quote, self.comment);
        let mut header = None;
        let mut header_lines = 0;
        if self.header == Header::FirstRecord {
            header_lines += parser.skip_empty(&mut input)?;
            match parser.parse(&mut input)? {
                Parsed::End => {}
                Parsed::Record { n_bytes, n_lines } => {
                    let mut names = ByteRecord::new();
                    parser.copy_fields(&mut names, &[]);
                    header = Some(names);
                    input.consume(n_bytes);
                    header_lines += n_lines;
                }
                Parsed::OpenQuote { .. } | Parsed::TooLong { .. } => {
                    let path = input.path().display();
                    return Err(Error::user(format!("the header of CSV file '{path}' has no end")));
                }
            }
        }
        let cursor = Cursor::start(&mut input, &decode, header_lines)?;
        Ok(Box::new(CsvDecoder {
            format: self.clone(),
            input,
            cursor,
            parser,
            header,
            fields: ByteRecord::new(),
            error: DeferredError::default(),
            records: PhantomData,
        }))
    }
}

/// A line end takes two bytes at most.
const LINE_END_BYTES_MAX: usize = 2;

struct CsvDecoder<T> {
    format: CsvFormat,
    input: Input,
    cursor: Cursor,
    parser: CsvParser,
    header: Option<ByteRecord>,
    fields: ByteRecord,
    error: DeferredError,
    records: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> CsvDecoder<T> {
    fn decode_record(&mut self, out: &mut SplitOutput<T>) -> Result<InputStatus> {
        let n_lines = self.parser.skip_empty(&mut self.input)?;
        self.cursor.advance(&self.input, 0, n_lines);
        if self.cursor.is_past_range(&self.input) {
            return Ok(InputStatus::EndOfInput);
        }
        let n_lines = match self.parser.parse(&mut self.input)? {
            Parsed::End => return Ok(InputStatus::EndOfInput),
            Parsed::Record { n_bytes, n_lines } => {
                if self.format.record_lines == RecordLines::One {
                    self.check_one_line(n_bytes)?;
                }
                self.parser.copy_fields(&mut self.fields, &self.format.null_values);
                let raw = self.input.data().get(..n_bytes).unwrap_or_default().trim_ascii_end();
                match self.deserialize() {
                    Ok(record) => out.collect(record),
                    Err(Refused::BadRecord(message)) => {
                        out.bad_record(self.cursor.describe_bad(&self.input), raw, message)
                    }
                    Err(Refused::File(error)) => return Err(error),
                }
                self.input.consume(n_bytes);
                n_lines
            }
            Parsed::OpenQuote { n_lines: 1.., .. } | Parsed::TooLong { n_lines: 2.., .. }
                if self.format.record_lines == RecordLines::One =>
            {
                return Err(self.not_one_line());
            }
            Parsed::OpenQuote { n_bytes, n_lines } => {
                let raw = self.input.data();
                out.bad_record(
                    self.cursor.describe_bad(&self.input),
                    raw,
                    "a quoted field that does not end before the file does",
                );
                self.input.consume(n_bytes);
                n_lines
            }
            Parsed::TooLong { head, n_lines } => {
                let message = too_long(self.format.max_record_bytes);
                let message = if n_lines > 1 { format!("{message}; is a quote missing?") } else { message };
                out.bad_record_head(self.cursor.describe_bad(&self.input), &head, message);
                n_lines
            }
        };
        self.cursor.advance(&self.input, 1, n_lines);
        Ok(InputStatus::MoreAvailable)
    }

    /// Ranges meet at line ends. A record with a line end inside might be cut by the border of two ranges and neither
    /// would know; but it begins in one that has read all before it properly, and that one stops here.
    fn check_one_line(&mut self, n_bytes: usize) -> Result<()> {
        while self.input.data().len() <= n_bytes && self.input.fill()? == crate::input::Filled::More {}
        let (record, rest) = self.input.data().split_at_checked(n_bytes).unwrap_or_default();
        let ends_like_a_line = match record {
            [.., b'\r'] => rest.is_empty() || rest.starts_with(b"\n"),
            _ => true,
        };
        let text = record.strip_suffix(b"\n").unwrap_or(record);
        if ends_like_a_line && memchr::memchr(b'\n', text).is_none() {
            return Ok(());
        }
        Err(self.not_one_line())
    }

    fn not_one_line(&self) -> Error {
        Error::user(format!(
            "a record of CSV file '{}' at {} has a line end inside, or ends without a newline: such a file cannot be \
             read with one_line_records",
            self.input.path().display(),
            self.cursor.describe(),
        ))
    }

    fn deserialize(&self) -> Result<T, Refused> {
        if let Some(header) = &self.header
            && self.format.field_count == FieldCount::AsInHeader
            && header.len() != self.fields.len()
        {
            let (expected, found) = (header.len(), self.fields.len());
            return Err(Refused::BadRecord(format!(
                "expected {expected} fields as in the header, found {found}"
            )));
        }
        self.fields.deserialize(self.header.as_ref()).map_err(|error| self.explain(&error))
    }

    #[cold]
    fn explain(&self, error: &csv::Error) -> Refused {
        if let csv::ErrorKind::Deserialize { err, .. } = error.kind()
            && let DeserializeErrorKind::Message(message) = err.kind()
            && let Some(error) = self.explain_column(message)
        {
            return Refused::File(error);
        }
        Refused::BadRecord(explain_fields::<T>(&self.fields, self.header.as_ref(), error))
    }

    /// The error of the whole file if every record is wrong in the same way: the header is.
    fn explain_column(&self, message: &str) -> Option<Error> {
        let header = self.header.as_ref()?;
        let (kind, rest) = message.split_once(" field `")?;
        let (name, rest) = rest.split_once('`')?;
        let columns = header.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ");
        let in_header = header.iter().any(|column| column == name.as_bytes());
        let path = self.input.path().display();
        match (kind, in_header) {
            ("missing", false) => {
                Some(Error::user(format!("CSV file '{path}' has no column '{name}', only {columns}")))
            }
            ("unknown", true) => {
                Some(Error::user(format!("CSV file '{path}' has an unknown column '{name}'{rest}")))
            }
            _ => None,
        }
    }
}

/// Why a record was not deserialized.
enum Refused {
    BadRecord(String),
    /// No record of this file can be.
    File(Error),
}

impl<T: DeserializeOwned + 'static> RecordDecoder<T> for CsvDecoder<T> {
    fn decode(&mut self, records_max: usize, out: &mut SplitOutput<T>) -> Result<InputStatus> {
        self.error.take()?;
        self.cursor.describe_batch(out);
        let mut budget = Budget::new(records_max, &self.input);
        while !budget.is_spent(&self.input) {
            let decoded = self.decode_record(out);
            match self.error.defer(decoded, &*out)? {
                Some(InputStatus::EndOfInput) => return Ok(InputStatus::EndOfInput),
                Some(InputStatus::MoreAvailable) => budget.spend(),
                None => break,
            }
        }
        Ok(InputStatus::MoreAvailable)
    }

    fn position(&self) -> ReadPosition {
        self.cursor.position
    }
}

impl<T: Serialize + 'static> EncodeFormat<T> for CsvFormat {
    fn extension(&self) -> &str {
        "csv"
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Rows
    }

    fn start_file(&self) -> Result<Box<dyn RecordEncoder<T>>> {
        let (writer, written) = self.writer(self.header);
        Ok(Box::new(CsvEncoder { format: self.clone(), writer, written, header_bytes: 0, first_row: None }))
    }
}

impl CsvFormat {
    fn writer(&self, header: Header) -> (csv::Writer<SharedBuffer>, SharedBuffer) {
        let written = SharedBuffer::default();
        let mut builder = csv::WriterBuilder::new();
        builder.delimiter(self.delimiter).has_headers(header == Header::FirstRecord);
        builder.flexible(self.field_count == FieldCount::Any);
        match self.quote {
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
    header_bytes: u64,
    /// The first record, without a header.
    first_row: Option<Vec<u8>>,
}

impl CsvEncoder {
    fn write(&mut self, record: &impl Serialize) -> UserResult {
        self.writer.serialize(record)?;
        self.writer.flush()?;
        if self.first_row.is_none() {
            // Whether there is a header depends on the record's type, and the writer does not tell: it is what the first record has more than
            // without one.
            let (mut writer, written) = self.format.writer(Header::None);
            writer.serialize(record)?;
            writer.flush()?;
            let mut row = Vec::new();
            written.move_to(&mut row);
            self.header_bytes = self.written.len().saturating_sub(row.len()) as u64;
            self.first_row = Some(row);
        }
        Ok(())
    }

    /// After a record of which the writer has a part: a new writer that knows of the first record how many fields there are.
    fn start_again(&mut self) -> UserResult {
        let header = if self.first_row.is_some() { Header::None } else { self.format.header };
        (self.writer, self.written) = self.format.writer(header);
        let Some(row) = &self.first_row else { return Ok(()) };
        let mut reader = csv::ReaderBuilder::new();
        reader.has_headers(false).delimiter(self.format.delimiter);
        match self.format.quote {
            Some(quote) => reader.quote(quote),
            None => reader.quoting(false),
        };
        for first in reader.from_reader(row.as_slice()).byte_records() {
            self.writer.write_byte_record(&first?)?;
        }
        self.writer.flush()?;
        self.written.move_to(&mut Vec::new());
        Ok(())
    }
}

impl<T: Serialize> RecordEncoder<T> for CsvEncoder {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult {
        if let Err(error) = self.write(record) {
            self.start_again()?;
            return Err(error);
        }
        self.written.move_to(out);
        Ok(())
    }

    fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> UserResult {
        Ok(())
    }
}
