//! The open sessions of all keys.

use super::sessions::Sessions;
use flott_types::{Key, Timestamp, key_hash};
use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};
use std::hint::black_box;

/// How many records are looked up ahead of the first one's processing.
pub(super) const LOOK_AHEAD: usize = 128;

/// What is kept in the second-level cache.
const CACHED_BYTES_MAX: usize = 512 * 1024;

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

    /// Reads where the keys with these hashes are found, so that the cache misses of the look-ups that follow happen all at
    /// once: with a million keys it takes a third off the whole. A table that lives in the cache is left alone.
    pub(super) fn look_ahead(&self, hashes: impl Iterator<Item = u64>) {
        if self.table.num_buckets() * size_of::<(K, Sessions<A>)>() <= CACHED_BYTES_MAX {
            return;
        }
        // The first entry with the tag of the key mostly is the key's.
        let times =
            hashes.map(|hash| self.table.find(hash, |_| true).map_or(0, |(_, found)| found.look_again_at));
        black_box(times.fold(0, |all, time| all ^ time));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Sessions<A>)> {
        self.table.iter().map(|(key, sessions)| (key, sessions))
    }
}
