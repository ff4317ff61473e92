//! The bytes of a file of the log: a header, then records, each with its length and a checksum over it and its number.

use flott_env::ReadSeek;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"flottlg1";

/// The magic and the number of the first record.
pub(crate) const HEADER_BYTES: usize = 16;

/// Length and checksum.
pub(crate) const RECORD_HEADER_BYTES: usize = 12;

pub(crate) fn encode_header(base: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&base.to_le_bytes());
}

pub(crate) fn encode_record(number: u64, record: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let len = u32::try_from(record.len()).map_err(|_| io::Error::other("a record of more than 4 GiB"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(number, record).to_le_bytes());
    out.extend_from_slice(record);
    Ok(())
}

/// Its number is in it, so that a record is not taken for another one.
fn checksum(number: u64, record: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(number, record)
}

/// Reads the records of a file.
pub(crate) struct SegmentReader {
    file: BufReader<Box<dyn ReadSeek>>,
    /// Where the file begins is to be looked at first.
    base: Option<u64>,
    record: Vec<u8>,
    /// Where the next record begins.
    pub(crate) offset: u64,
}

impl SegmentReader {
    /// Reads from the first record on.
    pub(crate) fn start(file: Box<dyn ReadSeek>, base: u64) -> Self {
        Self { file: BufReader::new(file), base: Some(base), record: Vec::new(), offset: HEADER_BYTES as u64 }
    }

    /// Reads from where another reader has stopped.
    pub(crate) fn resume(mut file: Box<dyn ReadSeek>, offset: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file: BufReader::new(file), base: None, record: Vec::new(), offset })
    }

    /// The next record, which has this number; `None` where no whole record is.
    pub(crate) fn next_record(&mut self, number: u64) -> io::Result<Option<&[u8]>> {
        if let Some(base) = self.base.take() {
            let mut expected = Vec::new();
            encode_header(base, &mut expected);
            let mut found = [0; HEADER_BYTES];
            if !self.fill(&mut found)? || found != *expected {
                // Nothing behind it is taken for a record either.
                self.base = Some(base);
                return Ok(None);
            }
        }
        let mut header = [0; RECORD_HEADER_BYTES];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let [a, b, c, d, checked @ ..] = header;
        let len = u32::from_le_bytes([a, b, c, d]);
        // What stands in a torn file may be any length, so memory is taken as bytes come.
        self.record.clear();
        let n_read = self.file.by_ref().take(len.into()).read_to_end(&mut self.record)?;
        if n_read != len as usize || checksum(number, &self.record) != u64::from_le_bytes(checked) {
            return Ok(None);
        }
        self.offset += RECORD_HEADER_BYTES as u64 + u64::from(len);
        Ok(Some(&self.record))
    }

    /// Whether there were so many bytes.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.file.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| true),
        }
    }
}
