//! Values by key, dense and each at a fixed place: the table of the window operators.
//!
//! The values lie in one vector in the order in which their keys came, so that all of them are visited without gaps, and
//! others can refer to them by index. Beside it is an index, an open-addressed table of eight bytes per place. Records are
//! looked up in three passes over some of them at a time, so that the cache misses of the index overlap, then those of the
//! values, before the first record is processed: with a million keys this is worth a factor of two or more.

use crate::user_code::Progress;
use flott_types::{Key, Result, key_hash};
use std::hint::black_box;

/// How many records are looked up ahead of the first one's processing.
const LOOKAHEAD: usize = 64;

/// A table that is at most this large lives in the second-level cache: looking ahead only costs.
const CACHED_BYTES_MAX: usize = 512 * 1024;

/// The index is at most three quarters full.
const INDEX_PLACES_MIN: usize = 16;

/// Where the value of a key with a certain hash is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The low half of the key's hash. The low bits say where in the index the search begins.
    tag: u32,
    idx: u32,
}

impl Place {
    const VACANT: Self = Self { tag: 0, idx: u32::MAX };

    fn is_vacant(self) -> bool {
        self.idx == u32::MAX
    }
}

/// A map whose values keep their index until they are removed.
#[derive(Debug)]
pub(crate) struct KeySlab<K, V> {
    /// A power of two of places, probed one after the other.
    index: Vec<Place>,
    /// A removed cell keeps its key until it is used again.
    cells: Vec<(K, V)>,
    free: Vec<u32>,
    /// The keys and hashes of the records at hand.
    keys_ahead: Vec<K>,
    hashes_ahead: Vec<u64>,
}

impl<K, V> Default for KeySlab<K, V> {
    fn default() -> Self {
        Self {
            index: vec![Place::VACANT; INDEX_PLACES_MIN],
            cells: Vec::new(),
            free: Vec::new(),
            keys_ahead: Vec::new(),
            hashes_ahead: Vec::new(),
        }
    }
}

impl<K: Key, V> KeySlab<K, V> {
    /// The index of `key`, whose hash is `hash`; `make` makes its value if it is new.
    #[inline]
    pub(crate) fn upsert(&mut self, hash: u64, key: &K, make: impl FnOnce() -> V) -> u32 {
        let tag = hash as u32;
        let mask = self.index.len() - 1;
        let mut at = tag as usize & mask;
        loop {
            let place = self.index[at];
            if place.is_vacant() {
                return self.insert(at, tag, key.clone(), make());
            }
            if place.tag == tag && self.cells[place.idx as usize].0 == *key {
                return place.idx;
            }
            at = (at + 1) & mask;
        }
    }

    /// Enters a new key, for which the search in the index ended at `at`.
    #[inline]
    fn insert(&mut self, at: usize, tag: u32, key: K, value: V) -> u32 {
        let idx = match self.free.pop() {
            Some(idx) => {
                self.cells[idx as usize] = (key, value);
                idx
            }
            None => {
                self.cells.push((key, value));
                (self.cells.len() - 1) as u32
            }
        };
        self.index[at] = Place { tag, idx };
        if self.len() > self.index.len() / 4 * 3 {
            self.rebuild_index(self.index.len() * 2);
        }
        idx
    }

    /// Needs no keys: the tags tell where places belong.
    #[cold]
    #[inline(never)]
    fn rebuild_index(&mut self, n_places: usize) {
        assert!(n_places < u32::MAX as usize, "fewer than 2^31 keys per subtask");
        let old = std::mem::replace(&mut self.index, vec![Place::VACANT; n_places]);
        let mask = n_places - 1;
        for place in old.into_iter().filter(|place| !place.is_vacant()) {
            let mut at = place.tag as usize & mask;
            while !self.index[at].is_vacant() {
                at = (at + 1) & mask;
            }
            self.index[at] = place;
        }
    }

    /// Makes room for `n` keys in all.
    pub(crate) fn reserve(&mut self, n: usize) {
        let n_places = (n + n / 3 + 1).next_power_of_two();
        if n_places > self.index.len() {
            self.rebuild_index(n_places);
        }
        self.cells.reserve(n.saturating_sub(self.cells.len()));
    }

    /// Calls `update` for each record with the index and the value of its key, made by `make` if the key is new, and with
    /// the number of the record.
    #[inline]
    pub(crate) fn upsert_each<T>(
        &mut self,
        records: &[T],
        key_selector: impl Fn(&T) -> K,
        make: impl Fn() -> V,
        mut progress: Progress<'_>,
        mut update: impl FnMut(u32, &mut V, usize) -> Result<()>,
    ) -> Result<()> {
        let n_bytes = size_of_val(self.index.as_slice()) + size_of_val(self.cells.as_slice());
        if n_bytes <= CACHED_BYTES_MAX {
            for (nth, record) in records.iter().enumerate() {
                let key = key_selector(record);
                let idx = self.upsert(key_hash(&key), &key, &make);
                update(idx, &mut self.cells[idx as usize].1, nth)?;
                progress.advance();
            }
            return Ok(());
        }
        let mut keys = std::mem::take(&mut self.keys_ahead);
        let mut hashes = std::mem::take(&mut self.hashes_ahead);
        let mut n_before = 0;
        for records in records.chunks(LOOKAHEAD) {
            keys.extend(records.iter().map(&key_selector));
            hashes.extend(keys.iter().map(key_hash));
            self.touch(&hashes, &keys);
            for (nth, (key, hash)) in keys.iter().zip(&hashes).enumerate() {
                let idx = self.upsert(*hash, key, &make);
                update(idx, &mut self.cells[idx as usize].1, n_before + nth)?;
                progress.advance();
            }
            n_before += records.len();
            keys.clear();
            hashes.clear();
        }
        (self.keys_ahead, self.hashes_ahead) = (keys, hashes);
        Ok(())
    }

