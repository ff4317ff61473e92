//! Values by key, dense and at a fixed place.

use flott_types::{Key, key_hash};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A map whose values lie in one vector and keep their index until they are removed: others can refer to them by it, and
/// all of them are visited without gaps.
#[derive(Debug)]
pub(crate) struct KeySlab<K, V> {
    /// Indices into `cells`, by key.
    index: HashTable<u32>,
    /// A removed cell keeps its key until the cell is used again.
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
        let entry = index.entry(
            hash,
            |idx| cells[*idx as usize].0 == *key,
            |idx| key_hash(&cells[*idx as usize].0),
        );
        match entry {
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

    #[inline]
    pub(crate) fn value(&self, idx: u32) -> &V {
        &self.cells[idx as usize].1
    }

    /// Forgets the key at `idx`. The value stays where it is until the place is used again, and
    /// [`KeySlab::cells`] shows it: the caller has made it an empty one.
    pub(crate) fn remove(&mut self, idx: u32) {
        let hash = key_hash(&self.cells[idx as usize].0);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == idx) {
            entry.remove();
            self.free.push(idx);
        }
    }

    /// All places, removed ones too, in the order of their index.
    pub(crate) fn cells(&self) -> &[(K, V)] {
        &self.cells
    }

    /// Number of keys.
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
