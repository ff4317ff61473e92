//! What a table whose cold entries go to disk knows beyond its map: which entries were used and changed, what is on disk,
//! and how much memory all that may take.
//!
//! The map stays as it is for a table in memory. What is known of an entry is a byte in a vector beside it, at the number
//! of the entry's bucket, so buckets must not move behind its back: before an access [`KeyedTable::load`] makes sure that
//! the map can take one more key without growing.

use super::changes::Changes;
use super::{KeyedTable, changing, inserted};
use crate::codec::encode_into;
use crate::cold::{ColdStore, Record};
use crate::local::Space;
use flott_types::{Error, Key, Result, Timestamp, key_hash};
use hashbrown::hash_table::Entry;
use std::fmt;
use std::sync::Arc;

/// The entry was used since the hand of the clock came by.
pub(super) const USED: u8 = 1;
/// The disk does not have the value of the entry. Of a bucket without an entry too: the map takes a new key without telling.
pub(super) const CHANGED: u8 = 2;

/// The part of a table's share that is for its map: the rest is for filters, indices and buffers.
const MAP_PERCENT: u64 = 70;

/// The least number of entries that stay in memory, whatever the settings.
const ENTRIES_MIN: usize = 1;

/// The sort order of runs: that of key groups, for any number of key groups, since they come from bits 16 to 47.
pub(crate) fn order_of(hash: u64) -> u64 {
    hash.rotate_left(16)
}

pub(crate) fn hash_of(order: u64) -> u64 {
    order.rotate_right(16)
}

pub(super) type IsExpired = Box<dyn Fn(&[u8], Timestamp) -> Result<bool> + Send>;

/// The disk of a table.
pub(super) struct Spill {
    pub(super) space: Arc<Space>,
    pub(super) store: ColdStore,
    /// By bucket of the map.
    pub(super) flags: Vec<u8>,
    /// The bucket that the clock has reached.
    pub(super) hand: usize,
    /// Keys that are on disk and not in memory; a few more if values expire on disk.
    pub(super) n_cold: usize,
    /// Bytes of memory per bucket.
    bucket_bytes: usize,
    pub(super) owned: OwnedBytes,
    /// Whether the bytes of a value have expired, for one that was last used at `horizon`.
    pub(super) is_expired: Option<IsExpired>,
    pub(super) horizon: Timestamp,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// What went wrong where it could not be told.
    pub(super) failed: Option<Error>,
    /// The key that may be accessed.
    #[cfg(debug_assertions)]
    pub(super) loaded: Option<u64>,
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill")
            .field("store", &self.store)
            .field("n_cold", &self.n_cold)
            .finish_non_exhaustive()
    }
}

/// What entries own outside of the map, such as the bytes of strings: an average over samples.
#[derive(Debug, Default)]
pub(super) struct OwnedBytes {
    pub(super) average: f64,
    n_samples: u32,
    pub(super) countdown: u32,
    /// The next bucket to look at. Going around samples all entries alike, not only those that are used.
    pub(super) bucket: usize,
}

impl OwnedBytes {
    pub(super) fn add(&mut self, bytes: usize) {
        self.n_samples = (self.n_samples + 1).min(256);
        self.average += (bytes as f64 - self.average) / f64::from(self.n_samples);
    }
}

impl Spill {
    pub(super) fn new(space: &Arc<Space>, bucket_bytes: usize) -> Self {
        space.add_table();
        Self {
            space: Arc::clone(space),
            store: ColdStore::new(space, space.share_bytes()),
            flags: Vec::new(),
            hand: 0,
            n_cold: 0,
            bucket_bytes,
            owned: OwnedBytes::default(),
            is_expired: None,
            horizon: Timestamp::MIN,
            key: Vec::new(),
            value: Vec::new(),
            failed: None,
            #[cfg(debug_assertions)]
            loaded: None,
        }
    }

    /// Bytes for the map and what its entries own.
    pub(super) fn map_bytes_max(&self) -> usize {
        let share = self.space.share_bytes();
        let rest = share.saturating_sub(self.store.memory_bytes() as u64);
        (share * MAP_PERCENT / 100).min(rest) as usize
    }

    pub(super) fn map_bytes(&self, n_buckets: usize, n_entries: usize) -> usize {
        n_buckets * self.bucket_bytes + (n_entries as f64 * self.owned.average) as usize
    }

    /// How many entries the map may have at its size.
    pub(super) fn n_entries_max(&self, n_buckets: usize) -> usize {
        let map_bytes_max = self.map_bytes_max();
        let mut max = most_entries(n_buckets).min(map_bytes_max / self.bucket_bytes);
        if self.owned.average >= 1.0 {
            let for_owned = map_bytes_max.saturating_sub(n_buckets * self.bucket_bytes);
            max = max.min((for_owned as f64 / self.owned.average) as usize);
        }
        max.max(ENTRIES_MIN)
    }

