//! How entries of a table come into memory and leave it.
//!
//! An access first loads its key. If the map does not have it, an entry makes room (the first that the hand of a clock finds
//! unused since it last came by: second chance), and the disk is asked.

use super::KeyedTable;
use super::spill::{CHANGED, Spill, USED, hash_of, most_entries, order_of};
use crate::codec::{decode, encode_into};
use crate::cold::Record;
use crate::local::Space;
use flott_types::{Data, Key, Result, Timestamp, approximate_size, key_hash};
use hashbrown::HashTable;
use std::sync::Arc;

/// Entries that the hand passes because they were used, before it takes one nevertheless: an access waits for it.
const PASSED_MAX: usize = 4096;

/// Entries that one access evicts at most, if memory has become less.
const EVICTED_MAX: usize = 4;

/// Each so many accesses an entry is measured.
const ACCESSES_PER_SAMPLE: u32 = 16;

/// The least number of buckets of a map.
const BUCKETS_MIN: usize = 32;

/// What an access will do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Change,
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// An empty table that keeps its part of the memory of `space`.
    pub(crate) fn on_disk(space: &Arc<Space>) -> Self {
        let spill = Spill::new(space, size_of::<(K, V)>() + 2);
        Self { table: HashTable::new(), spill: Some(Box::new(spill)), watch: None }
    }

    /// Says which values need not be kept on disk: those for which `keep` says no, for what was last used at the horizon.
    pub(crate) fn expire_cold(&mut self, keep: fn(&mut V, Timestamp) -> bool) {
        if let Some(spill) = &mut self.spill {
            spill.is_expired = Some(Box::new(move |bytes, horizon| {
                let mut value: V = decode("a value of state on disk", bytes)?;
                Ok(!keep(&mut value, horizon))
            }));
        }
    }

    /// Tells the horizon of [`KeyedTable::expire_cold`].
    #[inline]
    pub(crate) fn set_horizon(&mut self, horizon: Timestamp) {
        if let Some(spill) = &mut self.spill {
            spill.horizon = horizon;
        }
    }

    /// Makes the entry of `key`, whose [`key_hash`] is `hash`, ready to be read, until another key is loaded.
    ///
    /// The methods that take a key cannot fail, so they only see what is in memory: on a table that has a disk this one
    /// comes before each of them, which debug builds check. On a table in memory it does nothing.
    ///
    /// # Errors
    /// If the disk cannot be read or written, or has other bytes than were written
    /// ([`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption)). If an entry that has to make room cannot be
    /// serialized.
    #[inline]
    pub fn load(&mut self, hash: u64, key: &K) -> Result<&mut Self> {
        if self.spill.is_some() {
            self.load_spilled(hash, key, Access::Read)?;
        }
        Ok(self)
    }

    /// As [`KeyedTable::load`], for an entry that will be changed, inserted or removed.
    ///
    /// # Errors
    /// As [`KeyedTable::load`].
    #[inline]
    pub fn load_mut(&mut self, hash: u64, key: &K) -> Result<&mut Self> {
        if self.spill.is_some() {
            self.load_spilled(hash, key, Access::Change)?;
        }
        Ok(self)
    }

    fn load_spilled(&mut self, hash: u64, key: &K, access: Access) -> Result<()> {
        let Some(spill) = &mut self.spill else { return Ok(()) };
        if let Some(failed) = spill.failed.take() {
            return Err(failed);
        }
        #[cfg(debug_assertions)]
        {
            spill.loaded = Some(hash);
        }
        let flags = if access == Access::Change { USED | CHANGED } else { USED };
        spill.owned.countdown = spill.owned.countdown.wrapping_sub(1);
        if size_of::<(K, V)>() > 0
            && std::mem::needs_drop::<(K, V)>()
            && spill.owned.countdown > ACCESSES_PER_SAMPLE
        {
            spill.owned.countdown = ACCESSES_PER_SAMPLE;
            self.sample();
            // Values grow without keys being added.
            self.make_room()?;
        }
        let Some(spill) = &mut self.spill else { return Ok(()) };
        if let Some(bucket) = self.table.find_bucket_index(hash, |(k, _)| k == key) {
            if let Some(known) = spill.flags.get_mut(bucket) {
                *known |= flags;
            }
        } else {
            self.make_room()?;
            self.promote(hash, key, flags)?;
        }
        self.make_room_for_one();
        Ok(())
    }

    /// Takes an entry back into memory if the disk has it.
    fn promote(&mut self, hash: u64, key: &K, flags: u8) -> Result<()> {
        let Some(spill) = &mut self.spill else { return Ok(()) };
        if spill.store.is_empty() {
            return Ok(());
        }
        spill.key.clear();
        encode_into("a key", key, &mut spill.key)?;
        if let Some(bytes) = spill.store.get(order_of(hash), &spill.key)? {
            let value: V = decode("a value of state on disk", bytes)?;
            let entry = self.table.insert_unique(hash, (key.clone(), value), |(k, _)| key_hash(k));
            if let Some(watch) = &mut self.watch {
                watch.promoted(entry.bucket_index());
            }
            if let Some(known) = spill.flags.get_mut(entry.bucket_index()) {
                *known = flags;
            }
            spill.n_cold = spill.n_cold.saturating_sub(1);
        }
        Ok(())
    }

    /// Makes the map able to take one more key without growing.
    fn make_room(&mut self) -> Result<()> {
        let Some(spill) = &mut self.spill else { return Ok(()) };
        let (n_buckets, n_entries) = (self.table.num_buckets(), self.table.len());
        if n_entries >= most_entries(n_buckets) {
            let n_grown = (n_buckets * 2).max(BUCKETS_MIN);
            let fits = spill.map_bytes(n_grown, n_entries) <= spill.map_bytes_max();
            let must = n_buckets < BUCKETS_MIN;
            // A map that is swept for a snapshot grows later; meanwhile entries make room.
            if must || (fits && self.capture().is_none()) {
                self.move_entries(n_grown / 8 * 7);
            }
        }
        let Some(spill) = &mut self.spill else { return Ok(()) };
        let n_entries_max = spill.n_entries_max(self.table.num_buckets());
        for _ in 0..EVICTED_MAX {
            if self.table.len() < n_entries_max {
                break;
            }
            self.evict()?;
        }
        self.make_room_for_one();
        if self.spill.as_ref().is_some_and(|spill| spill.flags.len() != self.table.num_buckets()) {
            self.forget_flags();
        }
        Ok(())
    }

    /// The places that removed entries have marked can only be had back by a new map of the same size. Also before a key is accessed that is there:
    /// the map makes room before it looks.
    fn make_room_for_one(&mut self) {
        if self.table.capacity() == self.table.len() {
            self.move_entries(self.table.num_buckets() / 8 * 7);
        }
    }

    /// Entries have moved: all count as changed.
    fn forget_flags(&mut self) {
        if let Some(spill) = &mut self.spill {
            spill.flags.clear();
            spill.flags.resize(self.table.num_buckets(), CHANGED);
        }
    }

    /// Puts the first entry on the way of the clock that was not used since it last came by out of memory.
    fn evict(&mut self) -> Result<()> {
        let Some(spill) = self.spill.as_deref_mut() else { return Ok(()) };
        if spill.flags.len() != self.table.num_buckets() {
            spill.flags.clear();
            spill.flags.resize(self.table.num_buckets(), CHANGED);
        }
        let mut n_passed = 0;
        for _ in 0..spill.flags.len() + PASSED_MAX {
            spill.hand = if spill.hand + 1 < spill.flags.len() { spill.hand + 1 } else { 0 };
            let (bucket, Ok(entry)) = (spill.hand, self.table.get_bucket_entry(spill.hand)) else { continue };
            let flags = spill.flags[bucket];
            if flags & USED != 0 && n_passed < PASSED_MAX {
                n_passed += 1;
                spill.flags[bucket] = flags & !USED;
                continue;
            }
            let mut changes = None;
            if let Some(watch) = &mut self.watch {
                watch.save(bucket, entry.get());
                changes = watch.changes.as_mut().filter(|changes| changes.has(bucket));
            }
            if flags & CHANGED != 0 || changes.is_some() {
                let (key, value) = entry.get();
                let (mut key_bytes, mut value_bytes) =
                    (std::mem::take(&mut spill.key), std::mem::take(&mut spill.value));
                key_bytes.clear();
                value_bytes.clear();
                encode_into("a key", key, &mut key_bytes)?;
                encode_into("a value of state", value, &mut value_bytes)?;
                let (order, value) = (order_of(key_hash(key)), Some(value_bytes.as_slice()));
                if flags & CHANGED != 0 {
                    spill.put(order, &key_bytes, value)?;
                }
                if let Some(changes) = changes {
                    changes.evict(&spill.space, bucket, Record { order, key: &key_bytes, value })?;
                }
                (spill.key, spill.value) = (key_bytes, value_bytes);
            }
            entry.remove();
            spill.flags[bucket] = CHANGED;
            spill.n_cold += 1;
            return Ok(());
        }
        Ok(())
    }

    /// Measures what the next entry owns.
    #[cold]
    fn sample(&mut self) {
        let Some(spill) = &mut self.spill else { return };
        let n_buckets = self.table.num_buckets();
        for _ in 0..n_buckets.min(64) {
            spill.owned.bucket = if spill.owned.bucket + 1 < n_buckets { spill.owned.bucket + 1 } else { 0 };
            if let Some(entry) = self.table.get_bucket(spill.owned.bucket) {
                let owned = approximate_size(entry).saturating_sub(size_of::<(K, V)>());
                // Allocators round up, and vectors have room for more.
                spill.owned.add(owned + owned / 4);
                return;
            }
        }
    }

    /// Calls `each` with the hash and the bytes of keys and values that are on disk and not in memory, by key group.
    ///
    /// # Errors
    /// If the disk cannot be read, or something went wrong before.
    pub(crate) fn for_each_cold(&self, mut each: impl FnMut(u64, &[u8], &[u8]) -> Result<()>) -> Result<()> {
        self.check_spill()?;
        let Some(spill) = self.spill.as_ref().filter(|spill| !spill.store.is_empty()) else { return Ok(()) };
        let mut records = spill.store.scan(0)?;
        while let Some(record) = records.current() {
            if let Some(value) = record.value {
                let (hash, key) = (hash_of(record.order), decode::<K>("a key of state on disk", record.key)?);
                if self.table.find(hash, |(k, _)| *k == key).is_none() {
                    each(hash, record.key, value)?;
                }
            }
            records.advance()?;
        }
        Ok(())
    }
}
