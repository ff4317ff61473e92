//! How records stand in files: what file connectors and formats agree on.
//!
//! A format knows bytes and records; a connector knows which files there are, who reads or writes them and when. A
//! format crate implements [`DecodeFormat`] and [`EncodeFormat`] and depends on no connector.

use crate::UserResult;
use crate::source::{InputStatus, SplitOutput};
use flott_env::FileSystem;
use flott_types::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part of a file, in bytes. A record belongs to the range in which it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte; `None` for the end of the file, wherever that is.
    pub end: Option<u64>,
}

impl ByteRange {
    /// The whole file.
    pub const WHOLE: Self = Self { start: 0, end: None };
}

/// Where the next record of a range stands. A format counts what it needs to find it again, and what a person needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPosition {
    /// Bytes of the file before it, after decompression; 0 in formats that count records.
    pub offset: u64,
    /// Records before it since the start of the range, those that could not be read included.
    pub records: u64,
    /// Lines before it since the start of the range; 0 in formats without lines.
    pub lines: u64,
}

/// A range of a file to decode, from its start or from a position on.
#[derive(Clone, Debug)]
pub struct DecodeInput {
    /// Where the file is.
    pub fs: Arc<dyn FileSystem>,
    /// Its name; error messages contain it.
    pub path: PathBuf,
    /// The part of it.
    pub range: ByteRange,
    /// What an earlier decoder of this range said from [`RecordDecoder::position`].
    pub position: Option<ReadPosition>,
}

/// Turns files into records of type `T`.
pub trait DecodeFormat<T>: Send + Sync + 'static {
    /// The ranges of a file of `len` bytes that can be read side by side, each of about `range_bytes`. They cover the
    /// file without overlap. By default a file is one range.
    ///
    /// # Errors
    /// If the file must be looked at and cannot be read.
    fn divide(&self, fs: &dyn FileSystem, path: &Path, len: u64, range_bytes: u64) -> Result<Vec<ByteRange>> {
        let _unused = (fs, path, len, range_bytes);
        Ok(vec![ByteRange::WHOLE])
    }

    /// Opens a range. No record has been read when this returns.
    ///
    /// # Errors
    /// If the file cannot be opened, is not of this format, or does not have the columns of `T`.
    fn open(&self, input: DecodeInput) -> Result<Box<dyn RecordDecoder<T>>>;
}

/// Decodes a range of a file, a batch at a time.
pub trait RecordDecoder<T>: Send {
    /// Decodes at most about `records_max` records into `out`; records that cannot be read go to
    /// [`SplitOutput::bad_record`], and the record after them is read properly.
    ///
    /// # Errors
    /// If the file cannot be read on: it is truncated or corrupt. Records before that place have been put out by
    /// earlier calls.
    fn decode(&mut self, records_max: usize, out: &mut SplitOutput<T>) -> Result<InputStatus>;

    /// Where the next record stands, exactly: a decoder opened there goes on with it.
    fn position(&self) -> ReadPosition;
}

/// What may be done to the bytes that an encoder makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// Records one after the other: the file may be compressed as a stream.
    Rows,
    /// An index at the end, compression inside: the file stays as it is.
    Bulk,
}

/// Turns records of type `T` into files.
pub trait EncodeFormat<T>: Send + Sync + 'static {
    /// The end of a file name, without the dot.
    fn extension(&self) -> &str;

    /// What may be done to the bytes.
    fn layout(&self) -> FileLayout;

    /// Starts a file.
    ///
    /// # Errors
    /// If records of this type cannot stand in such a file.
    fn start_file(&self) -> Result<Box<dyn RecordEncoder<T>>>;
}

/// Encodes the records of one file.
///
/// Legal calls: `(check? encode)* finish`; after an error of anything but `check` and, with [`FileLayout::Rows`], `encode` nothing more is called.
/// Each call appends to `out` what can be written by now, and the caller takes it from there.
pub trait RecordEncoder<T>: Send {
    /// Looks whether the record can stand in such a file, before it is encoded; asked only with [`FileLayout::Bulk`], where a record cannot be taken
    /// out again, and only if a bad record is not to fail the job.
    ///
    /// # Errors
    /// If it cannot. It is left out then, and another one comes.
    fn check(&mut self, record: &T) -> UserResult {
        let _unused = record;
        Ok(())
    }

    /// Encodes a record.
    ///
    /// # Errors
    /// If the record cannot stand in such a file. With [`FileLayout::Rows`] another one may come then: what was appended to `out` is taken away by
    /// the caller, and the encoder goes on as if there had been no such record.
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult;

    /// About how many bytes were encoded and are held back from `out`.
    fn buffered_bytes(&self) -> u64 {
        0
    }

    /// The first bytes of the file that are no record, such as the names of columns, and that every file of the same program begins with. Known
    /// after the first record; who concatenates files writes them once.
    fn header_bytes(&self) -> u64 {
        0
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`RecordEncoder::encode`].
    fn finish(&mut self, out: &mut Vec<u8>) -> UserResult;
}
