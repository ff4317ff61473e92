//! Finds the records and fields of CSV text in the window of an input.
//!
//! The grammar is csv-core's. What is added is a limit: the `csv` reader would hold a record of any size, for example
//! the rest of a file behind a quote that is never closed.

use crate::format::RAW_BYTES_SHOWN;
use crate::input::{Filled, Input};
use csv::ByteRecord;
use csv_core::ReadRecordResult;
use flott_types::Result;

/// What stands at the start of the window.
#[derive(Debug)]
pub(super) enum Parsed {
    /// A record of so many bytes; it is not consumed.
    Record { n_bytes: usize, n_lines: u64 },
    /// The rest of the file, within quotes; it is not consumed.
    OpenQuote { n_bytes: usize, n_lines: u64 },
    /// A record longer than the window may get; it was consumed.
    TooLong { head: Vec<u8>, n_lines: u64 },
    /// The end of the file.
    End,
}

pub(super) struct CsvParser {
    core: csv_core::Reader,
    comment: Option<u8>,
    /// The text of the fields so far, one behind the other, `n_text` bytes of it.
    text: Vec<u8>,
    n_text: usize,
    /// Where each field ends in the text, `n_ends` of them.
    ends: Vec<usize>,
    n_ends: usize,
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

impl CsvParser {
    pub(super) fn new(delimiter: u8, quote: Option<u8>, comment: Option<u8>) -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(delimiter).quote(quote.unwrap_or(b'"')).quoting(quote.is_some());
        Self { core: builder.build(), comment, text: vec![0; 1024], n_text: 0, ends: vec![0; 32], n_ends: 0 }
    }

    /// Consumes line ends and comments before a record, so that the window begins where the record does. The core would
    /// skip them too, but not say so, and a record is known by where it starts. Returns the lines consumed.
    pub(super) fn skip_empty(&mut self, input: &mut Input) -> Result<u64> {
        let mut n_lines = 0;
        loop {
            let n_empty = input.data().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if n_empty > 0 {
                n_lines += count_lines(input.data().get(..n_empty).unwrap_or_default());
                input.consume(n_empty);
            }
            match input.data().first() {
                None => {
                    if input.fill()? == Filled::End {
                        return Ok(n_lines);
                    }
                }
                Some(first) if Some(*first) == self.comment => n_lines += u64::from(input.skip_line()?),
                Some(_) => return Ok(n_lines),
            }
        }
    }

    /// Parses the record at the start of the window, which [`CsvParser::skip_empty`] has moved there.
    pub(super) fn parse(&mut self, input: &mut Input) -> Result<Parsed> {
        (self.n_text, self.n_ends) = (0, 0);
        let mut n_bytes = 0;
        loop {
            let unread = input.data().get(n_bytes..).unwrap_or_default();
            let (n_fed, complete) = self.feed(unread);
            n_bytes += n_fed;
            if complete {
                let n_lines = count_lines(input.data().get(..n_bytes).unwrap_or_default());
                return Ok(Parsed::Record { n_bytes, n_lines });
            }
            match input.fill()? {
                Filled::More => {}
                Filled::Full => return self.skip_long_record(input),
                Filled::End if n_bytes == 0 => return Ok(Parsed::End),
                Filled::End => return Ok(self.parse_last(input)),
            }
        }
    }

    /// The record is as long as the rest of the file, without a line end. Within quotes a line end would not end it.
    fn parse_last(&mut self, input: &Input) -> Parsed {
        let n_bytes = input.data().len();
        let n_lines = count_lines(input.data());
        let (_, complete) = self.feed(b"\n");
        self.core.reset();
        if complete { Parsed::Record { n_bytes, n_lines } } else { Parsed::OpenQuote { n_bytes, n_lines } }
    }

    fn skip_long_record(&mut self, input: &mut Input) -> Result<Parsed> {
        let data = input.data();
        let head = data.get(..RAW_BYTES_SHOWN).unwrap_or(data).to_vec();
        let mut n_lines = count_lines(data);
        input.consume(data.len());
        loop {
            let at_end = input.fill()? == Filled::End;
            (self.n_text, self.n_ends) = (0, 0);
            let (n_fed, complete) = self.feed(input.data());
            n_lines += count_lines(input.data().get(..n_fed).unwrap_or_default());
            input.consume(n_fed);
            if at_end {
                self.core.reset();
            }
            if complete || at_end {
                self.shrink();
                return Ok(Parsed::TooLong { head, n_lines });
            }
        }
    }

    /// Gives back the memory that one long record took.
    fn shrink(&mut self) {
        const TEXT_BYTES_KEPT: usize = 1 << 20;
        if self.text.len() > TEXT_BYTES_KEPT {
            self.text = vec![0; 1024];
        }
    }

    /// Parses on, and says how many bytes were read and whether they end a record.
    #[expect(clippy::indexing_slicing, reason = "the core's counts are within what it was given")]
    fn feed(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut n_fed = 0;
        // The core takes no bytes to mean the end of the file.
        while n_fed < bytes.len() {
            let (text, ends) = (&mut self.text[self.n_text..], &mut self.ends[self.n_ends..]);
            let (result, n_in, n_text, n_ends) = self.core.read_record(&bytes[n_fed..], text, ends);
            n_fed += n_in;
            self.n_text += n_text;
            self.n_ends += n_ends;
            match result {
                ReadRecordResult::Record => return (n_fed, true),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
            }
        }
        (n_fed, false)
    }

    /// The fields of the record that was parsed last; those equal to a null value are empty.
    pub(super) fn copy_fields(&mut self, fields: &mut ByteRecord, null_values: &[String]) {
        fields.clear();
        let mut start = 0;
        for &end in self.ends.iter().take(self.n_ends) {
            let field = self.text.get(start..end).unwrap_or_default();
            let is_null = null_values.iter().any(|null| null.as_bytes() == field);
            fields.push_field(if is_null { b"" } else { field });
            start = end;
        }
        self.shrink();
    }
}
