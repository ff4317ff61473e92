//! A hash map of the user's types, addressed by the stable hash that also places keys in key groups; what is not used may
//! be on disk.

/// In debug builds, that the key was loaded.
macro_rules! assert_loaded {
    ($table:ident, $hash:ident) => {
        #[cfg(debug_assertions)]
        assert!(
            $table.spill.as_ref().is_none_or(|spill| spill.may_access($hash)),
            "a key of a table on disk is loaded before it is accessed"
        );
    };
}

/// Before an entry is looked for that is made if it is not there: the map makes room for it before it looks.
macro_rules! make_room {
    ($table:ident) => {
        if $table.watch.is_some() {
            $table.make_room_in_watch(1);
        }
    };
}

mod capture;
mod changes;
mod load;
mod slot;
mod spill;
mod watch;

use crate::codec::{decode, encode_into};
use crate::schemas::EntryReader;
use crate::snapshot::{KeyGroupBytes, SectionKind, groups_in_memory};
use flott_types::{Data, Error, ErrorKind, Key, KeyGroup, Result, key_group, key_hash};
use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};
pub use slot::{FoundSlot, Slot, VacantSlot};
use spill::Spill;
pub(crate) use spill::{hash_of, order_of};
use std::collections::BTreeMap;
use watch::Watch;

/// Values by key. Callers pass the key's hash, which they have already computed to route the record.
///
/// A table is in memory, or ([`LocalState::table`](crate::LocalState::table)) keeps what is used in memory and the rest on
/// disk. Code that is to work with both calls [`KeyedTable::load`] or [`KeyedTable::load_mut`] before it accesses a key;
/// that is also where the disk's errors come out. On disk nothing outlives the table.
#[derive(Debug)]
pub struct KeyedTable<K, V> {
    table: HashTable<(K, V)>,
    /// The disk of a table that has one.
    spill: Option<Box<Spill>>,
    /// Who wants to know what changes.
    watch: Option<Box<Watch<K, V>>>,
}

impl<K, V> Default for KeyedTable<K, V> {
    fn default() -> Self {
        Self { table: HashTable::new(), spill: None, watch: None }
    }
}

impl<K: Key, V> KeyedTable<K, V> {
    /// The value of `key`, whose [`key_hash`] is `hash`.
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        assert_loaded!(self, hash);
        self.table.find(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of `key` to change.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        assert_loaded!(self, hash);
        let Self { table, watch, .. } = self;
        let Some(watch) = watch else {
            return table.find_mut(hash, |(k, _)| k == key).map(|(_, value)| value);
        };
        let bucket = table.find_bucket_index(hash, |(k, _)| k == key)?;
        let entry = table.get_bucket_mut(bucket)?;
        watch.before_change(bucket, entry);
        Some(&mut entry.1)
    }

