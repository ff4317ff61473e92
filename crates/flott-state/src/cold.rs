//! State that is not in memory: a log-structured store of bytes, of one thread.
//!
//! A [`ColdStore`] has records by key: writes go into a buffer, a full buffer becomes a run (an immutable sorted file),
//! runs are merged by and by while records are written. It is not a database: nothing survives the process, there is no
//! log and nothing is synced, since state comes back from checkpoints. It knows nothing of types; the table does.
//!
//! Invariants: runs are sorted from the newest to the oldest, and the first that has a key has its truth; a merge takes
//! neighbours. An error leaves the store as it was before the call, but for finished work.
//!
//! Reading order: `record`, `run`, `merge`, `policy`, then this file; `spool` is how it is read into checkpoints.

mod buffer;
mod filter;
mod merge;
mod policy;
mod record;
mod run;
mod spool;

pub(crate) use merge::{MergeCursor, Outdated};
pub(crate) use record::Record;
pub(crate) use spool::{ColdSnapshot, Spool};

use crate::local::Space;
use buffer::WriteBuffer;
use flott_types::Result;
use merge::Merge;
use policy::{RunInfo, pick};
use run::{Found, Run, RunWriter};
use std::sync::Arc;

/// Bytes of records in the buffer before they become a run. Sorting and writing them is the longest that one write takes.
const BUFFER_BYTES_MAX: u64 = 1 << 20;
const BUFFER_BYTES_MIN: u64 = 1 << 10;

/// Bytes that a merge reads of each run at a time.
const READ_BYTES_MAX: u64 = 64 << 10;
const READ_BYTES_MIN: u64 = 4 << 10;

/// Merges go on after this many writes ...
const WRITES_PER_STEP: usize = 16;

/// ... for this many records each per write. One would do for a merge to be finished before the next one of its tier is
/// due; what is done earlier makes lookups cheaper.
const RECORDS_PER_WRITE: usize = 2;

/// How many times as much as the buffer holds who reads a snapshot may have in memory: fewer runs to merge.
const SPOOL_BUFFERS: usize = 4;

/// Merges at a time; one per tier is enough.
const MERGES_MAX: usize = 8;

/// Records by key, on disk.
#[derive(Debug)]
pub(crate) struct ColdStore {
    space: Arc<Space>,
    buffer: WriteBuffer,
    /// The newest first.
    runs: Vec<Arc<Run>>,
    merges: Vec<Merge>,
    /// Where blocks are read to.
    block: Vec<u8>,
    n_writes: usize,
    buffer_bytes: usize,
    read_bytes: usize,
    filter_bytes_max: u64,
    /// What was removed is remembered for ever: somebody else has older records.
    keeps_tombstones: bool,
}

