//! Which channel a record takes. A call divides a whole batch, so the virtual call is paid once per batch.

use flott_types::{KeyGroup, RecordBatch, key_group, key_hash, subtask_for_key_group};
use serde::Serialize;
use std::fmt;
use std::mem::needs_drop;

/// Divides batches among channels.
pub trait Partitioner<T>: Send {
    /// Moves every record of `batch` to the ends of `targets`, which are not empty.
    ///
    /// # Errors
    /// If a user's function names a channel that does not exist; the text says which.
    fn partition(&mut self, batch: RecordBatch<T>, targets: &mut [RecordBatch<T>]) -> Result<(), String>;
}

/// All to the one channel there is, or to the first.
#[derive(Clone, Copy, Debug)]
pub struct SinglePartitioner;

impl<T> Partitioner<T> for SinglePartitioner {
    fn partition(&mut self, mut batch: RecordBatch<T>, targets: &mut [RecordBatch<T>]) -> Result<(), String> {
        if let Some(target) = targets.first_mut() {
            target.append(&mut batch);
        }
        Ok(())
    }
}

/// By the key group of the key that a selector takes from the record.
#[derive(Clone)]
pub struct HashPartitioner<S> {
    selector: S,
    max_parallelism: u32,
    /// The target of each key group: a division per record would cost more than the hash.
    target_of_group: Vec<u16>,
    /// For each target a list of the records at hand that go there, with room for all of them.
    lists: Vec<u32>,
    /// How many are in each list.
    lengths: Vec<usize>,
}

impl<S> fmt::Debug for HashPartitioner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashPartitioner")
            .field("max_parallelism", &self.max_parallelism)
            .finish_non_exhaustive()
    }
}

impl<S> HashPartitioner<S> {
    /// A partitioner for a job with `max_parallelism` key groups.
    pub fn new(selector: S, max_parallelism: u32) -> Self {
        Self {
            selector,
            max_parallelism,
            target_of_group: Vec::new(),
            lists: Vec::new(),
            lengths: Vec::new(),
        }
    }

    fn prepare(&mut self, n_targets: usize) {
        if self.lengths.len() != n_targets {
            let (max_parallelism, parallelism) = (self.max_parallelism, n_targets as u32);
            let target =
                |group| subtask_for_key_group(KeyGroup(group), max_parallelism, parallelism).0 as u16;
            self.target_of_group = (0..max_parallelism).map(target).collect();
            self.lengths = vec![0; n_targets];
        }
    }

    /// Enters each record into the list of its target, in order.
    #[expect(
        clippy::indexing_slicing,
        reason = "targets are below their number, lengths below the number of records"
    )]
    fn divide<T, K: Serialize>(&mut self, records: &[T])
    where
        S: Fn(&T) -> K,
    {
        let Self { selector, max_parallelism, target_of_group, lists, lengths } = self;
        let n_places = lengths.len() * records.len();
        if lists.len() < n_places {
            lists.resize(n_places, 0);
        }
        lengths.fill(0);
        for (idx, record) in (0..).zip(records) {
            let group = key_group(key_hash(&selector(record)), *max_parallelism);
            let target = usize::from(target_of_group[group.0 as usize]);
            lists[target * records.len() + lengths[target]] = idx;
            lengths[target] += 1;
        }
    }
}

impl<T: Clone, K: Serialize, S: Fn(&T) -> K + Send> Partitioner<T> for HashPartitioner<S> {
    #[expect(clippy::indexing_slicing, reason = "the subtask of a key group is below the number of targets")]
    fn partition(&mut self, mut batch: RecordBatch<T>, targets: &mut [RecordBatch<T>]) -> Result<(), String> {
        if let [only] = targets {
            only.append(&mut batch);
            return Ok(());
        }
        self.prepare(targets.len());
        if needs_drop::<T>() {
            let Self { selector, max_parallelism, target_of_group, .. } = self;
            for (record, timestamp) in batch {
                let group = key_group(key_hash(&selector(&record)), *max_parallelism);
                targets[usize::from(target_of_group[group.0 as usize])].push(record, timestamp);
            }
            return Ok(());
        }
        // What owns nothing is as cheap to copy as to move, and copying can go target by target: that is three times as
        // fast as to append each record to another batch than the last.
        self.divide(batch.records());
        let lists = self.lists.chunks(batch.len().max(1));
        for ((target, list), length) in targets.iter_mut().zip(lists).zip(&self.lengths) {
            target.extend_from(&batch, &list[..*length]);
        }
        Ok(())
    }
}

/// In turn.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobinPartitioner {
    next: usize,
}

impl RoundRobinPartitioner {
    /// Starts with channel `first`, so that several senders do not all start with the same.
    pub fn new(first: usize) -> Self {
        Self { next: first }
    }
}

impl<T> Partitioner<T> for RoundRobinPartitioner {
    #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
    fn partition(&mut self, batch: RecordBatch<T>, targets: &mut [RecordBatch<T>]) -> Result<(), String> {
        let n_targets = targets.len();
        for (record, timestamp) in batch {
            targets[self.next % n_targets].push(record, timestamp);
            self.next = self.next.wrapping_add(1);
        }
        Ok(())
    }
}