    /// Writes the record of a key to the disk.
    pub(super) fn put(&mut self, order: u64, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let Self { store, is_expired, horizon, .. } = self;
        store.put(Record { order, key, value }, &mut |record| match (&is_expired, record.value) {
            (Some(is_expired), Some(value)) => is_expired(value, *horizon),
            _ => Ok(false),
        })
    }

    #[cfg(debug_assertions)]
    pub(super) fn may_access(&self, hash: u64) -> bool {
        self.loaded == Some(hash)
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.space.remove_table();
    }
}

/// A map that is fuller has few empty places: to remove an entry would leave marks that fill it up.
pub(super) fn most_entries(n_buckets: usize) -> usize {
    n_buckets / 4 * 3
}

impl<K: Key, V> KeyedTable<K, V> {
    /// Notes that a key was removed from the map, out of `bucket`.
    pub(super) fn bury(&mut self, hash: u64, key: &K, bucket: usize) {
        let Some(spill) = &mut self.spill else { return };
        if let Some(flags) = spill.flags.get_mut(bucket) {
            *flags = CHANGED;
        }
        let order = order_of(hash);
        let changes = self.watch.as_mut().and_then(|watch| watch.changes.as_mut());
        let is_cold = spill.store.may_contain(order);
        if spill.failed.is_some() || (!is_cold && changes.is_none()) {
            return;
        }
        let mut bytes = std::mem::take(&mut spill.key);
        bytes.clear();
        let mut written = encode_into("a key", key, &mut bytes);
        if is_cold {
            written = written.and_then(|()| spill.put(order, &bytes, None));
        }
        if let Some(changes) = changes {
            written = written.and_then(|()| changes.bury(&spill.space, order, &bytes));
        }
        spill.key = bytes;
        spill.failed = written.err();
    }

    /// Removes a key that [`KeyedTable::load_mut`] has made ready.
    pub(super) fn remove_spilled(&mut self, hash: u64, key: &K) -> Option<V> {
        let Self { table, watch, .. } = self;
        let entry = table.find_entry(hash, |(k, _)| k == key).ok()?;
        let bucket = entry.bucket_index();
        if let Some(watch) = watch {
            watch.save(bucket, entry.get());
        }
        let removed = entry.remove().0.1;
        self.bury(hash, key, bucket);
        Some(removed)
    }

    /// As `replace` of a table in memory.
    pub(super) fn replace_spilled(
        &mut self,
        hash: u64,
        key: &K,
        replace: impl FnOnce(Option<V>) -> Option<V>,
    ) {
        let mut removed_from = None;
        let Self { table, watch, .. } = self;
        match table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => {
                let bucket = entry.bucket_index();
                let entry = changing(watch, entry)
                    .replace_entry_with(|(key, value)| replace(Some(value)).map(|value| (key, value)));
                removed_from = matches!(entry, Entry::Vacant(_)).then_some(bucket);
            }
            Entry::Vacant(entry) => {
                if let Some(value) = replace(None) {
                    inserted(watch, entry.insert((key.clone(), value)));
                }
            }
        }
        if let Some(bucket) = removed_from {
            self.bury(hash, key, bucket);
        }
    }

    /// As `sweep` of a table in memory; a kept entry may have been changed.
    pub(super) fn sweep_spilled(&mut self, place: usize, keep: impl FnOnce(&mut V) -> bool) {
        let Self { table, spill: Some(spill), watch } = self else { return };
        let Ok(mut entry) = table.get_bucket_entry(place) else { return };
        if let Some(watch) = watch {
            watch.save(place, entry.get());
        }
        if keep(&mut entry.get_mut().1) {
            if let Some(flags) = spill.flags.get_mut(place) {
                *flags |= CHANGED;
            }
        } else {
            let (key, _) = entry.remove().0;
            self.bury(key_hash(&key), &key, place);
        }
    }

    /// The number of keys that are on disk only.
    pub(super) fn n_cold(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.n_cold)
    }

    /// Bytes of memory beside the map.
    pub(super) fn spill_bytes(&self) -> usize {
        let changes = self.watch.as_ref().and_then(|watch| watch.changes.as_ref());
        let changes = changes.map_or(0, Changes::memory_bytes);
        changes + self.spill.as_ref().map_or(0, |spill| spill.flags.capacity() + spill.store.memory_bytes())
    }

    /// The bytes of the table's files; 0 for a table in memory.
    pub fn disk_bytes(&self) -> u64 {
        self.spill.as_ref().map_or(0, |spill| spill.store.file_bytes())
    }

    /// Fails if something went wrong that could not be told yet.
    pub(super) fn check_spill(&self) -> Result<()> {
        match self.spill.as_ref().and_then(|spill| spill.failed.as_ref()) {
            Some(failed) => Err(Error::new(failed.kind(), failed.report())),
            None => Ok(()),
        }
    }

    /// Forgets what is on disk.
    pub(super) fn clear_cold(&mut self) {
        if let Some(spill) = &mut self.spill {
            spill.store.clear();
            spill.n_cold = 0;
            spill.flags.fill(CHANGED);
        }
    }
}
