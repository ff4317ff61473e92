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
        let times = entries.iter().map(|(_, hash)| {
            let entry = self.table.find(*hash, |_| true);
            entry.map_or(0, |(_, sessions)| sessions.look_again_at ^ sessions.first.window.start)
        });
        black_box(times.fold(0, |all, time| all ^ time));
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
        // The first entry with the tag of the key mostly is the key's. It takes two cache lines: one is read for the key,
        // the other for the times.
        let both = hashes.iter().zip(keys).map(|(hash, key)| {
            let entry = self.table.find(*hash, |_| true);
            entry.map_or(0, |(k, sessions)| {
                i64::from(k == key) ^ sessions.look_again_at ^ sessions.first.window.start
            })
        });
        black_box(both.fold(0, |all, one| all ^ one));
    }
}
