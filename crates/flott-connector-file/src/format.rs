//! The formats that this crate reads and writes itself.

mod csv;
mod json;
mod lines;

pub use csv::CsvFormat;
pub use json::JsonFormat;
pub use lines::{LineParser, LinesFormat, LinesWriter};

use crate::input::Input;
use flott_api::SplitOutput;
use flott_api::format::{ByteRange, DecodeInput, ReadPosition};
use flott_types::{Error, ErrorKind, Result};

/// A call to a decoder returns after so many bytes, however few records they hold.
const DECODED_BYTES_MAX: u64 = 1 << 20;

/// Of a record that is too long, what the bad record shows.
const RAW_BYTES_SHOWN: usize = 4096;

/// To name the line of a bad record in a later range, what lies before is read again, up to so many bytes.
const LINES_COUNTED_BYTES_MAX: u64 = 256 << 20;

/// The place in a range of text, moved on record by record.
struct Cursor {
    range: ByteRange,
    position: ReadPosition,
    /// How many lines of the file are before the range, once they have been counted.
    lines_before: Option<u64>,
}

impl Cursor {
    /// Moves `input` to where `decode` says to begin; the file's header, if any, has been consumed.
    fn start(input: &mut Input, decode: &DecodeInput, header_lines: u64) -> Result<Self> {
        let range = decode.range;
        let header_end = input.offset();
        let reached = match decode.position {
            Some(position) if position.offset < header_end => {
                let (path, offset) = (input.path().display(), position.offset);
                let message = format!(
                    "byte {offset} of file '{path}' lies before its first record at byte {header_end}: that is no position of it, or it has changed"
                );
                return Err(Error::new(ErrorKind::Corruption, message));
            }
            Some(position) => input.skip_to(position.offset)?,
            None if range.start <= header_end => true,
            // A record belongs to the range in which it starts. One starts at the first byte of this range if the
            // byte before is a newline.
            None => {
                let reached = input.skip_to(range.start - 1)?;
                if reached {
                    input.skip_line()?;
                }
                reached
            }
        };
        if !reached {
            let path = input.path().display();
            let message = format!(
                "file '{path}' has become shorter since it was listed: it was changed while it was read"
            );
            return Err(Error::new(ErrorKind::Corruption, message));
        }
        let lines = if range.start == 0 { header_lines } else { 0 };
        let start = ReadPosition { offset: input.offset(), records: 0, lines };
        let lines_before = (range.start == 0).then_some(0);
        Ok(Self { range, position: decode.position.unwrap_or(start), lines_before })
    }

    /// Whether the record that starts at the window of `input` belongs to the next range.
    fn is_past_range(&self, input: &Input) -> bool {
        self.range.end.is_some_and(|end| input.offset() >= end)
    }

    /// A record that spans `lines` line ends was consumed from `input`.
    fn advance(&mut self, input: &Input, records: u64, lines: u64) {
        self.position.offset = input.offset();
        self.position.records = self.position.records.saturating_add(records);
        self.position.lines = self.position.lines.saturating_add(lines);
    }

    /// Where the next record stands, for a person.
    fn describe(&self) -> String {
        let lines = self.lines_before.map(|before| before.saturating_add(self.position.lines));
        lines.map_or_else(
            || format!("byte {}", self.position.offset),
            |lines| format!("line {}", lines.saturating_add(1)),
        )
    }

    /// As `describe`, and takes the trouble to count the lines before the range, unless these are very many.
    fn describe_bad(&mut self, input: &Input) -> String {
        let ReadPosition { offset, lines, .. } = self.position;
        if self.lines_before.is_none() && offset <= LINES_COUNTED_BYTES_MAX {
            self.lines_before = input.count_lines_before(offset).and_then(|before| before.checked_sub(lines));
        }
        self.describe()
    }

    /// Tells where a batch that is about to begin stands.
    fn describe_batch<T>(&self, out: &mut SplitOutput<T>) {
        if out.batch.is_empty() {
            out.position = Some(self.describe());
        }
    }
}

/// How much one call has decoded, and how much it may.
struct Budget {
    records_left: usize,
    offset_max: u64,
}

impl Budget {
    fn new(records_max: usize, input: &Input) -> Self {
        Self { records_left: records_max.max(1), offset_max: input.offset() + DECODED_BYTES_MAX }
    }

    fn spend(&mut self) {
        self.records_left -= 1;
    }

    fn is_spent(&self, input: &Input) -> bool {
        self.records_left == 0 || input.offset() >= self.offset_max
    }
}

/// Returns an error only when nothing was put out before it in the same call; until then it is kept.
///
/// The records before the place where an archive breaks off are good, and an error of a reader may cost the batch
/// that it was filling.
#[derive(Default)]
struct DeferredError(Option<Error>);

impl DeferredError {
    fn take(&mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), Err)
    }

    /// Whether `result` may be returned now; if not, the error comes with the next call.
    fn defer<R>(&mut self, result: Result<R>, anything_put_out: impl Into<PutOut>) -> Result<Option<R>> {
        match (result, anything_put_out.into()) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), PutOut::Nothing) => Err(error),
            (Err(error), PutOut::Something) => {
                self.0 = Some(error);
                Ok(None)
            }
        }
    }
}

/// Whether a call has put out anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PutOut {
    Nothing,
    Something,
}

impl<T> From<&SplitOutput<T>> for PutOut {
    fn from(out: &SplitOutput<T>) -> Self {
        if out.batch.is_empty() && out.bad_records.is_empty() { Self::Nothing } else { Self::Something }
    }
}

pub(crate) fn too_long(record_bytes_max: usize) -> String {
    format!("longer than {record_bytes_max} bytes, the limit for a record (max_record_bytes)")
}
