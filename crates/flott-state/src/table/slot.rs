//! Entries that are looked up once for several steps, and by their hash alone.

use super::spill::order_of;
use super::watch::Watch;
use super::{KeyedTable, changing, inserted, removing};
use crate::codec::decode;
use flott_types::{Data, Key, Result, key_hash};
use hashbrown::hash_table::{Entry, VacantEntry};

/// The place of a key.
#[derive(Debug)]
pub enum Slot<'a, K, V> {
    /// The key has a value.
    Occupied(&'a mut V),
    /// It has none.
    Vacant(VacantSlot<'a, K, V>),
}

/// Where the value of a key goes that has none.
#[derive(Debug)]
pub struct VacantSlot<'a, K, V> {
    entry: VacantEntry<'a, (K, V)>,
    watch: &'a mut Option<Box<Watch<K, V>>>,
}

impl<K: Key, V> VacantSlot<'_, K, V> {
    /// Sets the value of the key, which is the one that was looked up.
    #[inline]
    pub fn insert(self, key: K, value: V) {
        inserted(self.watch, self.entry.insert((key, value)));
    }
}

/// A key with its value.
#[derive(Debug)]
pub struct FoundSlot<'a, K, V> {
    table: &'a mut KeyedTable<K, V>,
    hash: u64,
    bucket: usize,
}

impl<K: Key, V> FoundSlot<'_, K, V> {
    /// The key, and its value to change.
    pub fn get_mut(&mut self) -> (&K, &mut V) {
        let KeyedTable { table, watch, .. } = &mut *self.table;
        let entry = table.get_bucket_mut(self.bucket).expect("the bucket has the entry that was found");
        if let Some(watch) = watch {
            watch.before_change(self.bucket, entry);
        }
        (&entry.0, &mut entry.1)
    }

    /// Removes both and returns them.
    pub fn remove(self) -> (K, V) {
        let Self { table: of, hash, bucket } = self;
        let KeyedTable { table, watch, spill } = &mut *of;
        let entry = table.get_bucket_entry(bucket).ok().expect("the bucket has the entry that was found");
        if spill.is_none() {
            return removing(watch, entry).remove().0;
        }
        if let Some(watch) = watch {
            watch.save(bucket, entry.get());
        }
        let ((key, value), _) = entry.remove();
        of.bury(hash, &key, bucket);
        (key, value)
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// The place of `key`, whose [`key_hash`] is `hash`, to change what is there or to put something there. A table on disk has loaded it to
    /// be changed.
    #[inline]
    pub fn slot(&mut self, hash: u64, key: &K) -> Slot<'_, K, V> {
        assert_loaded!(self, hash);
        make_room!(self);
        let Self { table, watch, .. } = self;
        match table.entry(hash, |(k, _)| k == key, |(k, _)| key_hash(k)) {
            Entry::Occupied(entry) => Slot::Occupied(&mut changing(watch, entry).into_mut().1),
            Entry::Vacant(entry) => Slot::Vacant(VacantSlot { entry, watch }),
        }
    }

    /// Some key with this hash for whose value `is_meant` says yes, if there is one; it is loaded to be changed.
    ///
    /// # Errors
    /// As [`KeyedTable::load`].
    #[inline]
    pub fn find_mut(
        &mut self,
        hash: u64,
        is_meant: impl Fn(&V) -> bool,
    ) -> Result<Option<FoundSlot<'_, K, V>>> {
        if self.spill.is_some() {
            self.load_meant(hash, &is_meant)?;
        }
        let bucket = self.bucket_of(hash, &is_meant);
        Ok(bucket.map(|bucket| FoundSlot { table: self, hash, bucket }))
    }

    #[inline]
    fn bucket_of(&self, hash: u64, is_meant: &impl Fn(&V) -> bool) -> Option<usize> {
        self.table.find_bucket_index(hash, |(key, value)| is_meant(value) && key_hash(key) == hash)
    }

    /// Loads the key of [`KeyedTable::find_mut`], in memory or on disk.
    fn load_meant(&mut self, hash: u64, is_meant: &impl Fn(&V) -> bool) -> Result<()> {
        let known = self.bucket_of(hash, is_meant).and_then(|bucket| self.table.get_bucket(bucket));
        if let Some((key, _)) = known {
            let key = key.clone();
            return self.load_mut(hash, &key).map(drop);
        }
        let Some(spill) = &mut self.spill else { return Ok(()) };
        for bytes in spill.store.keys_of_order(order_of(hash))? {
            let key: K = decode("a key of state on disk", &bytes)?;
            self.load_mut(hash, &key)?;
            if self.bucket_of(hash, is_meant).is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The value that a look-up of this hash comes by first, if it is in memory: to have the cache misses of many look-ups happen at once.
    #[inline]
    pub fn first_of_hash(&self, hash: u64) -> Option<&V> {
        self.table.find(hash, |_| true).map(|(_, value)| value)
    }
}