    /// Reads the places at which the search for keys begins, and the cells to which they point: mostly the right ones.
    pub(crate) fn touch(&self, hashes: &[u64], keys: &[K]) {
        let mask = self.index.len() - 1;
        let mut ahead = [0; LOOKAHEAD];
        for (idx, hash) in ahead.iter_mut().zip(hashes) {
            *idx = self.index[*hash as usize & mask].idx;
        }
        let mut n_equal = 0;
        for (idx, key) in ahead.iter().zip(keys) {
            n_equal += usize::from(self.cells.get(*idx as usize).is_some_and(|cell| cell.0 == *key));
        }
        black_box(n_equal);
    }

    /// Reads the cells at some indices.
    pub(crate) fn touch_cells(&self, indices: impl Iterator<Item = u32>) {
        let Some((some_key, _)) = self.cells.first() else { return };
        let n_equal = indices.filter(|idx| self.cells.get(*idx as usize).is_some_and(|cell| cell.0 == *some_key)).count();
        black_box(n_equal);
    }

    /// The value of `key`, if it has one.
    pub(crate) fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let place = self.index[at];
            if place.is_vacant() {
                return None;
            }
            if place.tag == hash as u32 && self.cells[place.idx as usize].0 == *key {
                return Some(&mut self.cells[place.idx as usize].1);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    pub(crate) fn key(&self, idx: u32) -> &K {
        &self.cells[idx as usize].0
    }

    #[inline]
    pub(crate) fn value_mut(&mut self, idx: u32) -> &mut V {
        &mut self.cells[idx as usize].1
    }

    /// Forgets the key at `idx`, if it is not forgotten yet. The value stays where it is until the place is used again,
    /// and [`KeySlab::cells`] shows it: the caller has made it an empty one.
    pub(crate) fn remove(&mut self, idx: u32) {
        let mask = self.index.len() - 1;
        let mut at = key_hash(&self.cells[idx as usize].0) as usize & mask;
        while self.index[at].idx != idx {
            if self.index[at].is_vacant() {
                return;
            }
            at = (at + 1) & mask;
        }
        // What follows moves up, or a search would end at the gap.
        let mut next = (at + 1) & mask;
        while !self.index[next].is_vacant() {
            let home = self.index[next].tag as usize & mask;
            let is_reached_from_home = (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask);
            if is_reached_from_home {
                self.index[at] = self.index[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.index[at] = Place::VACANT;
        self.free.push(idx);
    }

    /// All cells, removed ones too, in the order of their index.
    pub(crate) fn cells(&self) -> &[(K, V)] {
        &self.cells
    }

    /// Number of keys.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// Forgets all keys and returns them with their values; the memory is kept.
    pub(crate) fn drain(&mut self) -> std::vec::Drain<'_, (K, V)> {
        assert!(self.free.is_empty(), "a slab from which keys were removed is not drained");
        self.index.fill(Place::VACANT);
        self.cells.drain(..)
    }

    /// Forgets all keys; the memory is kept.
    pub(crate) fn clear(&mut self) {
        self.index.fill(Place::VACANT);
        self.cells.clear();
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_slab_is_a_map_whose_values_stay_in_place(
            steps in proptest::collection::vec((any::<bool>(), 0..300_u64), 0..1_000),
        ) {
            let mut slab = KeySlab::default();
            let mut expected = BTreeMap::<u64, (u32, u64)>::new();
            for (nth, (removes, key)) in (0..).zip(steps) {
                if removes {
                    if let Some((idx, _)) = expected.remove(&key) {
                        *slab.value_mut(idx) = 0;
                        slab.remove(idx);
                        slab.remove(idx);
                    }
                } else {
                    let idx = slab.upsert(key_hash(&key), &key, || nth);
                    let known = expected.entry(key).or_insert((idx, nth));
                    prop_assert_eq!((idx, *slab.value_mut(idx)), *known);
                }
                prop_assert_eq!(slab.len(), expected.len());
            }
            for key in 0..300 {
                let found = slab.get_mut(key_hash(&key), &key).copied();
                prop_assert_eq!(found, expected.get(&key).map(|(_, value)| *value));
            }
        }

        #[test]
        fn looking_ahead_changes_nothing(n_keys in 1..200_000_u64, n_records in 0..3_000_usize) {
            let records: Vec<u64> = (0..n_records as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % n_keys).collect();
            let mut slab = KeySlab::<u64, u64>::default();
            // Large enough to look ahead.
            slab.reserve(100_000);
            let mut place = 0;
            let progress = Progress::start(&mut place);
            slab.upsert_each(&records, |key| *key, || 0, progress, |_, count, nth| {
                *count += nth as u64;
                Ok(())
            }).unwrap();
            let mut expected = BTreeMap::<u64, u64>::new();
            records.iter().zip(0..).for_each(|(key, nth)| *expected.entry(*key).or_default() += nth);
            let counted: BTreeMap<u64, u64> = slab.drain().collect();
            prop_assert_eq!(place, n_records);
            prop_assert_eq!(counted, expected);
        }
    }
}
