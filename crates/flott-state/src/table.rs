//! A hash map of the user's types, addressed by the stable hash that also places keys in key groups.

use crate::codec::{decode_prefix, encode_into};
use crate::snapshot::KeyGroupBytes;
use flott_types::{Data, Error, ErrorKind, Key, KeyGroup, Result, key_group, key_hash};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::de::DeserializeOwned;

/// Values by key. Callers pass the key's hash, which they have already computed to route the record.
#[derive(Clone, Debug)]
pub struct KeyedTable<K, V> {
    table: HashTable<(K, V)>,
}

impl<K, V> Default for KeyedTable<K, V> {
    fn default() -> Self {
        Self { table: HashTable::new() }
    }
}

impl<K: Key, V> KeyedTable<K, V> {
    /// The value of `key`, whose [`key_hash`] is `hash`.
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        self.table.find(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of `key` to change.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        self.table.find_mut(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of `key`, made by `default` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: &K, default: impl FnOnce() -> V) -> &mut V {
        match self.table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => &mut entry.into_mut().1,
            Entry::Vacant(entry) => &mut entry.insert((key.clone(), default())).into_mut().1,
        }
    }

    /// Changes the value of `key` by `update`; a new value is changed before it is put in its place, so that a place that
    /// is not in the cache is only written.
    #[inline]
    pub fn upsert(&mut self, hash: u64, key: &K, make: impl FnOnce() -> V, update: impl FnOnce(&mut V)) {
        match self.table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => update(&mut entry.into_mut().1),
            Entry::Vacant(entry) => {
                let mut value = make();
                update(&mut value);
                entry.insert((key.clone(), value));
            }
        }
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, hash: u64, key: &K, value: V) {
        match self.table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(mut entry) => entry.get_mut().1 = value,
            Entry::Vacant(entry) => drop(entry.insert((key.clone(), value))),
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        self.table.find_entry(hash, |(k, _)| k == key).ok().map(|entry| entry.remove().0.1)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Makes room for `additional` more keys.
    pub fn reserve(&mut self, additional: usize) {
        self.table.reserve(additional, |(k, _)| key_hash(k));
    }

    /// The bytes that the table takes, without what keys and values own elsewhere.
    pub fn memory_bytes(&self) -> usize {
        self.table.num_buckets() * (size_of::<(K, V)>() + 1)
    }

    /// Keys and values, in an order that repeats when the same keys were inserted in the same order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter().map(|(key, value)| (key, value))
    }

    /// Removes all keys and returns them with their values; the memory is kept.
    pub fn drain(&mut self) -> impl Iterator<Item = (K, V)> + '_ {
        self.table.drain()
    }

    /// Keeps the keys for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.table.retain(|(key, value)| keep(key, value));
    }

    /// Puts what `replace` makes of the value of `key` in its place; `None` stands for no value.
    pub(crate) fn replace(&mut self, hash: u64, key: &K, replace: impl FnOnce(Option<V>) -> Option<V>) {
        match self.table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => {
                entry.replace_entry_with(|(key, value)| replace(Some(value)).map(|value| (key, value)));
            }
            Entry::Vacant(entry) => {
                if let Some(value) = replace(None) {
                    entry.insert((key.clone(), value));
                }
            }
        }
    }

    /// Looks at the place `cursor` of the table and removes what is there if `keep` does not want it; returns the
    /// place to go on with.
    pub(crate) fn sweep(&mut self, cursor: usize, keep: impl FnOnce(&mut V) -> bool) -> usize {
        let n_places = self.table.num_buckets();
        if n_places == 0 {
            return 0;
        }
        let place = cursor % n_places;
        if let Ok(mut entry) = self.table.get_bucket_entry(place)
            && !keep(&mut entry.get_mut().1)
        {
            entry.remove();
        }
        place + 1
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// Writes every entry into the bytes of its key group.
    ///
    /// # Errors
    /// If a key or a value cannot be serialized; `what` names the state.
    pub fn snapshot(&self, what: &str, max_parallelism: u32) -> Result<KeyGroupBytes> {
        let mut groups = KeyGroupBytes::new();
        for entry in &self.table {
            let group = key_group(key_hash(&entry.0), max_parallelism);
            encode_into(what, entry, groups.entry(group).or_default())?;
        }
        Ok(groups)
    }

    /// Adds the entries that [`KeyedTable::snapshot`] wrote at the same `max_parallelism`.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if the bytes are not such entries, or a key is not of the key group in which it is
    /// found.
    pub fn restore(&mut self, what: &str, max_parallelism: u32, groups: &KeyGroupBytes) -> Result<()> {
        for (group, bytes) in groups {
            read_entries(what, bytes, |(key, value): (K, V)| {
                let hash = checked_hash(what, &key, *group, max_parallelism)?;
                self.insert(hash, &key, value);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Decodes the entries of one key group. A group is written only if it has an entry, and an entry may take no bytes
/// (a unit key with a unit value), so there is always a first one.
pub(crate) fn read_entries<T: DeserializeOwned>(
    what: &str,
    bytes: &[u8],
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let mut rest = bytes;
    loop {
        let (entry, after) = decode_prefix(what, rest)?;
        each(entry)?;
        if after.is_empty() {
            return Ok(());
        }
        rest = after;
    }
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
