//! A hash map of the user's types, addressed by the stable hash that also places keys in key groups.

use crate::codec::{decode_prefix, encode_into};
use crate::snapshot::KeyGroupBytes;
use flott_types::{Data, Key, Result, key_group, key_hash};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

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

    /// Looks at up to `n` places of the table from `cursor` on and removes what `expired` says; returns where to go on.
    pub(crate) fn sweep(&mut self, cursor: usize, n: usize, expired: impl Fn(&V) -> bool) -> usize {
        let n_places = self.table.num_buckets();
        if n_places == 0 {
            return 0;
        }
        for offset in 0..n {
            let place = (cursor + offset) % n_places;
            if let Ok(entry) = self.table.get_bucket_entry(place)
                && expired(&entry.get().1)
            {
                entry.remove();
            }
        }
        (cursor + n) % n_places
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

    /// Adds the entries that [`KeyedTable::snapshot`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption) if the bytes are not such entries.
    pub fn restore(&mut self, what: &str, groups: &KeyGroupBytes) -> Result<()> {
        for bytes in groups.values() {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let ((key, value), after): ((K, V), _) = decode_prefix(what, rest)?;
                self.insert(key_hash(&key), &key, value);
                rest = after;
            }
        }
        Ok(())
    }
}
