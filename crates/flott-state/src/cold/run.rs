//! A run: an immutable sorted file of records, with its index and its filter in memory.

use super::filter::Filter;
use super::record::{CHECKSUM_BYTES, Record, open_block, seal_block};
use crate::local::{LocalFile, Space};
use flott_env::{FileWrite, ReadSeek};
use flott_types::{Error, ErrorKind, Result};
use std::io::{self, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A block is sealed when it has this many bytes of records: what a read of one key fetches.
const BLOCK_BYTES: usize = 2 << 10;

/// Sealed blocks are written when there are this many bytes of them.
const WRITE_BYTES: usize = 64 << 10;

/// What a run has for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Where the value is in the block that was read.
    Value(Range<usize>),
    Tombstone,
    Nothing,
}

/// A finished run. The file goes with it.
pub(crate) struct Run {
    file: LocalFile,
    reader: Mutex<Box<dyn ReadSeek>>,
    index: BlockIndex,
    filter: Filter,
    n_records: u64,
}

/// Where the blocks of a file are. No two blocks have records of the same order.
#[derive(Debug, Default)]
struct BlockIndex {
    /// The order of the first record of each block.
    firsts: Vec<u64>,
    /// Where each block ends.
    ends: Vec<u64>,
    /// The order of the last record.
    last: u64,
}

impl BlockIndex {
    /// The block that has the records of `order`, if any has. Orders are hashes: the place can be guessed, and the guess is
    /// off by about the square root of the number of blocks. Where they are no hashes, doubling the step finds it too.
    fn block_of(&self, order: u64) -> Option<usize> {
        let first = *self.firsts.first().filter(|first| **first <= order && order <= self.last)?;
        let span = u128::from(self.last - first) + 1;
        let n_blocks = self.firsts.len();
        let guess = (u128::from(order - first) * n_blocks as u128 / span) as usize;
        let (mut start, mut end, mut step) = (guess, guess + 1, 4);
        while start > 0 && self.firsts[start] > order {
            start = start.saturating_sub(step);
            step *= 2;
        }
        step = 4;
        while end < n_blocks && self.firsts[end] <= order {
            end = (end + step).min(n_blocks);
            step *= 2;
        }
        Some(start + self.firsts[start..end].partition_point(|first| *first <= order) - 1)
    }

    fn start_of(&self, block: usize) -> u64 {
        block.checked_sub(1).map_or(0, |previous| self.ends[previous])
    }
}

impl Run {
    fn error(&self, attempt: &str, error: io::Error) -> Error {
        self.file.error(attempt, error)
    }

    fn corrupt(&self, offset: u64) -> Error {
        let path = self.file.path().display();
        let message = format!("state on disk is damaged: the block at offset {offset} of '{path}'");
        Error::new(ErrorKind::Corruption, message)
    }

    /// Whether the run may have a record of this order; false is sure.
    #[inline]
    pub(crate) fn may_contain(&self, order: u64) -> bool {
        self.filter.may_contain(order)
    }

    /// Number of records, tombstones too.
    pub(crate) fn n_records(&self) -> u64 {
        self.n_records
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.index.ends.last().copied().unwrap_or(0)
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.filter.memory_bytes()
            + (self.index.firsts.capacity() + self.index.ends.capacity()) * size_of::<u64>()
    }

    /// Looks a key up; `block` is where the block is read to.
    pub(crate) fn get(&self, order: u64, key: &[u8], block: &mut Vec<u8>) -> Result<Found> {
        let mut found = Found::Nothing;
        self.read_order(order, block, |record, end| {
            let is_it = record.key == key;
            if is_it {
                found = record.value.map_or(Found::Tombstone, |value| Found::Value(end - value.len()..end));
            }
            !is_it
        })?;
        Ok(found)
    }

