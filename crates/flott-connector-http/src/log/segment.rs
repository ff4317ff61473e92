//! The bytes of a file of the log: a header, then entries, each with its length and a checksum over it and its number.
//!
//! An entry is a record or a key. Keys have no numbers of their own but that of the record behind them. A key says how many records of its request follow, all of
//! which are in the file or none counts; or that they are in an earlier file.

use crate::keys::KeyEntry;
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

/// In the length: the entry is a key.
const KEY: u32 = 1 << 31;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Record,
    Key,
}

/// Where the records of a key's request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Right behind it.
    Here,
    /// In an earlier file: the key was carried over.
    Earlier,
}

pub(crate) fn encode_record(number: u64, record: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    encode_entry(EntryKind::Record, number, record, out)
}

pub(crate) fn encode_key(number: u64, entry: &KeyEntry, place: Place, out: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = vec![u8::from(place == Place::Here)];
    bytes.extend_from_slice(&entry.time.to_le_bytes());
    bytes.extend_from_slice(&entry.fingerprint.to_le_bytes());
    bytes.extend_from_slice(&entry.n_records.to_le_bytes());
    bytes.extend_from_slice(entry.key.as_bytes());
    encode_entry(EntryKind::Key, number, &bytes, out)
}

pub(crate) fn decode_key(bytes: &[u8]) -> Option<(KeyEntry, Place)> {
    let (place, rest) = bytes.split_first()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (n_records, key) = rest.split_first_chunk()?;
    let entry = KeyEntry {
        key: std::str::from_utf8(key).ok()?.to_owned(),
        fingerprint: u128::from_le_bytes(*fingerprint),
        n_records: u32::from_le_bytes(*n_records),
        time: i64::from_le_bytes(*time),
    };
    Some((entry, if *place == 1 { Place::Here } else { Place::Earlier }))
}

fn encode_entry(kind: EntryKind, number: u64, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).ok().filter(|len| len & KEY == 0);
    let len = len.ok_or_else(|| io::Error::other("a record of more than 2 GiB"))?;
    let flag = if kind == EntryKind::Key { KEY } else { 0 };
    out.extend_from_slice(&(len | flag).to_le_bytes());
    out.extend_from_slice(&checksum(kind, number, bytes).to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Its number is in it, so that a record is not taken for another one, or a key for a record.
fn checksum(kind: EntryKind, number: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(if kind == EntryKind::Key { !number } else { number }, bytes)
}

/// Reads the records of a file.
pub(crate) struct SegmentReader {
    file: BufReader<Box<dyn ReadSeek>>,
    /// Where the file begins is to be looked at first.
    base: Option<u64>,
    /// The bytes of the last entry.
    pub(crate) entry: Vec<u8>,
    /// Where the next entry begins.
    pub(crate) offset: u64,
}

impl SegmentReader {
    /// Reads from the first record on.
    pub(crate) fn start(file: Box<dyn ReadSeek>, base: u64) -> Self {
        Self { file: BufReader::new(file), base: Some(base), entry: Vec::new(), offset: HEADER_BYTES as u64 }
    }

    /// Reads from where another reader has stopped.
    pub(crate) fn resume(mut file: Box<dyn ReadSeek>, offset: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file: BufReader::new(file), base: None, entry: Vec::new(), offset })
    }

    /// The next record, which has this number; `None` where no whole record is.
    pub(crate) fn next_record(&mut self, number: u64) -> io::Result<Option<&[u8]>> {
        loop {
            match self.next_entry(number)? {
                None => return Ok(None),
                Some(EntryKind::Record) => return Ok(Some(&self.entry)),
                Some(EntryKind::Key) => {}
            }
        }
    }

    /// What the next entry is, whose bytes are then in `entry`; `None` where no whole entry is. The next record has this number.
    pub(crate) fn next_entry(&mut self, number: u64) -> io::Result<Option<EntryKind>> {
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
        let (kind, len) =
            if len & KEY == 0 { (EntryKind::Record, len) } else { (EntryKind::Key, len & !KEY) };
        // What stands in a torn file may be any length, so memory is taken as bytes come.
        self.entry.clear();
        let n_read = self.file.by_ref().take(len.into()).read_to_end(&mut self.entry)?;
        if n_read != len as usize || checksum(kind, number, &self.entry) != u64::from_le_bytes(checked) {
            return Ok(None);
        }
        self.offset += RECORD_HEADER_BYTES as u64 + u64::from(len);
        Ok(Some(kind))
    }

    /// Whether there were so many bytes.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.file.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| true),
        }
    }
}
