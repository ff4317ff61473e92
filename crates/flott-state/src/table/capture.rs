//! A consistent snapshot of a table that goes on being used.
//!
//! At the barrier only a cursor and a bit for each bucket are made. Afterwards the buckets are swept in order, some at a
//! time, and copies of their entries sent to whoever writes them. Until the sweep has come by an entry, a change of it first
//! sends a copy; its bit says that it is not to be swept any more. The bit of a bucket that gets a new entry says so, too. So
//! every entry that the table had at the barrier is sent once, as it was then, and nothing else is.
//!
//! Buckets must not move meanwhile: a map that has to grow is swept to the end first.
//!
//! What a table has on disk does not change, and goes along as it is. The map has newer values of some of these keys; so the
//! writer sorts what the map had, on disk too, and merges both (`cold/spool.rs`).

use super::KeyedTable;
use crate::begun::{EncodeEntry, KeyedStreamSender, SnapshotProgress, TableSender};
use crate::codec::decode;
use crate::cold::ColdSnapshot;
use flott_env::canary;
use flott_types::{Data, Key, Result};
use std::fmt;
use std::sync::Arc;

/// Bytes of copied entries that may wait to be written: the next ones are copied when there are less. A table with a disk has
/// an eighth of its memory for them. What is about to change does not wait, so it may be more, but never more than the map.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Copies are sent when there are about this many bytes of them.
const PIECE_BYTES: usize = 128 << 10;

/// To copy an entry that owns memory costs about as much as to look at so many places of entries that do not.
const PLACES_PER_OWNING_ENTRY: usize = 8;

/// [`TableSender::send`] of the table's types.
type SendEntries<K, V> = fn(&TableSender, Vec<(K, V)>, &EncodeEntry<K, V>);

/// A snapshot of a table that is under way.
pub(super) struct Capture<K, V> {
    /// All buckets before it were swept.
    cursor: usize,
    n_buckets: usize,
    /// By bucket: its entry was sent already, or is newer than the barrier.
    is_settled: Vec<u64>,
    copies: Vec<(K, V)>,
    copies_max: usize,
    /// The values of a table can be copied where their type is known to be [`Data`].
    copy: fn(&(K, V)) -> (K, V),
    encode: EncodeEntry<K, V>,
    sender: TableSender,
    /// Bytes that may wait to be written before the sweep pauses.
    waiting_bytes_max: usize,
    send: SendEntries<K, V>,
}

impl<K, V> fmt::Debug for Capture<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl<K, V> Capture<K, V> {
    fn is_settled(&self, bucket: usize) -> bool {
        let word = self.is_settled.get(bucket / 64).copied().unwrap_or_default();
        bucket < self.cursor || word & (1 << (bucket % 64)) != 0
    }

