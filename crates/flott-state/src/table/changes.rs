//! What has changed in a table since the barriers of the last checkpoints, so that the next one need not have the rest.
//!
//! Between two barriers there is a bit for each bucket and a list of the keys that were removed. A table on disk writes changed entries that
//! leave memory, and removed keys, to a store of their own beside the first. A checkpoint that goes on from an earlier one has all that has come
//! since that one's barrier; of a key that several of these name, the newest counts. Which one it will be is not known at the barrier: the one
//! that is under way may fail. So a few intervals are kept.
//!
//! Entries that move to other buckets, when the map grows, take their bits along. If much is removed at once, all is forgotten, and the table
//! is written as a whole the next time.

use super::KeyedTable;
use crate::begun::KeyedStreamSender;
use crate::cold::{ColdSnapshot, ColdStore, Record};
use crate::local::Space;
use flott_env::canary;
use flott_types::{CheckpointId, Increment, Key, Result};
use std::fmt;
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

/// Checkpoints may fail in a row; after so many it is cheaper to begin anew.
const INTERVALS_MAX: usize = 4;

/// So many keys may be removed between two barriers, and half as many as there are buckets.
const REMOVED_MIN: usize = 1024;

/// Keys that were removed: a list that nobody changes any more once it is shared.
pub(super) type RemovedKeys<K> = Arc<Mutex<Vec<K>>>;

/// What has changed since the barriers of some checkpoints.
pub(super) struct Changes<K> {
    n_buckets: usize,
    /// The oldest first; the last goes on.
    intervals: Vec<Interval<K>>,
    /// Of the present interval.
    removed: Vec<K>,
}

/// From the barrier of one checkpoint to that of the next.
struct Interval<K> {
    since: CheckpointId,
    /// By bucket: its entry, if it has one, is new or was changed.
    buckets: Vec<u64>,
    /// Of a table in memory, once the interval is over.
    removed: RemovedKeys<K>,
    /// Of a table on disk: changed entries that have left memory, and removed keys.
    cold: Option<ColdStore>,
}

/// What a snapshot has that goes on from an earlier one.
pub(super) struct Delta<K> {
    /// A bit for each bucket whose entry is in it.
    pub(super) buckets: Vec<u64>,
    /// The oldest first; some may be there again.
    pub(super) removed: Vec<RemovedKeys<K>>,
    pub(super) cold: Option<ColdSnapshot>,
}

impl<K> fmt::Debug for Changes<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since: Vec<_> = self.intervals.iter().map(|interval| interval.since).collect();
        f.debug_struct("Changes").field("since", &since).finish_non_exhaustive()
    }
}

impl<K: Key> Changes<K> {
    fn new(n_buckets: usize) -> Self {
        Self { n_buckets, intervals: Vec::new(), removed: Vec::new() }
    }

    /// A bucket has a new or changed entry.
    #[inline]
    pub(super) fn mark(&mut self, bucket: usize) {
        if let Some(interval) = self.intervals.last_mut() {
            interval.set(bucket);
        }
    }

    /// A bucket has an entry that has not changed.
    pub(super) fn clear(&mut self, bucket: usize) {
        self.intervals.iter_mut().for_each(|interval| interval.clear(bucket));
    }

