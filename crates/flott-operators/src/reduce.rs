//! A running reduction per key.

use crate::keyed::{KeyPlacement, local_state};
use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::Progress;
use flott_state::{
    BegunSnapshot, GroupLayout, HandleTypes, KeyedSchemas, KeyedTable, OperatorSnapshot, SnapshotProgress,
    StateTypes,
};
use flott_types::{Data, Key, RecordBatch, Result, key_hash};
use std::fmt;

/// The keyed state with the reduction of each key.
const REDUCED: &str = "_reduce";

/// Folds each record into the value of its key and emits the new value, with the record's timestamp. The first record
/// of a key is its value.
pub struct ReduceOperator<K, T, F, S> {
    key_selector: S,
    reduce: F,
    values: KeyedTable<K, T>,
    schemas: KeyedSchemas,
    placement: KeyPlacement,
    progress: usize,
}

impl<K, T, F, S> fmt::Debug for ReduceOperator<K, T, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReduceOperator").field("placement", &self.placement).finish_non_exhaustive()
    }
}

impl<K, T, F, S> ReduceOperator<K, T, F, S>
where
    K: Key,
    T: Data,
    F: FnMut(&mut T, T) + Send,
    S: Fn(&T) -> K + Send,
{
    /// An operator that folds with `reduce`, which gets the value of a key and the next record.
    pub fn new(key_selector: S, reduce: F) -> Self {
        let (values, schemas) = (KeyedTable::default(), KeyedSchemas::default());
        Self { key_selector, reduce, values, schemas, placement: KeyPlacement::ALL, progress: 0 }
    }
}

impl<K, T, F, S> Operator<T, T> for ReduceOperator<K, T, F, S>
where
    K: Key,
    T: Data,
    F: FnMut(&mut T, T) + Send,
    S: Fn(&T) -> K + Send,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.placement = KeyPlacement::new(ctx);
        self.values = local_state(ctx)?.table();
        self.schemas = self.placement.schemas();
        self.schemas.bind::<(K, T)>(REDUCED)?;
        Ok(())
    }

    fn process_batch(&mut self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, T>) -> Result<()> {
        let (records, timestamps) = batch.into_columns();
        let mut progress = Progress::start(&mut self.progress);
        // The values take the memory of the records, and the timestamps stay.
        let reduced = records.into_iter().map(|record| {
            let key = (self.key_selector)(&record);
            let hash = key_hash(&key);
            self.placement.check(hash);
            let reduced = match self.values.load_mut(hash, &key)?.get_mut(hash, &key) {
                Some(value) => {
                    (self.reduce)(value, record);
                    value.clone()
                }
                None => {
                    self.values.insert(hash, &key, record.clone());
                    record
                }
            };
            progress.advance();
            Ok(reduced)
        });
        let reduced = reduced.collect::<Result<_>>()?;
        out.emit(RecordBatch::from_columns(reduced, timestamps))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        snapshot.max_parallelism = max_parallelism;
        snapshot.keyed.insert(REDUCED.to_owned(), self.values.snapshot(REDUCED, max_parallelism)?);
        self.schemas.snapshot(snapshot)
    }

    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        begun.snapshot.max_parallelism = max_parallelism;
        self.schemas.snapshot(&mut begun.snapshot)?;
        self.values.begin_snapshot_of_pairs(&begun.stream(REDUCED, max_parallelism, GroupLayout::Entries))
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        self.values.snapshot_step(places)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.placement.check_snapshot(snapshot)?;
        self.schemas.restore(snapshot)?;
        let reader = self.schemas.bind::<(K, T)>(REDUCED)?;
        match snapshot.keyed.get(REDUCED) {
            Some(groups) => self.values.restore(REDUCED, self.placement.max_parallelism(), groups, &reader),
            None => Ok(()),
        }
    }

    fn state_types(&self, types: &mut StateTypes, _: &HandleTypes) {
        types.add::<(K, T)>(REDUCED);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