    /// The value of `key`, made by `default` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: &K, default: impl FnOnce() -> V) -> &mut V {
        assert_loaded!(self, hash);
        make_room!(self);
        let Self { table, watch, .. } = self;
        match table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => &mut changing(watch, entry).into_mut().1,
            Entry::Vacant(entry) => &mut inserted(watch, entry.insert((key.clone(), default()))).into_mut().1,
        }
    }

    /// Changes the value of `key` by `update`; a new value is changed before it is put in its place, so that a place that
    /// is not in the cache is only written.
    #[inline]
    pub fn upsert(&mut self, hash: u64, key: &K, make: impl FnOnce() -> V, update: impl FnOnce(&mut V)) {
        assert_loaded!(self, hash);
        make_room!(self);
        let Self { table, watch, .. } = self;
        match table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => update(&mut changing(watch, entry).into_mut().1),
            Entry::Vacant(entry) => {
                let mut value = make();
                update(&mut value);
                inserted(watch, entry.insert((key.clone(), value)));
            }
        }
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, hash: u64, key: &K, value: V) {
        assert_loaded!(self, hash);
        make_room!(self);
        let Self { table, watch, .. } = self;
        match table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => changing(watch, entry).get_mut().1 = value,
            Entry::Vacant(entry) => drop(inserted(watch, entry.insert((key.clone(), value)))),
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        assert_loaded!(self, hash);
        if self.spill.is_some() {
            return self.remove_spilled(hash, key);
        }
        let Self { table, watch, .. } = self;
        let entry = table.find_entry(hash, |(k, _)| k == key).ok()?;
        Some(removing(watch, entry).remove().0.1)
    }

    /// Number of keys, on disk too. If values expire there, it may be some more than can be found.
    pub fn len(&self) -> usize {
        self.table.len() + self.n_cold()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `additional` more keys. A table on disk decides itself.
    pub fn reserve(&mut self, additional: usize) {
        if self.spill.is_none() {
            self.make_room_in_watch(additional);
            self.table.reserve(additional, |(k, _)| key_hash(k));
        }
    }

    /// The bytes of memory that the table takes, without what keys and values own elsewhere.
    pub fn memory_bytes(&self) -> usize {
        self.table.num_buckets() * (size_of::<(K, V)>() + 1) + self.spill_bytes()
    }

    /// The table if neither a disk nor a snapshot wants to know of changes.
    #[inline]
    pub fn plain(&mut self) -> Option<PlainTable<'_, K, V>> {
        let is_plain = self.spill.is_none() && self.watch.is_none();
        is_plain.then_some(PlainTable(&mut self.table))
    }

    /// Whether entries may be on disk.
    pub fn has_disk(&self) -> bool {
        self.spill.is_some()
    }

    /// The methods that go through all keys and cannot fail are for tables in memory.
    fn assert_in_memory(&self) {
        assert!(self.spill.is_none(), "a table on disk is gone through with for_each or drain_each");
    }

    /// Keys and values, in an order that repeats when the same keys were inserted in the same order.
    ///
    /// # Panics
    /// If the table may be on disk: use [`KeyedTable::for_each`].
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.assert_in_memory();
        self.table.iter().map(|(key, value)| (key, value))
    }

    /// Removes all keys and returns them with their values; the memory is kept.
    ///
    /// # Panics
    /// If the table may be on disk: use [`KeyedTable::drain_each`].
    pub fn drain(&mut self) -> impl Iterator<Item = (K, V)> + '_ {
        self.assert_in_memory();
        self.end_watch();
        self.table.drain()
    }

    /// Keeps the keys for which `keep` says so.
    ///
    /// # Panics
    /// If the table may be on disk.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.assert_in_memory();
        self.end_watch();
        self.table.retain(|(key, value)| keep(key, value));
    }

    /// Puts what `replace` makes of the value of `key` in its place; `None` stands for no value.
    pub(crate) fn replace(&mut self, hash: u64, key: &K, replace: impl FnOnce(Option<V>) -> Option<V>) {
        assert_loaded!(self, hash);
        make_room!(self);
        if self.spill.is_some() {
            return self.replace_spilled(hash, key, replace);
        }
        let Self { table, watch, .. } = self;
        match table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => {
                let entry = changing(watch, entry)
                    .replace_entry_with(|(key, value)| replace(Some(value)).map(|value| (key, value)));
                if let (Entry::Vacant(_), Some(watch)) = (entry, watch) {
                    watch.removed(key);
                }
            }
            Entry::Vacant(entry) => {
                if let Some(value) = replace(None) {
                    inserted(watch, entry.insert((key.clone(), value)));
                }
            }
        }
    }

    /// Looks at the place `cursor` of the table and removes what is there if `keep` does not want it; returns the
    /// place to go on with. What `keep` changes of a value that stays is not in snapshots that consist of changes: it is for what may as well
    /// come back.
    pub(crate) fn sweep(&mut self, cursor: usize, keep: impl FnOnce(&mut V) -> bool) -> usize {
        let n_places = self.table.num_buckets();
        if n_places == 0 {
            return 0;
        }
        let place = cursor % n_places;
        if self.spill.is_some() {
            self.sweep_spilled(place, keep);
            return place + 1;
        }
        let Self { table, watch, .. } = self;
        if let Ok(mut entry) = table.get_bucket_entry(place) {
            if let Some(watch) = watch {
                watch.save(place, entry.get());
            }
            if !keep(&mut entry.get_mut().1) {
                removing(watch, entry).remove();
            }
        }
        place + 1
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// Writes every entry into the bytes of its key group.
    ///
    /// # Errors
    /// If a key or a value cannot be serialized, where `what` names the state, or if the disk cannot be read.
    pub fn snapshot(&self, what: &str, max_parallelism: u32) -> Result<KeyGroupBytes> {
        let mut groups = BTreeMap::<KeyGroup, Vec<u8>>::new();
        for entry in &self.table {
            let group = key_group(key_hash(&entry.0), max_parallelism);
            encode_into(what, entry, groups.entry(group).or_default())?;
        }
        self.for_each_cold(|hash, key, value| {
            // An entry is a pair, and postcard writes a pair as one after the other.
            let bytes = groups.entry(key_group(hash, max_parallelism)).or_default();
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            Ok(())
        })?;
        Ok(groups_in_memory(groups))
    }

    /// Calls `each` with all keys and values: those in memory, then those on disk.
    ///
    /// # Errors
    /// If `each` fails or the disk cannot be read.
    pub fn for_each(&self, mut each: impl FnMut(&K, &V) -> Result<()>) -> Result<()> {
        self.table.iter().try_for_each(|(key, value)| each(key, value))?;
        self.for_each_cold(|_, key, value| {
            each(&decode("a key of state on disk", key)?, &decode("a value of state on disk", value)?)
        })
    }

    /// Removes all keys and calls `each` with them and their values; the memory is kept.
    ///
    /// # Errors
    /// If `each` fails or the disk cannot be read; the table is of no use then.
    pub fn drain_each(&mut self, mut each: impl FnMut(K, V) -> Result<()>) -> Result<()> {
        self.end_watch();
        self.for_each_cold(|_, key, value| {
            each(decode("a key of state on disk", key)?, decode("a value of state on disk", value)?)
        })?;
        self.clear_cold();
        self.table.drain().try_for_each(|(key, value)| each(key, value))
    }

    /// Adds the entries that [`KeyedTable::snapshot`] wrote at the same `max_parallelism`, read by `reader`.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if the bytes are not such entries, or a key is not of the key group in which it is
    /// found. If the disk cannot be written.
    pub fn restore(
        &mut self,
        what: &str,
        max_parallelism: u32,
        groups: &KeyGroupBytes,
        reader: &EntryReader,
    ) -> Result<()> {
        groups.iter().try_for_each(|(group, bytes)| {
            bytes.for_each_change(|kind, section| {
                if kind == SectionKind::Removed {
                    return self.restore_removed(what, max_parallelism, *group, section);
                }
                reader.read_entries(what, *group, section, |(key, value): (K, V)| {
                    let hash = checked_hash(what, &key, *group, max_parallelism)?;
                    self.load_mut(hash, &key)?.insert(hash, &key, value);
                    Ok(())
                })
            })
        })
    }

    /// Removes the keys in `section`.
    ///
    /// # Errors
    /// As [`KeyedTable::restore`].
    pub(crate) fn restore_removed(
        &mut self,
        what: &str,
        max_parallelism: u32,
        group: KeyGroup,
        section: &[u8],
    ) -> Result<()> {
        EntryReader::default().read_entries(what, group, section, |key: K| {
            let hash = checked_hash(what, &key, group, max_parallelism)?;
            self.load_mut(hash, &key)?.remove(hash, &key);
            Ok(())
        })
    }
}