    /// A key was removed from a table in memory; false if these were too many.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        self.removed.push(key.clone());
        self.removed.len() <= REMOVED_MIN.max(self.n_buckets / 2)
    }

    /// Whether the entry in a bucket has changed in any of the intervals.
    pub(super) fn has(&self, bucket: usize) -> bool {
        self.intervals.iter().any(|interval| interval.has(bucket))
    }

    /// The entry in a bucket leaves memory.
    pub(super) fn evict(&mut self, space: &Arc<Space>, bucket: usize, record: Record<'_>) -> Result<()> {
        if canary("forget-changes-that-leave-memory") {
            return Ok(());
        }
        for interval in self.intervals.iter_mut().filter(|interval| interval.has(bucket)) {
            interval.clear(bucket);
            interval.put(space, record)?;
        }
        Ok(())
    }

    /// A key was removed from a table on disk.
    pub(super) fn bury(&mut self, space: &Arc<Space>, order: u64, key: &[u8]) -> Result<()> {
        match self.intervals.last_mut() {
            Some(interval) => interval.put(space, Record { order, key, value: None }),
            None => Ok(()),
        }
    }

    /// All entries are about to move to a map of so many buckets. Returns the bits as they were.
    pub(super) fn relocate(&mut self, n_buckets: usize) -> Vec<Vec<u64>> {
        self.n_buckets = n_buckets;
        let none = vec![0; n_buckets.div_ceil(64)];
        self.intervals
            .iter_mut()
            .map(|interval| std::mem::replace(&mut interval.buckets, none.clone()))
            .collect()
    }

    /// An entry has moved.
    pub(super) fn carry(&mut self, old: &[Vec<u64>], from: usize, to: usize) {
        for (interval, old) in self.intervals.iter_mut().zip(old) {
            if is_set(old, from) {
                interval.set(to);
            }
        }
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let cold = self.intervals.iter().filter_map(|interval| interval.cold.as_ref());
        let cold: usize = cold.map(ColdStore::memory_bytes).sum();
        cold + self.intervals.len() * self.n_buckets / 8
    }

    /// The barrier of a checkpoint that may go on from `base`: what has changed since that one's barrier, if it is known. A new interval
    /// begins.
    fn turn(&mut self, checkpoint: CheckpointId, base: Option<CheckpointId>) -> Option<Delta<K>> {
        if let Some(interval) = self.intervals.last_mut() {
            interval.removed = Arc::new(Mutex::new(take(&mut self.removed)));
        }
        self.intervals.retain(|interval| base.is_some_and(|base| base <= interval.since));
        let is_known = self.intervals.first().is_some_and(|interval| Some(interval.since) == base);
        let delta = is_known.then(|| self.delta());
        if delta.is_none() || self.intervals.len() >= INTERVALS_MAX {
            self.intervals.clear();
        }
        self.intervals.push(Interval {
            since: checkpoint,
            buckets: vec![0; self.n_buckets.div_ceil(64)],
            removed: Arc::default(),
            cold: None,
        });
        delta
    }

    fn delta(&self) -> Delta<K> {
        let mut buckets = vec![0; self.n_buckets.div_ceil(64)];
        for interval in &self.intervals {
            buckets.iter_mut().zip(&interval.buckets).for_each(|(all, word)| *all |= word);
        }
        let removed = self.intervals.iter().map(|interval| Arc::clone(&interval.removed));
        let is_some = |keys: &RemovedKeys<K>| {
            !keys.lock().unwrap_or_else(PoisonError::into_inner).is_empty() && !canary("forget-removed-keys")
        };
        let newest_first = self.intervals.iter().rev().filter_map(|interval| interval.cold.as_ref());
        let cold = newest_first.map(ColdStore::snapshot).reduce(ColdSnapshot::and_older);
        Delta { buckets, removed: removed.filter(is_some).collect(), cold }
    }
}

fn is_set(bits: &[u64], bucket: usize) -> bool {
    bits.get(bucket / 64).is_some_and(|word| word & (1 << (bucket % 64)) != 0)
}

impl<K> Interval<K> {
    fn has(&self, bucket: usize) -> bool {
        is_set(&self.buckets, bucket)
    }

    fn set(&mut self, bucket: usize) {
        if let Some(word) = self.buckets.get_mut(bucket / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    fn clear(&mut self, bucket: usize) {
        if let Some(word) = self.buckets.get_mut(bucket / 64) {
            *word &= !(1 << (bucket % 64));
        }
    }

    fn put(&mut self, space: &Arc<Space>, record: Record<'_>) -> Result<()> {
        let cold = self.cold.get_or_insert_with(|| ColdStore::of_changes(space, space.share_bytes()));
        cold.put(record, &mut |_| Ok(false))
    }
}

impl<K: Key, V> KeyedTable<K, V> {
    /// The barrier of the checkpoint that `stream` is for: what has changed since the one that it goes on from, if that is known. From now on
    /// changes are kept track of, if another may go on from this one.
    pub(super) fn turn_changes(&mut self, stream: &KeyedStreamSender) -> Option<Delta<K>> {
        let (checkpoint, base) = match stream.increment()? {
            (_, Increment::None) => return None,
            (checkpoint, Increment::Base) => (checkpoint, None),
            (checkpoint, Increment::Since(base)) => (checkpoint, Some(base)),
        };
        let n_buckets = self.table.num_buckets();
        let changes = self.watch_mut().changes.get_or_insert_with(|| Changes::new(n_buckets));
        assert_eq!(changes.n_buckets, n_buckets, "buckets do not move while changes are kept track of");
        changes.turn(checkpoint, base)
    }
}

#[cfg(test)]
mod tests;