/// To a random channel.
#[derive(Clone, Copy, Debug)]
pub struct RandomPartitioner {
    state: u64,
}

impl RandomPartitioner {
    /// Choices that `seed` determines.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }
}

impl<T> Partitioner<T> for RandomPartitioner {
    #[expect(clippy::indexing_slicing, reason = "a product of a fraction and the length is below the length")]
    fn partition(&mut self, batch: RecordBatch<T>, targets: &mut [RecordBatch<T>]) -> Result<(), String> {
        for (record, timestamp) in batch {
            // The hash of a counter is a good enough die.
            self.state = self.state.wrapping_add(1);
            let chosen = (u128::from(key_hash(&self.state)) * targets.len() as u128) >> 64;
            targets[chosen as usize].push(record, timestamp);
        }
        Ok(())
    }
}

/// A copy to each.
#[derive(Clone, Copy, Debug)]
pub struct BroadcastPartitioner;

impl<T: Clone> Partitioner<T> for BroadcastPartitioner {
    fn partition(&mut self, mut batch: RecordBatch<T>, targets: &mut [RecordBatch<T>]) -> Result<(), String> {
        if let Some((last, others)) = targets.split_last_mut() {
            others.iter_mut().for_each(|target| target.append(&mut batch.clone()));
            last.append(&mut batch);
        }
        Ok(())
    }
}

/// Where the user's function says: it gets the key and the number of channels.
#[derive(Clone)]
pub struct CustomPartitioner<F> {
    choose: F,
}

impl<F> fmt::Debug for CustomPartitioner<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomPartitioner")
    }
}

impl<F> CustomPartitioner<F> {
    /// A partitioner by `choose(record, n_channels)`.
    pub fn new(choose: F) -> Self {
        Self { choose }
    }
}

impl<T, F: Fn(&T, usize) -> usize + Send> Partitioner<T> for CustomPartitioner<F> {
    fn partition(&mut self, batch: RecordBatch<T>, targets: &mut [RecordBatch<T>]) -> Result<(), String> {
        let n_targets = targets.len();
        for (record, timestamp) in batch {
            let chosen = (self.choose)(&record, n_targets);
            let Some(target) = targets.get_mut(chosen) else {
                return Err(format!("the custom partitioner chose channel {chosen} of {n_targets} (from 0)"));
            };
            target.push(record, timestamp);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_types::NO_TIMESTAMP;
    use proptest::prelude::*;

    /// What a partitioner by the record itself makes of batches, each of them timed or not.
    fn partition<T: Clone + Serialize>(
        batches: &[(Vec<T>, bool)],
        max_parallelism: u32,
        n_targets: usize,
    ) -> Vec<Vec<(T, i64)>> {
        let mut partitioner = HashPartitioner::new(T::clone, max_parallelism);
        let mut targets = vec![RecordBatch::default(); n_targets];
        let mut at = 0;
        for (records, is_timed) in batches {
            let times = if *is_timed { (at..).take(records.len()).collect() } else { Vec::new() };
            at += records.len() as i64;
            let batch = RecordBatch::from_columns(records.clone(), times);
            partitioner.partition(batch, &mut targets).expect("hash partitioners do not fail");
        }
        targets.into_iter().map(|target| target.into_iter().collect()).collect()
    }

    fn expected<T: Clone + Serialize>(
        batches: &[(Vec<T>, bool)],
        max_parallelism: u32,
        n_targets: usize,
    ) -> Vec<Vec<(T, i64)>> {
        let mut targets = vec![Vec::new(); n_targets];
        let records =
            batches.iter().flat_map(|(records, is_timed)| records.iter().zip(std::iter::repeat(is_timed)));
        for ((record, is_timed), at) in records.zip(0..) {
            let group = key_group(key_hash(record), max_parallelism);
            let target = subtask_for_key_group(group, max_parallelism, n_targets as u32);
            targets[target.as_usize()].push((record.clone(), if *is_timed { at } else { NO_TIMESTAMP }));
        }
        targets
    }

    proptest! {
        #[test]
        fn a_record_goes_to_the_subtask_of_its_key_group_and_overtakes_none(
            batches in proptest::collection::vec((proptest::collection::vec(0..500_u64, 0..50), any::<bool>()), 1..8),
            n_targets in 1..7_usize,
            max_parallelism in 7..300_u32,
        ) {
            prop_assert_eq!(
                partition(&batches, max_parallelism, n_targets),
                expected(&batches, max_parallelism, n_targets)
            );
            // Records that own memory are moved, not copied: another way to the same end.
            let text: Vec<_> = batches
                .iter()
                .map(|(records, is_timed)| (records.iter().map(u64::to_string).collect::<Vec<_>>(), *is_timed))
                .collect();
            prop_assert_eq!(
                partition(&text, max_parallelism, n_targets),
                expected(&text, max_parallelism, n_targets)
            );
        }
    }
}
