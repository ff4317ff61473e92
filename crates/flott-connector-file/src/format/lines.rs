//! A record per line.

use super::{Budget, Cursor, DeferredError, RAW_BYTES_SHOWN, too_long};
use crate::enumerator::divide_by_lines;
use crate::input::{Filled, Input};
use crate::{Compression, MAX_RECORD_BYTES_DEFAULT};
use flott_api::format::{
    ByteRange, DecodeFormat, DecodeInput, EncodeFormat, FileLayout, ReadPosition, RecordDecoder,
    RecordEncoder,
};
use flott_api::{InputStatus, SplitOutput, UserResult};
use flott_env::FileSystem;
use flott_types::Result;
use std::fmt::{self, Display, Write};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

/// Text lines: each is a record, without its line end (`\n` or `\r\n`); an empty line is an empty record.
///
/// It reads `String`s and writes whatever is `Display`. Big files that are not compressed are read in ranges.
#[derive(Clone, Copy, Debug)]
pub struct LinesFormat {
    max_record_bytes: usize,
}

impl LinesFormat {
    /// The format with its default limit.
    #[expect(clippy::new_without_default, reason = "the other formats have no default either")]
    pub fn new() -> Self {
        Self { max_record_bytes: MAX_RECORD_BYTES_DEFAULT }
    }

    /// How long a line may be; a longer one is a bad record and is not held in memory.
    #[must_use]
    pub fn max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self { max_record_bytes }
    }
}

impl DecodeFormat<String> for LinesFormat {
    fn divide(&self, _: &dyn FileSystem, path: &Path, len: u64, range_bytes: u64) -> Result<Vec<ByteRange>> {
        Ok(divide(path, len, range_bytes))
    }

    fn open(&self, input: DecodeInput) -> Result<Box<dyn RecordDecoder<String>>> {
        LineDecoder::open(&input, self.max_record_bytes, |line: &[u8]| {
            let text = std::str::from_utf8(line).map_err(|error| not_utf8(&error))?;
            Ok(Some(text.to_owned()))
        })
    }
}

type ParseLine<T> = dyn Fn(&str) -> UserResult<T> + Send + Sync;

/// A record per line, made by a function of the line; reads any type.
pub struct LineParser<T> {
    parse: Arc<ParseLine<T>>,
    max_record_bytes: usize,
}

impl<T> fmt::Debug for LineParser<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineParser").field("max_record_bytes", &self.max_record_bytes).finish_non_exhaustive()
    }
}

impl<T> LineParser<T> {
    /// Makes records with `parse`; a line for which it returns an error is a bad record.
    pub fn new(parse: impl Fn(&str) -> UserResult<T> + Send + Sync + 'static) -> Self {
        Self { parse: Arc::new(parse), max_record_bytes: MAX_RECORD_BYTES_DEFAULT }
    }

    /// How long a line may be; a longer one is a bad record and is not held in memory.
    #[must_use]
    pub fn max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self { max_record_bytes, ..self }
    }
}

impl<T: 'static> DecodeFormat<T> for LineParser<T> {
    fn divide(&self, _: &dyn FileSystem, path: &Path, len: u64, range_bytes: u64) -> Result<Vec<ByteRange>> {
        Ok(divide(path, len, range_bytes))
    }

    fn open(&self, input: DecodeInput) -> Result<Box<dyn RecordDecoder<T>>> {
        let parse = Arc::clone(&self.parse);
        LineDecoder::open(&input, self.max_record_bytes, move |line: &[u8]| {
            let text = std::str::from_utf8(line).map_err(|error| not_utf8(&error))?;
            parse(text).map(Some).map_err(|error| error.to_string())
        })
    }
}

/// The ranges of a file of lines: one if it is compressed.
pub(super) fn divide(path: &Path, len: u64, range_bytes: u64) -> Vec<ByteRange> {
    match Compression::from_path(path) {
        Compression::None => divide_by_lines(len, range_bytes),
        Compression::Gzip | Compression::Zstd => vec![ByteRange::WHOLE],
    }
}

pub(super) fn not_utf8(error: &std::str::Utf8Error) -> String {
    format!("not UTF-8: byte {} of the line is no character", error.valid_up_to() + 1)
}

/// Decodes lines with a function that returns `None` for a line that holds no record.
pub(super) struct LineDecoder<T, P> {
    input: Input,
    cursor: Cursor,
    record_bytes_max: usize,
    parse: P,
    error: DeferredError,
    records: PhantomData<fn() -> T>,
}

/// A line end takes two bytes at most.
const LINE_END_BYTES_MAX: usize = 2;

enum Line {
    /// Of so many bytes, with and without its end, at the start of the window.
    Whole {
        n_bytes: usize,
        n_bytes_text: usize,
    },
    /// It was consumed but for what the bad record shows of it.
    TooLong {
        head: Vec<u8>,
    },
    End,
}

