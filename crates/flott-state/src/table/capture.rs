//! A consistent snapshot of a table that goes on being used.
//!
//! At the barrier only a cursor and a bit for each bucket are made. Afterwards the buckets are swept in order, some at a
//! time, and copies of their entries sent to whoever writes them. Until the sweep has come by an entry, a change of it first
//! sends a copy; its bit says that it is not to be swept any more. The bit of a bucket that gets a new entry says so, too. So
//! every entry that the table had at the barrier is sent once, as it was then, and nothing else is.
//!
//! Buckets must not move meanwhile: a map that has to grow is swept to the end first.
//!
//! A snapshot of what has changed (`changes.rs`) is the same with other bits: what has not changed is not to be swept.
//!
//! What a table has on disk does not change, and goes along as it is. The map has newer values of some of these keys; so the
//! writer sorts what the map had, on disk too, and merges both (`cold/spool.rs`).

use super::KeyedTable;
use super::changes::Delta;
use crate::begun::{EncodeEntry, KeyedStreamSender, SnapshotProgress, TableSender};
use crate::codec::decode;
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
    /// as always. `encode` serializes what there is for a key into the bytes of its key group, and says how many entries that is: 0 leaves
    /// it out.
    ///
    /// # Errors
    /// If the disk of a table that has one cannot be read.
    pub fn begin_snapshot(
        &mut self,
        stream: &KeyedStreamSender,
        encode: impl Fn(&K, &V, &mut Vec<u8>) -> Result<u64> + Send + Sync + 'static,
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
            Ok(1)
        })
    }

    fn begin(
        &mut self,
        stream: &KeyedStreamSender,
        encode: EncodeEntry<K, V>,
        encode_cold: impl Fn(&[u8], &[u8], &mut Vec<u8>) -> Result<u64> + Send + 'static,
    ) -> Result<()> {
        // One at a time: the caller has seen to it.
        self.finish_snapshot();
        self.check_spill()?;
        let sender = stream.begin();
        let mut waiting_bytes_max = WAITING_BYTES_MAX;
        if let Some(spill) = &self.spill {
            waiting_bytes_max = waiting_bytes_max.min(spill.space.share_bytes() as usize / 8);
        }
        let n_buckets = self.table.num_buckets();
        let (cold, is_settled) = match self.turn_changes(stream) {
            None => {
                (self.spill.as_ref().map(|spill| spill.store.snapshot()), vec![0; n_buckets.div_ceil(64)])
            }
            Some(Delta { mut buckets, removed, cold }) => {
                stream.set_continues();
                removed.into_iter().for_each(|keys| sender.send_removed(keys));
                buckets.iter_mut().for_each(|word| *word = !*word);
                (cold, buckets)
            }
        };
        if let Some(cold) = cold {
            sender.send_cold(cold, Box::new(encode_cold));
        }
        if self.table.is_empty() {
            sender.end();
            return Ok(());
        }
        let fit = PIECE_BYTES / size_of::<(K, V)>().max(1);
        let copies_max = fit.clamp(64, 8192).min(self.table.len());
        self.watch_mut().capture = Some(Capture {
            cursor: 0,
            n_buckets,
            is_settled,
            copies: Vec::new(),
            copies_max,
            copy: Clone::clone,
            encode,
            sender,
            waiting_bytes_max,
            send: TableSender::send,
        });
        Ok(())
    }
}

impl<K: Key, V> KeyedTable<K, V> {
    /// Whether a snapshot is under way.
    pub fn is_in_snapshot(&self) -> bool {
        self.capture().is_some()
    }

    /// Goes on with a snapshot that was begun, for the next `places` places of the table, of which about every second has
    /// an entry. With `usize::MAX` it is completed, whether or not the writer can follow.
    pub fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        match self.capture() {
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
        if self.capture().is_some() {
            self.sweep_for_snapshot(usize::MAX);
        }
    }

    fn sweep_for_snapshot(&mut self, places: usize) -> SnapshotProgress {
        let Self { table, watch, .. } = self;
        let Some(of_table) = watch.as_mut().and_then(|watch| watch.capture.as_mut()) else {
            return SnapshotProgress::Complete;
        };
        assert_eq!(of_table.n_buckets, table.num_buckets(), "a map that is being swept does not grow");
        let extra = if std::mem::needs_drop::<(K, V)>() { PLACES_PER_OWNING_ENTRY - 1 } else { 0 };
        let mut left = places.max(1);
        while left > 0 && of_table.cursor < of_table.n_buckets {
            let bucket = of_table.cursor;
            left -= 1;
            if of_table.is_settled.get(bucket / 64) == Some(&u64::MAX) {
                of_table.cursor = (bucket / 64 + 1) * 64;
                continue;
            }
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
        self.watch_mut().capture = None;
        self.drop_idle_watch();
        SnapshotProgress::Complete
    }
}

#[cfg(test)]
pub(super) mod tests;
