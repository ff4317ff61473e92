//! What an exchange carries.

use crate::id::CheckpointId;
use crate::time::{NO_TIMESTAMP, Timestamp, Watermark};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A batch of records with their event timestamps, moved by ownership between operators.
///
/// Either no record has a timestamp and `timestamps` takes no memory, or every record has an entry
/// (which may be [`NO_TIMESTAMP`]). Results never depend on where one batch ends and the next begins.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordBatch<T> {
    records: Vec<T>,
    timestamps: Vec<Timestamp>,
}

impl<T> Default for RecordBatch<T> {
    fn default() -> Self {
        Self { records: Vec::new(), timestamps: Vec::new() }
    }
}

impl<T> RecordBatch<T> {
    /// An empty batch that holds `capacity` timed records without growing.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { records: Vec::with_capacity(capacity), timestamps: Vec::with_capacity(capacity) }
    }

    /// A batch of records without timestamps.
    pub fn untimed(records: Vec<T>) -> Self {
        Self { records, timestamps: Vec::new() }
    }

    /// A batch from parallel columns.
    ///
    /// # Panics
    /// If `timestamps` is neither empty nor as long as `records`.
    pub fn from_columns(records: Vec<T>, timestamps: Vec<Timestamp>) -> Self {
        assert!(
            timestamps.is_empty() || timestamps.len() == records.len(),
            "{} timestamps for {} records",
            timestamps.len(),
            records.len()
        );
        Self { records, timestamps }
    }

    /// Makes room for `additional` more records, with or without timestamps.
    pub fn reserve(&mut self, additional: usize, is_timed: bool) {
        self.records.reserve(additional);
        if is_timed {
            self.timestamps.reserve(additional);
        }
    }

    /// Appends a record; `timestamp` may be [`NO_TIMESTAMP`].
    #[inline]
    pub fn push(&mut self, record: T, timestamp: Timestamp) {
        if timestamp != NO_TIMESTAMP || !self.timestamps.is_empty() {
            if self.timestamps.len() < self.records.len() {
                self.timestamps.resize(self.records.len(), NO_TIMESTAMP);
            }
            self.timestamps.push(timestamp);
        }
        self.records.push(record);
    }

    /// Appends all of `other`, leaving it empty.
    pub fn append(&mut self, other: &mut Self) {
        if self.records.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        if !other.timestamps.is_empty() || !self.timestamps.is_empty() {
            self.timestamps.resize(self.records.len(), NO_TIMESTAMP);
            other.timestamps.resize(other.records.len(), NO_TIMESTAMP);
        }
        self.records.append(&mut other.records);
        self.timestamps.append(&mut other.timestamps);
    }

    /// Appends clones of the records of `other` at `indices`, with their timestamps.
    ///
    /// # Panics
    /// If an index is not below the number of records.
    pub fn extend_from(&mut self, other: &Self, indices: &[u32])
    where
        T: Clone,
    {
        if !other.timestamps.is_empty() || !self.timestamps.is_empty() {
            self.timestamps.resize(self.records.len(), NO_TIMESTAMP);
            if other.timestamps.is_empty() {
                self.timestamps.resize(self.records.len() + indices.len(), NO_TIMESTAMP);
            } else {
                self.timestamps.extend(indices.iter().map(|idx| other.timestamps[*idx as usize]));
            }
        }
        self.records.extend(indices.iter().map(|idx| other.records[*idx as usize].clone()));
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether records carry timestamps.
    pub fn is_timed(&self) -> bool {
        !self.timestamps.is_empty()
    }

    /// The records, in order.
    pub fn records(&self) -> &[T] {
        &self.records
    }

    /// The timestamps, in order; empty if the batch is untimed.
    pub fn timestamps(&self) -> &[Timestamp] {
        &self.timestamps
    }

    /// The timestamp of the record at `idx`, [`NO_TIMESTAMP`] if it has none.
    #[inline]
    pub fn timestamp(&self, idx: usize) -> Timestamp {
        self.timestamps.get(idx).copied().unwrap_or(NO_TIMESTAMP)
    }

    /// Forgets the records but keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.timestamps.clear();
    }

    /// Takes the content and leaves an empty batch without memory.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Takes the content with little more memory than it needs: if that is less than half of the memory it is moved out, and the memory stays.
    pub fn take_compact(&mut self) -> Self {
        if self.len() * 2 >= self.records.capacity() {
            return self.take();
        }
        Self { records: self.records.drain(..).collect(), timestamps: self.timestamps.drain(..).collect() }
    }

    /// The columns: records and timestamps (empty if untimed).
    pub fn into_columns(self) -> (Vec<T>, Vec<Timestamp>) {
        (self.records, self.timestamps)
    }

    /// Splits off the records from `at` on.
    pub fn split_off(&mut self, at: usize) -> Self {
        let timestamps = if self.timestamps.is_empty() { Vec::new() } else { self.timestamps.split_off(at) };
        Self { records: self.records.split_off(at), timestamps }
    }

    /// Cuts the batch before the records at `ends`, which ascend, and hands out the pieces in order: one more than there are
    /// cuts. Each record is moved once, however many cuts there are.
    pub fn cut(self, ends: impl IntoIterator<Item = usize>) -> impl Iterator<Item = Self> {
        let is_timed = self.is_timed();
        let (mut records, mut timestamps) = (self.records.into_iter(), self.timestamps.into_iter());
        let mut start = 0;
        ends.into_iter().map(Some).chain([None]).map(move |end| {
            let length = end.map_or(records.len(), |end| end.saturating_sub(start));
            start += length;
            let timestamps = if is_timed { timestamps.by_ref().take(length).collect() } else { Vec::new() };
            Self { records: records.by_ref().take(length).collect(), timestamps }
        })
    }

    /// Records with their timestamps.
    pub fn iter(&self) -> impl Iterator<Item = (&T, Timestamp)> {
        self.records.iter().enumerate().map(|(idx, record)| (record, self.timestamp(idx)))
    }
}