impl<T, P> LineDecoder<T, P>
where
    T: 'static,
    P: FnMut(&[u8]) -> Result<Option<T>, String> + Send + 'static,
{
    pub(super) fn open(
        decode: &DecodeInput,
        record_bytes_max: usize,
        parse: P,
    ) -> Result<Box<dyn RecordDecoder<T>>> {
        let mut input = Input::open(decode, record_bytes_max.saturating_add(LINE_END_BYTES_MAX))?;
        input.skip_byte_order_mark()?;
        let cursor = Cursor::start(&mut input, decode, 0)?;
        let (error, records) = (DeferredError::default(), PhantomData);
        Ok(Box::new(Self { input, cursor, record_bytes_max, parse, error, records }))
    }

    /// Finds the next line; if it is whole, it is not consumed.
    fn next_line(&mut self) -> Result<Line> {
        if self.cursor.is_past_range(&self.input) {
            return Ok(Line::End);
        }
        let mut n_searched = 0;
        loop {
            let data = self.input.data();
            if let Some(at) = data.get(n_searched..).and_then(|rest| memchr::memchr(b'\n', rest)) {
                let n_bytes = n_searched + at + 1;
                return Ok(self.whole_line(n_bytes, n_bytes - 1));
            }
            n_searched = data.len();
            match self.input.fill()? {
                Filled::More => {}
                Filled::Full => return self.skip_long_line(),
                Filled::End if n_searched == 0 => return Ok(Line::End),
                Filled::End => return Ok(self.whole_line(n_searched, n_searched)),
            }
        }
    }

    fn whole_line(&self, n_bytes: usize, n_bytes_text: usize) -> Line {
        let text = self.input.data().get(..n_bytes_text).unwrap_or_default();
        let n_bytes_text = text.strip_suffix(b"\r").unwrap_or(text).len();
        Line::Whole { n_bytes, n_bytes_text }
    }

    fn skip_long_line(&mut self) -> Result<Line> {
        let data = self.input.data();
        let head = data.get(..RAW_BYTES_SHOWN).unwrap_or(data).to_vec();
        self.input.skip_line()?;
        Ok(Line::TooLong { head })
    }

    fn decode_line(&mut self, out: &mut SplitOutput<T>) -> Result<InputStatus> {
        match self.next_line()? {
            Line::End => return Ok(InputStatus::EndOfInput),
            Line::TooLong { head } => {
                out.bad_record_head(
                    self.cursor.describe_bad(&self.input),
                    &head,
                    too_long(self.record_bytes_max),
                );
            }
            Line::Whole { n_bytes, n_bytes_text } => {
                let text = self.input.data().get(..n_bytes_text).unwrap_or_default();
                let parsed = if n_bytes_text > self.record_bytes_max {
                    Err(too_long(self.record_bytes_max))
                } else {
                    (self.parse)(text)
                };
                match parsed {
                    Ok(Some(record)) => out.collect(record),
                    Ok(None) => {}
                    Err(message) => out.bad_record(self.cursor.describe_bad(&self.input), text, message),
                }
                self.input.consume(n_bytes);
            }
        }
        self.cursor.advance(&self.input, 1, 1);
        Ok(InputStatus::MoreAvailable)
    }
}

impl<T, P> RecordDecoder<T> for LineDecoder<T, P>
where
    T: 'static,
    P: FnMut(&[u8]) -> Result<Option<T>, String> + Send + 'static,
{
    fn decode(&mut self, records_max: usize, out: &mut SplitOutput<T>) -> Result<InputStatus> {
        self.error.take()?;
        self.cursor.describe_batch(out);
        let mut budget = Budget::new(records_max, &self.input);
        while !budget.is_spent(&self.input) {
            let decoded = self.decode_line(out);
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

impl<T: Display + 'static> EncodeFormat<T> for LinesFormat {
    fn extension(&self) -> &str {
        "txt"
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Rows
    }

    fn start_file(&self) -> Result<Box<dyn RecordEncoder<T>>> {
        Ok(Box::new(LineEncoder::new(|record: &T, line: &mut String| {
            write!(line, "{record}").map_err(Into::into)
        })))
    }
}

type WriteLine<T> = dyn Fn(&T, &mut String) -> UserResult + Send + Sync;

/// A line per record, made by a function of the record; writes any type.
pub struct LinesWriter<T> {
    write: Arc<WriteLine<T>>,
}

impl<T> fmt::Debug for LinesWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinesWriter")
    }
}

impl<T> LinesWriter<T> {
    /// Writes what `write` appends to the line of a record.
    pub fn new(write: impl Fn(&T, &mut String) -> UserResult + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write) }
    }
}

impl<T: 'static> EncodeFormat<T> for LinesWriter<T> {
    fn extension(&self) -> &str {
        "txt"
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Rows
    }

    fn start_file(&self) -> Result<Box<dyn RecordEncoder<T>>> {
        let write = Arc::clone(&self.write);
        Ok(Box::new(LineEncoder::new(move |record: &T, line: &mut String| write(record, line))))
    }
}

struct LineEncoder<W> {
    write: W,
    /// Kept for its memory.
    line: String,
}

impl<W> LineEncoder<W> {
    fn new(write: W) -> Self {
        Self { write, line: String::new() }
    }
}

impl<T, W: Fn(&T, &mut String) -> UserResult + Send> RecordEncoder<T> for LineEncoder<W> {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult {
        self.line.clear();
        (self.write)(record, &mut self.line)?;
        out.extend_from_slice(self.line.as_bytes());
        out.push(b'\n');
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> UserResult {
        Ok(())
    }
}
