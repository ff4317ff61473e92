//! The records of a vector.

use crate::source::{Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput};
use crate::split_source::{SplitReader, SplitSource};
use flott_types::{Data, RecordBatch, Result, SplitId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// Records behind one lock. Records need not be `Sync`, so readers lock what they clone from; chunks keep readers of
/// different ranges out of each other's way.
const CHUNK_RECORDS: usize = 4096;

type Chunk<T> = Mutex<RecordBatch<T>>;

/// The records of a vector, each read once. Reader `i` of `p` reads the `i`-th of `p` equal ranges, so only a source of
/// parallelism 1 keeps the order of the vector.
pub struct CollectionSource<T> {
    chunks: Arc<[Chunk<T>]>,
    n_records: u64,
}

impl<T> Clone for CollectionSource<T> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), n_records: self.n_records }
    }
}

impl<T> fmt::Debug for CollectionSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionSource").field("n_records", &self.n_records).finish_non_exhaustive()
    }
}

impl<T: Data> CollectionSource<T> {
    /// A source of `records`.
    pub fn new(records: impl IntoIterator<Item = T>) -> Self {
        Self::from_batch(RecordBatch::untimed(records.into_iter().collect()))
    }

    /// A source of records whose timestamps, in milliseconds since the epoch, are known.
    pub fn with_timestamps(records: impl IntoIterator<Item = (T, Timestamp)>) -> Self {
        let mut batch = RecordBatch::default();
        records.into_iter().for_each(|(record, timestamp)| batch.push(record, timestamp));
        Self::from_batch(batch)
    }

    /// A source of the records of `batch`.
    pub fn from_batch(batch: RecordBatch<T>) -> Self {
        let n_records = batch.len();
        let mut chunks = Vec::with_capacity(n_records.div_ceil(CHUNK_RECORDS));
        let mut records = batch.into_iter();
        for start in (0..n_records).step_by(CHUNK_RECORDS) {
            let mut chunk = RecordBatch::with_capacity(CHUNK_RECORDS.min(n_records - start));
            records
                .by_ref()
                .take(CHUNK_RECORDS)
                .for_each(|(record, timestamp)| chunk.push(record, timestamp));
            chunks.push(Mutex::new(chunk));
        }
        Self { chunks: chunks.into(), n_records: n_records as u64 }
    }
}

/// A range of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSplit {
    idx: u32,
    next: u64,
    end: u64,
}

impl SourceSplit for CollectionSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("collection-{}", self.idx))
    }
}

impl<T: Data> SplitSource for CollectionSource<T> {
    type Record = T;
    type Split = CollectionSplit;
    type Reader = CollectionReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<CollectionSplit>> {
        let n_splits = u64::from(parallelism).min(self.n_records);
        let bound = |idx: u64| (u128::from(self.n_records) * u128::from(idx) / u128::from(n_splits)) as u64;
        Ok((0..n_splits)
            .map(|idx| CollectionSplit { idx: idx as u32, next: bound(idx), end: bound(idx + 1) })
            .collect())
    }

    fn open(&self, split: CollectionSplit, _: &SourceReaderContext) -> Result<CollectionReader<T>> {
        // A program that was changed between snapshot and restore may have a shorter collection.
        let split = CollectionSplit { end: split.end.min(self.n_records), ..split };
        Ok(CollectionReader { chunks: Arc::clone(&self.chunks), split })
    }
}

/// Reads a range of a collection.
#[derive(Debug)]
pub struct CollectionReader<T> {
    chunks: Arc<[Chunk<T>]>,
    split: CollectionSplit,
}

fn lock<T>(chunk: &Chunk<T>) -> MutexGuard<'_, RecordBatch<T>> {
    // Only a panicking `Clone` poisons the lock, and it leaves the records as they were.
    chunk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Data> SplitReader for CollectionReader<T> {
    type Record = T;
    type Split = CollectionSplit;

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        let (next, end) = (self.split.next as usize, self.split.end as usize);
        if out.batch.is_empty() {
            out.position = Some(format!("record {next}"));
        }
        let stop = end.min(next.saturating_add(records_max.max(1)));
        let mut at = next;
        while at < stop
            && let Some(chunk) = self.chunks.get(at / CHUNK_RECORDS)
        {
            let from = at % CHUNK_RECORDS;
            let n = (CHUNK_RECORDS - from).min(stop - at);
            let chunk = lock(chunk);
            let records = chunk.records().iter().skip(from).take(n).cloned().collect();
            let timestamps = chunk.timestamps().iter().skip(from).take(n).copied().collect();
            drop(chunk);
            out.collect_batch(RecordBatch::from_columns(records, timestamps));
            at += n;
        }
        self.split.next = at as u64;
        Poll::Ready(Ok(if at >= end { InputStatus::EndOfInput } else { InputStatus::MoreAvailable }))
    }

    fn split(&self) -> CollectionSplit {
        self.split.clone()
    }
}