    /// Calls `each` with the records of this order, and where in `block` each ends, as long as it wants more.
    pub(crate) fn read_order(
        &self,
        order: u64,
        block: &mut Vec<u8>,
        mut each: impl FnMut(Record<'_>, usize) -> bool,
    ) -> Result<()> {
        let Some(idx) = self.index.block_of(order) else { return Ok(()) };
        let (start, end) = (self.index.start_of(idx), self.index.ends[idx]);
        {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            self.read_range(reader.as_mut(), start..end, block)?;
        }
        let records = open_block(block).ok_or_else(|| self.corrupt(start))?;
        let mut rest = records;
        while !rest.is_empty() {
            let (record, after) = Record::read(rest).ok_or_else(|| self.corrupt(start))?;
            if record.order > order {
                break;
            }
            if record.order == order && !each(record, records.len() - after.len()) {
                break;
            }
            rest = after;
        }
        Ok(())
    }

    fn read_range(&self, reader: &mut dyn ReadSeek, range: Range<u64>, to: &mut Vec<u8>) -> Result<()> {
        let len = (range.end - range.start) as usize;
        to.resize(len, 0);
        let read = reader.seek(SeekFrom::Start(range.start)).and_then(|_| reader.read_exact(to));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt(range.start).with_source(error),
            _ => self.error("read", error),
        })
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.file.path();
        f.debug_struct("Run").field("path", &path).field("n_records", &self.n_records).finish_non_exhaustive()
    }
}

/// Writes a run, record by record in order. The file of one that is not finished is removed.
pub(crate) struct RunWriter {
    file: LocalFile,
    writer: Box<dyn FileWrite>,
    /// Sealed blocks and the open one, which begins at `open`.
    bytes: Vec<u8>,
    open: usize,
    /// Bytes of the file so far.
    written: u64,
    index: BlockIndex,
    filter: Filter,
    n_records: u64,
}

impl RunWriter {
    /// A run of at most so many records, whose filter takes about `filter_bytes_max` at most.
    pub(crate) fn new(space: &Arc<Space>, n_records_max: u64, filter_bytes_max: u64) -> Result<Self> {
        let (file, writer) = LocalFile::create(space)?;
        Ok(Self {
            file,
            writer,
            bytes: Vec::new(),
            open: 0,
            written: 0,
            index: BlockIndex::default(),
            filter: Filter::new(n_records_max, filter_bytes_max),
            n_records: 0,
        })
    }

    /// Appends a record, which must come after those before.
    pub(crate) fn push(&mut self, record: Record<'_>) -> Result<()> {
        debug_assert!(self.n_records == 0 || self.index.last <= record.order, "records come in order");
        let is_full = self.bytes.len() - self.open >= BLOCK_BYTES && record.order != self.index.last;
        if is_full {
            self.seal();
            if self.bytes.len() >= WRITE_BYTES {
                self.write()?;
            }
        }
        if self.bytes.len() == self.open {
            self.index.firsts.push(record.order);
        }
        record.write(&mut self.bytes);
        self.filter.insert(record.order);
        self.index.last = record.order;
        self.n_records += 1;
        Ok(())
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let index = (self.index.firsts.capacity() + self.index.ends.capacity()) * size_of::<u64>();
        self.filter.memory_bytes() + index + self.bytes.capacity()
    }

    fn seal(&mut self) {
        seal_block(&mut self.bytes, self.open);
        self.open = self.bytes.len();
        self.index.ends.push(self.written + self.open as u64);
    }

    fn write(&mut self) -> Result<()> {
        self.writer.write_all(&self.bytes).map_err(|error| self.file.error("write", error))?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        self.open = 0;
        Ok(())
    }

