//! Looking up the keys of many records in a large table.

use flott_state::KeyedTable;
use flott_types::{Key, key_hash};

/// How many records are looked up ahead of the first one's processing.
pub(crate) const LOOK_AHEAD: usize = 128;

/// A table that is at most this large lives in the second-level cache: looking ahead only costs.
const CACHED_BYTES_MAX: usize = 512 * 1024;

/// A table by key.
pub(crate) trait LookAhead<K> {
    /// The bytes that it takes.
    fn memory_bytes(&self) -> usize;
    /// Reads where up to [`LOOK_AHEAD`] keys will be found, so that the cache misses overlap.
    fn look_ahead(&self, hashes: &[u64], keys: &[K]);
}

impl<K: Key, V> LookAhead<K> for KeyedTable<K, V> {
    fn memory_bytes(&self) -> usize {
        KeyedTable::memory_bytes(self)
    }
    fn look_ahead(&self, hashes: &[u64], keys: &[K]) {
        KeyedTable::look_ahead(self, hashes, keys);
    }
}

/// The keys and hashes of the records at hand; empty between calls.
#[derive(Debug)]
pub(crate) struct KeysAhead<K> {
    keys: Vec<K>,
    hashes: Vec<u64>,
}

impl<K> Default for KeysAhead<K> {
    fn default() -> Self {
        Self { keys: Vec::new(), hashes: Vec::new() }
    }
}

impl<K: Key> KeysAhead<K> {
    /// Computes the keys and hashes of up to [`LOOK_AHEAD`] records and, in a large table, reads where they are.
    #[inline]
    pub(crate) fn look<T>(
        &mut self,
        table: &impl LookAhead<K>,
        records: &[T],
        key_selector: impl Fn(&T) -> K,
    ) {
        self.keys.clear();
        self.hashes.clear();
        self.keys.extend(records.iter().map(key_selector));
        self.hashes.extend(self.keys.iter().map(key_hash));
        if is_large(table) {
            table.look_ahead(&self.hashes, &self.keys);
        }
    }

    /// The hashes and keys of the last call, in the order of the records.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &K)> {
        self.hashes.iter().copied().zip(&self.keys)
    }
}

/// Whether it pays to look ahead in a table: with a million keys it takes a third off the whole.
pub(crate) fn is_large<K>(table: &impl LookAhead<K>) -> bool {
    table.memory_bytes() > CACHED_BYTES_MAX
}