/// Moves the records of a batch out, each with its timestamp.
#[derive(Debug)]
pub struct RecordBatchIter<T> {
    records: std::vec::IntoIter<T>,
    timestamps: std::vec::IntoIter<Timestamp>,
}

impl<T> Iterator for RecordBatchIter<T> {
    type Item = (T, Timestamp);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        Some((record, self.timestamps.next().unwrap_or(NO_TIMESTAMP)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl<T> IntoIterator for RecordBatch<T> {
    type Item = (T, Timestamp);
    type IntoIter = RecordBatchIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        RecordBatchIter { records: self.records.into_iter(), timestamps: self.timestamps.into_iter() }
    }
}

/// Whether a channel takes part in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    /// Records may come; the channel's watermark counts.
    Active,
    /// No record is expected for now; the channel does not hold event time back.
    Idle,
}

/// What a checkpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CheckpointKind {
    /// For recovery: owned by the engine.
    Checkpoint,
    /// For the user, while the job goes on. Nothing is committed for it: the job does not restart from it.
    Savepoint,
    /// For the user; sources read nothing behind its barrier, and the job stops when it is complete, without an end of data.
    SavepointSuspend,
    /// For the user, after the end of data: windows have fired, and the job stops when it is complete.
    SavepointTerminate,
}

impl CheckpointKind {
    /// Whether the user owns it.
    pub const fn is_savepoint(self) -> bool {
        !matches!(self, Self::Checkpoint)
    }

    /// Whether the job stops when it is complete.
    pub const fn stops_job(self) -> bool {
        matches!(self, Self::SavepointSuspend | Self::SavepointTerminate)
    }

    /// Whether sinks commit when it is complete. Not for a savepoint of a job that goes on: after a failure the job restarts
    /// from the checkpoint before it, and would write again what was committed.
    pub const fn commits(self) -> bool {
        !matches!(self, Self::Savepoint)
    }
}

/// Whether a checkpoint consists of all state or of what has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Increment {
    /// It is whole, and no other goes on from it.
    #[default]
    None,
    /// It is whole, and later ones may go on from it.
    Base,
    /// Of state whose changes since the barrier of that checkpoint are known it has only these; later ones may go on from it, too.
    Since(CheckpointId),
}

/// Divides the records before a checkpoint from those after it, on each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointBarrier {
    /// The checkpoint.
    pub id: CheckpointId,
    /// When it was triggered, in milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// What it is for.
    pub kind: CheckpointKind,
    /// From which one it may go on.
    pub increment: Increment,
}

impl fmt::Display for CheckpointBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "B{}", self.id)
    }
}

/// What an exchange carries: records and, in band, what must keep its place among them.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamElement<T> {
    /// Records.
    Records(RecordBatch<T>),
    /// Event time has passed this point on the channel.
    Watermark(Watermark),
    /// The channel becomes idle or active.
    Status(StreamStatus),
    /// A checkpoint divides what came before from what follows.
    Barrier(CheckpointBarrier),
    /// No record follows: nothing overtakes it, and only barriers come behind it, while the job takes its last checkpoints.
    EndOfData,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_before_the_records_named_and_nothing_is_lost() {
        let check = |ends: &[usize], expected: &[&[i64]]| {
            let batch = RecordBatch::from_columns((0..5).collect(), (10..15).collect());
            let pieces: Vec<_> = batch.cut(ends.iter().copied()).map(RecordBatch::into_columns).collect();
            let records: Vec<_> = pieces.iter().map(|piece| piece.0.as_slice()).collect();
            assert_eq!(records, expected);
            assert!(
                pieces
                    .iter()
                    .flat_map(|(records, times)| records.iter().zip(times))
                    .all(|(r, t)| r + 10 == *t)
            );
            let untimed = RecordBatch::untimed((0..5).collect::<Vec<i64>>());
            let untimed: Vec<_> = untimed.cut(ends.iter().copied()).collect();
            assert!(untimed.iter().all(|piece| !piece.is_timed()));
            assert_eq!(untimed.iter().map(RecordBatch::len).sum::<usize>(), 5);
        };
        check(&[], &[&[0, 1, 2, 3, 4]]);
        check(&[1, 3], &[&[0], &[1, 2], &[3, 4]]);
        check(&[2, 2, 5], &[&[0, 1], &[], &[2, 3, 4], &[]]);
    }
}