    /// Ends the run; `None` if it has no record.
    pub(crate) fn finish(mut self) -> Result<Option<Run>> {
        if self.n_records == 0 {
            return Ok(None);
        }
        self.seal();
        self.write()?;
        // Not synced: after a power failure the state comes from a checkpoint.
        self.writer.flush().map_err(|error| self.file.error("write", error))?;
        let Self { file, mut index, filter, n_records, .. } = self;
        index.firsts.shrink_to_fit();
        index.ends.shrink_to_fit();
        let reader = Mutex::new(file.open()?);
        Ok(Some(Run { file, reader, index, filter, n_records }))
    }
}

impl std::fmt::Debug for RunWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunWriter").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Reads a run from its start, some blocks at a time.
pub(crate) struct RunCursor {
    run: Arc<Run>,
    reader: Box<dyn ReadSeek>,
    /// Whole blocks.
    bytes: Vec<u8>,
    /// Where in the file `bytes` begins.
    bytes_at: u64,
    /// The blocks in `bytes` that were not opened yet, as indices of the run.
    blocks: Range<usize>,
    /// The records of the opened block that were not read yet.
    rest: Range<usize>,
    at: Option<Place>,
    read_bytes: usize,
}

/// Where the record at hand is in `bytes`.
#[derive(Clone, Debug)]
struct Place {
    order: u64,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl RunCursor {
    /// A cursor before the first block that may have records of `order` or above; it reads about `read_bytes` at a time.
    pub(crate) fn new(run: Arc<Run>, from: u64, read_bytes: usize) -> Result<Self> {
        let first = run.index.firsts.partition_point(|first| *first <= from).saturating_sub(1);
        let reader = run.file.open()?;
        let (blocks, rest) = (first..first, 0..0);
        Ok(Self { run, reader, bytes: Vec::new(), bytes_at: 0, blocks, rest, at: None, read_bytes })
    }

    /// Goes to the next record; false if there is none.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        while self.rest.is_empty() {
            if self.blocks.is_empty() && !self.read_blocks()? {
                self.at = None;
                return Ok(false);
            }
            self.open_next_block()?;
        }
        let records = &self.bytes[self.rest.clone()];
        let Some((record, after)) = Record::read(records) else {
            return Err(self.run.corrupt(self.bytes_at + self.rest.start as u64));
        };
        let next = self.rest.end - after.len();
        let value_start = next - record.value.map_or(0, <[u8]>::len);
        self.at = Some(Place {
            order: record.order,
            key: value_start - record.key.len()..value_start,
            value: record.value.map(|_| value_start..next),
        });
        self.rest.start = next;
        Ok(true)
    }

    fn read_blocks(&mut self) -> Result<bool> {
        let ends = &self.run.index.ends;
        let first = self.blocks.end;
        if first >= ends.len() {
            return Ok(false);
        }
        let start = self.run.index.start_of(first);
        let fit = ends[first..].partition_point(|end| end - start <= self.read_bytes as u64).max(1);
        self.blocks = first..first + fit;
        self.bytes_at = start;
        self.run.read_range(self.reader.as_mut(), start..ends[first + fit - 1], &mut self.bytes)?;
        Ok(true)
    }

    fn open_next_block(&mut self) -> Result<()> {
        let idx = self.blocks.start;
        let start = self.run.index.start_of(idx);
        let end = (self.run.index.ends[idx] - self.bytes_at) as usize;
        let block = (start - self.bytes_at) as usize..end;
        if open_block(&self.bytes[block.clone()]).is_none() {
            return Err(self.run.corrupt(start));
        }
        self.rest = block.start..block.end - CHECKSUM_BYTES;
        self.blocks.start += 1;
        Ok(())
    }

    /// The record at hand; none before the first and after the last.
    #[inline]
    pub(crate) fn current(&self) -> Option<Record<'_>> {
        let at = self.at.as_ref()?;
        let value = at.value.clone().map(|value| &self.bytes[value]);
        Some(Record { order: at.order, key: &self.bytes[at.key.clone()], value })
    }
}

impl std::fmt::Debug for RunCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunCursor").field("run", &self.run).field("at", &self.at).finish_non_exhaustive()
    }
}
