//! The map of the hand-written versions: open addressing, linear probing, one flat vector.
//!
//! It is faster than a general map here for three reasons, each measured against `hashbrown` (see
//! `keyed_tumbling/handwritten_hashbrown.rs`): key and value share a cache line and there is no
//! second array of control bytes to miss on; "vacant or mine" is one condition, because which of
//! the two it is cannot be predicted while most keys are new; and a batch of records first touches
//! all its slots and only then updates them, so that cache misses overlap.
//!
//! A key leaves the table only by [`FlatTable::reset_each`] or when the table grows.

use std::hint::black_box;

use crate::hash::key_hash;
use crate::records::Record;

/// How many records have their slots touched before the first of them is updated.
const LOOKAHEAD: usize = 128;

/// A table at most this large lives in the second-level cache: touching it first only costs.
const CACHED_BYTES_MAX: usize = 512 * 1024;

/// The value of a key in a [`FlatTable`]; `Default` is the vacant slot.
pub(crate) trait SlotValue: Copy + Default {
    /// Whether no key was ever put here (since the last reset).
    fn is_vacant(&self) -> bool;
}

/// A count; zero is vacant.
impl SlotValue for u64 {
    #[inline(always)]
    fn is_vacant(&self) -> bool {
        *self == 0
    }
}

/// A map from keys to values.
#[derive(Debug)]
pub(crate) struct FlatTable<V> {
    slots: Vec<(u64, V)>,
    n_used: usize,
    /// How often the table grew: slot indices of an earlier generation are void.
    generation: u32,
}

impl<V: SlotValue> FlatTable<V> {
    /// A table that holds `n_keys` keys without growing, at a load of at most 3/4.
    pub(crate) fn with_capacity(n_keys: usize) -> Self {
        let n_slots = (n_keys + n_keys / 3).max(LOOKAHEAD * 2).next_power_of_two();
        Self { slots: vec![(0, V::default()); n_slots], n_used: 0, generation: 0 }
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Updates the value of each record's key; `update` gets the index of the slot, the value
    /// (vacant if the key is new, and it must not stay so) and the record.
    #[inline]
    pub(crate) fn upsert_each(&mut self, records: &[Record], mut update: impl FnMut(u32, &mut V, &Record)) {
        let is_cached = size_of_val(self.slots.as_slice()) <= CACHED_BYTES_MAX;
        for records in records.chunks(LOOKAHEAD) {
            self.reserve(records.len());
            if is_cached {
                for record in records {
                    self.upsert(self.home_slot(record.0), record, &mut update);
                }
            } else {
                self.upsert_touched(records, &mut update);
            }
        }
    }

    #[inline]
    fn upsert_touched(&mut self, records: &[Record], update: &mut impl FnMut(u32, &mut V, &Record)) {
        let mut homes = [0_u32; LOOKAHEAD];
        for (home, record) in homes.iter_mut().zip(records) {
            *home = self.home_slot(record.0) as u32;
        }
        let mut touched = 0;
        for &home in &homes[..records.len()] {
            touched ^= self.slots[home as usize].0;
        }
        black_box(touched);
        for (&home, record) in homes.iter().zip(records) {
            self.upsert(home as usize, record, update);
        }
    }

    #[inline(always)]
    fn upsert(&mut self, home: usize, record: &Record, update: &mut impl FnMut(u32, &mut V, &Record)) {
        let mask = self.slots.len() - 1;
        let mut slot_idx = home;
        loop {
            let slot = &mut self.slots[slot_idx & mask];
            let is_vacant = slot.1.is_vacant();
            if is_vacant | (slot.0 == record.0) {
                self.n_used += usize::from(is_vacant);
                slot.0 = record.0;
                update((slot_idx & mask) as u32, &mut slot.1, record);
                return;
            }
            slot_idx += 1;
        }
    }

    /// Visits every slot, vacant ones too (the caller masks them: a branch on it would not be
    /// predictable), and makes it vacant.
    #[inline]
    pub(crate) fn reset_each(&mut self, mut visit: impl FnMut(u64, V)) {
        for slot in &mut self.slots {
            visit(slot.0, slot.1);
            *slot = (0, V::default());
        }
        self.n_used = 0;
    }

    /// All slots with their keys, vacant ones too.
    pub(crate) fn slots_mut(&mut self) -> &mut [(u64, V)] {
        &mut self.slots
    }

    #[inline(always)]
    fn home_slot(&self, key: u64) -> usize {
        (key_hash(key) >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    #[inline]
    fn reserve(&mut self, n_records: usize) {
        if self.n_used + n_records > self.slots.len() / 8 * 7 {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let n_slots = self.slots.len() * 2;
        let old_slots = std::mem::replace(&mut self.slots, vec![(0, V::default()); n_slots]);
        self.n_used = 0;
        self.generation += 1;
        for (key, value) in old_slots.into_iter().filter(|slot| !slot.1.is_vacant()) {
            self.upsert(self.home_slot(key), &(key, 0), &mut |_, slot, _| *slot = value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_growth() {
        let mut table = FlatTable::<u64>::with_capacity(10);
        let records: Vec<Record> = (0..200_000).map(|i| (i % 50_000, 0)).collect();
        table.upsert_each(&records, |_, count, _| *count += 1);
        assert!(table.generation() > 0);
        let mut counts = Vec::new();
        table.reset_each(|key, count| counts.extend((count > 0).then_some((key, count))));
        counts.sort_unstable();
        assert_eq!(counts, (0..50_000).map(|key| (key, 4)).collect::<Vec<_>>());
        table.reset_each(|_, count| assert_eq!(count, 0));
    }
}
