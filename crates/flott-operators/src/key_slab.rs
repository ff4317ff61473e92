//! Values by key, dense and each at a fixed place.

use flott_types::{Key, key_hash};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A map whose values lie in one vector, in the order in which their keys came, and keep their index until they are
/// removed: others can refer to them by it, and all of them are visited without gaps.
#[derive(Debug)]
pub(crate) struct KeySlab<K, V> {
    /// Indices into `cells`, by key.
    index: HashTable<u32>,
    /// A removed cell keeps its key until it is used again.
    cells: Vec<(K, V)>,
    free: Vec<u32>,
}

impl<K, V> Default for KeySlab<K, V> {
    fn default() -> Self {
        Self { index: HashTable::new(), cells: Vec::new(), free: Vec::new() }
    }
}

impl<K: Key, V> KeySlab<K, V> {
    /// The index of `key`, whose hash is `hash`; `make` makes its value if it is new.
    #[inline]
    pub(crate) fn upsert(&mut self, hash: u64, key: &K, make: impl FnOnce() -> V) -> u32 {
        let Self { index, cells, free } = self;
        let is_key = |idx: &u32| cells[*idx as usize].0 == *key;
        match index.entry(hash, is_key, |idx| key_hash(&cells[*idx as usize].0)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let idx = match free.pop() {
                    Some(idx) => {
                        cells[idx as usize] = (key.clone(), make());
                        idx
                    }
                    None => {
                        let idx = u32::try_from(cells.len()).expect("fewer than 2^32 keys per subtask");
                        cells.push((key.clone(), make()));
                        idx
                    }
                };
                entry.insert(idx);
                idx
            }
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
        let hash = key_hash(self.key(idx));
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == idx) {
            entry.remove();
            self.free.push(idx);
        }
    }

    /// All cells, removed ones too, in the order of their index.
    pub(crate) fn cells(&self) -> &[(K, V)] {
        &self.cells
    }

    /// Number of keys.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Forgets all keys; the memory is kept.
    pub(crate) fn clear(&mut self) {
        self.index.clear();
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
            for (key, (idx, value)) in expected {
                prop_assert_eq!((slab.key(idx), slab.cells()[idx as usize].1), (&key, value));
            }
        }
    }
}