    /// The entry in the bucket is not to be sent any more.
    pub(super) fn settle(&mut self, bucket: usize) {
        if let Some(word) = self.is_settled.get_mut(bucket / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    /// Sends a copy of what is in the bucket, unless that has happened or it is newer than the barrier.
    pub(super) fn save(&mut self, bucket: usize, entry: &(K, V)) {
        if self.is_settled(bucket) || canary("forget-what-changes-during-a-sweep") {
            return;
        }
        self.settle(bucket);
        let copy = (self.copy)(entry);
        self.push(copy);
    }

    fn push(&mut self, copy: (K, V)) {
        if self.copies.capacity() == 0 {
            self.copies.reserve_exact(self.copies_max);
        }
        self.copies.push(copy);
        if self.copies.len() >= self.copies_max {
            self.send_copies();
        }
    }

    fn send_copies(&mut self) {
        (self.send)(&self.sender, std::mem::take(&mut self.copies), &self.encode);
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// Begins to send what the table has now: [`KeyedTable::snapshot_step`] goes on with it, and meanwhile the table is used
    /// as always. `encode` serializes an entry into the bytes of its key group, or says no to one that is left out.
    ///
    /// # Errors
    /// If the disk of a table that has one cannot be read.
    pub fn begin_snapshot(
        &mut self,
        stream: &KeyedStreamSender,
        encode: impl Fn(&K, &V, &mut Vec<u8>) -> Result<bool> + Send + Sync + 'static,
    ) -> Result<()> {
        let encode: EncodeEntry<K, V> = Arc::new(encode);
        let encode_cold = Arc::clone(&encode);
        self.begin(stream, encode, move |key, value, bytes| {
            let key: K = decode("a key of state on disk", key)?;
            encode_cold(&key, &decode("a value of state on disk", value)?, bytes)
        })
    }

    /// As [`KeyedTable::begin_snapshot`], with entries as [`KeyedTable::snapshot`] writes them.
    ///
    /// # Errors
    /// As [`KeyedTable::begin_snapshot`].
    pub fn begin_snapshot_of_pairs(&mut self, stream: &KeyedStreamSender) -> Result<()> {
        self.begin(stream, Arc::new(stream.encode_pairs()), |key, value, bytes| {
            // An entry is a pair, and postcard writes a pair as one after the other.
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            Ok(true)
        })
    }

    fn begin(
        &mut self,
        stream: &KeyedStreamSender,
        encode: EncodeEntry<K, V>,
        encode_cold: impl Fn(&[u8], &[u8], &mut Vec<u8>) -> Result<bool> + Send + 'static,
    ) -> Result<()> {
        // One at a time: the caller has seen to it.
        self.finish_snapshot();
        self.check_spill()?;
        let sender = stream.begin();
        let mut waiting_bytes_max = WAITING_BYTES_MAX;
        if let Some((cold, share_bytes)) = self.cold_snapshot() {
            sender.send_cold(cold, Box::new(encode_cold));
            waiting_bytes_max = waiting_bytes_max.min(share_bytes / 8);
        }
        let n_buckets = self.table.num_buckets();
        if self.table.is_empty() {
            sender.end();
            return Ok(());
        }
        let fit = PIECE_BYTES / size_of::<(K, V)>().max(1);
        self.capture = Some(Box::new(Capture {
            cursor: 0,
            n_buckets,
            is_settled: vec![0; n_buckets.div_ceil(64)],
            copies: Vec::new(),
            copies_max: fit.clamp(64, 8192).min(self.table.len()),
            copy: Clone::clone,
            encode,
            sender,
            waiting_bytes_max,
            send: TableSender::send,
        }));
        Ok(())
    }
}
impl<K: Key, V> KeyedTable<K, V> {
    /// Whether a snapshot is under way.
    pub fn is_in_snapshot(&self) -> bool {
        self.capture.is_some()
    }

    /// Goes on with a snapshot that was begun, for the next `places` places of the table, of which about every second has
    /// an entry. With `usize::MAX` it is completed, whether or not the writer can follow.
    pub fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        match &self.capture {
            None => SnapshotProgress::Complete,
            Some(capture)
                if places < usize::MAX && capture.sender.waiting_bytes() > capture.waiting_bytes_max =>
            {
                SnapshotProgress::WriterBehind
            }
            Some(_) => self.sweep_for_snapshot(places),
        }
    }

    /// Sends what is left of a snapshot that was begun, also if the writer is behind.
    pub fn finish_snapshot(&mut self) {
        if self.capture.is_some() {
            self.sweep_for_snapshot(usize::MAX);
        }
    }

    fn sweep_for_snapshot(&mut self, places: usize) -> SnapshotProgress {
        let Self { table, capture, .. } = self;
        let Some(of_table) = capture else { return SnapshotProgress::Complete };
        assert_eq!(of_table.n_buckets, table.num_buckets(), "a map that is being swept does not grow");
        let extra = if std::mem::needs_drop::<(K, V)>() { PLACES_PER_OWNING_ENTRY - 1 } else { 0 };
        let mut left = places.max(1);
        while left > 0 && of_table.cursor < of_table.n_buckets {
            let bucket = of_table.cursor;
            left -= 1;
            if !of_table.is_settled(bucket)
                && let Some(entry) = table.get_bucket(bucket)
            {
                let copy = (of_table.copy)(entry);
                of_table.push(copy);
                left = left.saturating_sub(extra);
            }
            of_table.cursor = bucket + 1;
        }
        if of_table.cursor < of_table.n_buckets {
            return SnapshotProgress::Unfinished;
        }
        if !of_table.copies.is_empty() {
            of_table.send_copies();
        }
        of_table.sender.end();
        *capture = None;
        SnapshotProgress::Complete
    }

    /// Before the entry of a key, if it has one, is changed or removed, while a snapshot is under way.
    #[cold]
    #[inline(never)]
    pub(super) fn save(&mut self, hash: u64, key: &K) {
        if let Some(bucket) = self.table.find_bucket_index(hash, |(k, _)| k == key) {
            self.save_bucket(bucket);
        }
    }

    /// As [`KeyedTable::save`], before the entry of a key is looked for to be inserted if it is not there: the map makes
    /// room for it before it looks.
    #[cold]
    #[inline(never)]
    pub(super) fn save_or_make_room(&mut self, hash: u64, key: &K) {
        self.make_room_in_snapshot(1);
        self.save(hash, key);
    }

    /// What is on disk, and the memory that the table may take.
    fn cold_snapshot(&self) -> Option<(ColdSnapshot, usize)> {
        let spill = self.spill.as_ref()?;
        Some((spill.store.snapshot(), spill.space.share_bytes() as usize))
    }

    /// Before what is in a bucket, if anything, is changed or removed, while a snapshot is under way.
    pub(super) fn save_bucket(&mut self, bucket: usize) {
        let Self { table, capture, .. } = self;
        if let (Some(capture), Some(entry)) = (capture, table.get_bucket(bucket)) {
            capture.save(bucket, entry);
        }
    }

    /// Before keys are added: the map must not grow during a sweep.
    pub(super) fn make_room_in_snapshot(&mut self, additional: usize) {
        if self.table.capacity() - self.table.len() < additional {
            self.finish_snapshot();
        }
    }
}

#[cfg(test)]
mod tests;
