//! The open sessions of all keys.

use super::agenda;
use super::sessions::Sessions;
use crate::look_ahead::LookAhead;
use flott_types::{Key, Timestamp, key_hash};
use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};
use std::hint::black_box;

/// Keys that have a session.
#[derive(Debug)]
pub(super) struct SessionTable<K, A> {
    table: HashTable<(K, Sessions<A>)>,
}

impl<K, A> Default for SessionTable<K, A> {
    fn default() -> Self {
        Self { table: HashTable::new() }
    }
}

impl<K: Key, A> SessionTable<K, A> {
    /// The place of `key`.
    #[inline]
    pub(super) fn entry(&mut self, hash: u64, key: &K) -> Entry<'_, (K, Sessions<A>)> {
        self.table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k))
    }

    /// The key with this hash that is to be looked at at this time: by what an entry in the agenda says. Of two keys
    /// with one hash any will do, for the other one has the same entry.
    pub(super) fn find(&mut self, hash: u64, at: Timestamp) -> Option<OccupiedEntry<'_, (K, Sessions<A>)>> {
        let is_meant =
            |(key, sessions): &(K, Sessions<A>)| sessions.look_again_at == at && key_hash(key) == hash;
        self.table.find_entry(hash, is_meant).ok()
    }

    /// Reads where the keys of entries of the agenda are found.
    pub(super) fn look_ahead_by_hash(&self, entries: &[agenda::Entry]) {
        let mask = self.table.num_buckets().saturating_sub(1);
        let times = entries.iter().map(|(_, hash)| {
            let entry = self.table.get_bucket(*hash as usize & mask);
            entry.map_or(0, |(_, sessions)| sessions.look_again_at)
        });
        black_box(times.fold(0, i64::wrapping_add));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Sessions<A>)> {
        self.table.iter().map(|(key, sessions)| (key, sessions))
    }
}

impl<K: Key, A> LookAhead<K> for SessionTable<K, A> {
    fn memory_bytes(&self) -> usize {
        self.table.num_buckets() * (size_of::<(K, Sessions<A>)>() + 1)
    }

    fn look_ahead(&self, hashes: &[u64], keys: &[K]) {
        let mask = self.table.num_buckets().saturating_sub(1);
        let n_equal = hashes.iter().zip(keys).filter(|(hash, key)| {
            let entry = self.table.get_bucket(**hash as usize & mask);
            entry.is_some_and(|(k, _)| k == *key)
        });
        black_box(n_equal.count());
    }
}