/// A table without disk that nobody watches: what a loop over many records asks for once.
#[derive(Debug)]
pub struct PlainTable<'a, K, V>(&'a mut HashTable<(K, V)>);

impl<K: Key, V> PlainTable<'_, K, V> {
    /// As [`KeyedTable::upsert`].
    #[inline]
    pub fn upsert(&mut self, hash: u64, key: &K, make: impl FnOnce() -> V, update: impl FnOnce(&mut V)) {
        match self.0.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => update(&mut entry.into_mut().1),
            Entry::Vacant(entry) => {
                let mut value = make();
                update(&mut value);
                entry.insert((key.clone(), value));
            }
        }
    }
}

/// Before an entry is changed.
#[inline]
fn changing<'a, K: Key, V>(
    watch: &mut Option<Box<Watch<K, V>>>,
    entry: OccupiedEntry<'a, (K, V)>,
) -> OccupiedEntry<'a, (K, V)> {
    if let Some(watch) = watch {
        watch.before_change(entry.bucket_index(), entry.get());
    }
    entry
}

/// Before an entry is removed.
#[inline]
fn removing<'a, K: Key, V>(
    watch: &mut Option<Box<Watch<K, V>>>,
    entry: OccupiedEntry<'a, (K, V)>,
) -> OccupiedEntry<'a, (K, V)> {
    if let Some(watch) = watch {
        watch.save(entry.bucket_index(), entry.get());
        watch.removed(&entry.get().0);
    }
    entry
}

/// A new entry.
#[inline]
fn inserted<'a, K: Key, V>(
    watch: &mut Option<Box<Watch<K, V>>>,
    entry: OccupiedEntry<'a, (K, V)>,
) -> OccupiedEntry<'a, (K, V)> {
    if let Some(watch) = watch {
        watch.inserted(entry.bucket_index());
    }
    entry
}

/// The hash of a restored key, which must lead to the key group in which the key was found.
pub(crate) fn checked_hash<K: Key>(
    what: &str,
    key: &K,
    group: KeyGroup,
    max_parallelism: u32,
) -> Result<u64> {
    let hash = key_hash(key);
    let expected = key_group(hash, max_parallelism);
    if expected == group {
        return Ok(hash);
    }
    let message = format!("a key of {what} was found in key group {group}, it belongs to {expected}");
    Err(Error::new(ErrorKind::Corruption, message))
}

#[cfg(test)]
mod tests;