impl ColdStore {
    /// An empty store, which takes a part of `memory_bytes` for its buffers, filters and indices.
    pub(crate) fn new(space: &Arc<Space>, memory_bytes: u64) -> Self {
        Self {
            space: Arc::clone(space),
            buffer: WriteBuffer::default(),
            runs: Vec::new(),
            merges: Vec::new(),
            block: Vec::new(),
            n_writes: 0,
            buffer_bytes: (memory_bytes / 64).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX) as usize,
            read_bytes: (memory_bytes / 512).clamp(READ_BYTES_MIN, READ_BYTES_MAX) as usize,
            filter_bytes_max: memory_bytes / 10,
            keeps_tombstones: false,
        }
    }

    /// An empty store of what has changed in another one: it is only read as a whole, with what was removed.
    pub(crate) fn of_changes(space: &Arc<Space>, memory_bytes: u64) -> Self {
        Self { filter_bytes_max: 0, keeps_tombstones: true, ..Self::new(space, memory_bytes) }
    }

    /// Whether nothing was written, or everything was merged away.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.runs.is_empty()
    }

    /// The newest value of a key; `None` if it has none or was removed.
    pub(crate) fn get(&mut self, order: u64, key: &[u8]) -> Result<Option<&[u8]>> {
        if let Some(record) = self.buffer.get(order, key) {
            return Ok(record.value);
        }
        for run in self.runs.iter().filter(|run| run.may_contain(order)) {
            match run.get(order, key, &mut self.block)? {
                Found::Value(range) => return Ok(self.block.get(range)),
                Found::Tombstone => return Ok(None),
                Found::Nothing => {}
            }
        }
        Ok(None)
    }

    /// The keys of this order that have a record, each at least once; some may have been removed.
    pub(crate) fn keys_of_order(&mut self, order: u64) -> Result<Vec<Vec<u8>>> {
        let mut keys: Vec<_> = self.buffer.of_order(order).map(|record| record.key.to_vec()).collect();
        for run in self.runs.iter().filter(|run| run.may_contain(order)) {
            run.read_order(order, &mut self.block, |record, _| {
                keys.push(record.key.to_vec());
                true
            })?;
        }
        Ok(keys)
    }

    /// Whether a key of this order may have a record; false is sure.
    pub(crate) fn may_contain(&self, order: u64) -> bool {
        self.buffer.may_contain(order) || self.runs.iter().any(|run| run.may_contain(order))
    }

    /// Writes the value of a key, or that it was removed, and goes on with what is to be done at the disk. `outdated` says
    /// which values are not needed any more; it is asked of a key's oldest value only.
    pub(crate) fn put(&mut self, record: Record<'_>, outdated: &mut Outdated<'_>) -> Result<()> {
        self.buffer.put(record);
        if self.buffer.n_bytes() >= self.buffer_bytes {
            self.flush()?;
        }
        self.n_writes += 1;
        if self.n_writes.is_multiple_of(WRITES_PER_STEP) {
            self.go_on(WRITES_PER_STEP * RECORDS_PER_WRITE, outdated)?;
        }
        Ok(())
    }

    /// Makes a run of the buffer.
    fn flush(&mut self) -> Result<()> {
        let mut writer = RunWriter::new(&self.space, self.buffer.len() as u64, self.filter_bytes_max)?;
        for at in self.buffer.sorted() {
            writer.push(self.buffer.record(at))?;
        }
        if let Some(run) = writer.finish()? {
            self.runs.insert(0, Arc::new(run));
        }
        self.buffer.clear();
        self.start_merges()
    }

    fn start_merges(&mut self) -> Result<()> {
        while self.merges.len() < MERGES_MAX {
            let info = |run: &Arc<Run>| RunInfo {
                n_bytes: run.file_bytes(),
                is_busy: self.merges.iter().any(|merge| merge.has(run)),
            };
            let infos: Vec<_> = self.runs.iter().map(info).collect();
            let Some(range) = pick(&infos, self.buffer_bytes as u64) else { break };
            let is_oldest = range.end == self.runs.len() && !self.keeps_tombstones;
            let inputs = self.runs[range].to_vec();
            let n_records_max = inputs.iter().map(|run| run.n_records()).sum();
            let writer = RunWriter::new(&self.space, n_records_max, self.filter_bytes_max)?;
            self.merges.push(Merge::new(inputs, writer, is_oldest, self.read_bytes)?);
        }
        Ok(())
    }

    /// Merges about `n_records` of each merge.
    fn go_on(&mut self, n_records: usize, outdated: &mut Outdated<'_>) -> Result<()> {
        let mut idx = 0;
        while let Some(merge) = self.merges.get_mut(idx) {
            match merge.step(n_records, outdated) {
                Ok(false) => idx += 1,
                Ok(true) => self.finish_merge(idx)?,
                Err(error) => {
                    // Its inputs are still there.
                    self.merges.remove(idx);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn finish_merge(&mut self, idx: usize) -> Result<()> {
        let (inputs, output) = self.merges.remove(idx).finish()?;
        let first =
            self.runs.iter().position(|run| inputs.first().is_some_and(|input| Arc::ptr_eq(input, run)));
        let first = first.expect("the inputs of a merge are runs of the store");
        let range = first..first + inputs.len();
        let are_neighbours = self
            .runs
            .get(range.clone())
            .is_some_and(|runs| runs.iter().zip(&inputs).all(|(run, input)| Arc::ptr_eq(run, input)));
        assert!(are_neighbours, "the inputs of a merge are still neighbours");
        self.runs.splice(range, output.map(Arc::new));
        self.start_merges()
    }

    /// All keys with a record from `from` on, in order, tombstones too.
    pub(crate) fn scan(&self, from: u64) -> Result<MergeCursor<'_>> {
        let runs = MergeCursor::of_runs(&self.runs, from, self.read_bytes)?;
        Ok(runs.and_buffer(&self.buffer, from))
    }

    /// What the store has now, to be read on another thread while the store goes on.
    pub(crate) fn snapshot(&self) -> ColdSnapshot {
        ColdSnapshot {
            space: Arc::clone(&self.space),
            stores: vec![(self.buffer.clone(), self.runs.clone())],
            read_bytes: self.read_bytes,
            buffer_bytes: self.buffer_bytes * SPOOL_BUFFERS,
        }
    }

    /// Forgets everything; files that a scan still reads stay until it is dropped.
    pub(crate) fn clear(&mut self) {
        self.merges.clear();
        self.runs.clear();
        self.buffer.clear();
    }

    /// Bytes of memory, roughly: what merges hold is not counted to the byte.
    pub(crate) fn memory_bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.memory_bytes()).sum();
        let merges: usize = self.merges.iter().map(|merge| merge.memory_bytes(self.read_bytes)).sum();
        runs + merges + self.buffer.memory_bytes() + self.block.capacity()
    }

    /// Bytes of files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.file_bytes()).sum()
    }
}

#[cfg(test)]
mod tests;
