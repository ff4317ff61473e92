//! Process functions of two streams.

use crate::keyed::KeyedScope;
use crate::operator::{OperatorContext, OperatorOutput, TwoInputOperator};
use crate::process::{UnkeyedScope, for_each_record};
use flott_api::{CoProcessFunction, KeyedCoProcessFunction};
use flott_state::{BegunSnapshot, HandleTypes, OperatorSnapshot, SnapshotProgress, StateTypes};
use flott_types::{Key, RecordBatch, Result, Timestamp, Watermark};
use std::fmt;

/// Runs a [`CoProcessFunction`].
pub struct CoProcessOperator<F> {
    function: F,
    scope: UnkeyedScope,
    progress: usize,
}

impl<F> fmt::Debug for CoProcessOperator<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoProcessOperator")
            .field("watermark", &self.scope.watermark())
            .finish_non_exhaustive()
    }
}

impl<F> CoProcessOperator<F> {
    /// An operator that runs `function`.
    pub fn new(function: F) -> Self {
        Self { function, scope: UnkeyedScope::new(), progress: 0 }
    }
}

impl<A, B, O, F: CoProcessFunction<A, B, O>> TwoInputOperator<A, B, O> for CoProcessOperator<F> {
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.scope.open(ctx);
        Ok(())
    }

    fn process_batch1(&mut self, batch: RecordBatch<A>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            self.function.process_element1(record, &mut self.scope.context(timestamp), collector)
        })
    }

    fn process_batch2(&mut self, batch: RecordBatch<B>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            self.function.process_element2(record, &mut self.scope.context(timestamp), collector)
        })
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.scope.advance_event_time(watermark);
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, _: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.scope.processing_time = now;
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.scope.snapshot(snapshot)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.scope.restore(snapshot)
    }

    fn state_types(&self, types: &mut StateTypes, handles: &HandleTypes) {
        types.add_operator_handles(handles);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

/// Runs a [`KeyedCoProcessFunction`]; timers as in [`KeyedProcessOperator`](crate::KeyedProcessOperator).
pub struct KeyedCoProcessOperator<K, F, S1, S2> {
    key_selector1: S1,
    key_selector2: S2,
    function: F,
    scope: KeyedScope<K>,
    progress: usize,
}

impl<K: Key, F, S1, S2> fmt::Debug for KeyedCoProcessOperator<K, F, S1, S2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watermark = self.scope.watermark();
        f.debug_struct("KeyedCoProcessOperator").field("watermark", &watermark).finish_non_exhaustive()
    }
}

impl<K: Key, F, S1, S2> KeyedCoProcessOperator<K, F, S1, S2> {
    /// An operator that runs `function` on records whose key `key_selector1` (`Fn(&A) -> K`) or `key_selector2`
    /// (`Fn(&B) -> K`) finds.
    pub fn new(key_selector1: S1, key_selector2: S2, function: F) -> Self {
        Self { key_selector1, key_selector2, function, scope: KeyedScope::new(), progress: 0 }
    }
}

impl<K, A, B, O, F, S1, S2> TwoInputOperator<A, B, O> for KeyedCoProcessOperator<K, F, S1, S2>
where
    K: Key,
    F: KeyedCoProcessFunction<K, A, B, O>,
    S1: Fn(&A) -> K + Send,
    S2: Fn(&B) -> K + Send,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.scope.open(ctx)?;
        Ok(())
    }

    fn process_batch1(&mut self, batch: RecordBatch<A>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            let mut ctx = self.scope.enter((self.key_selector1)(&record), timestamp);
            self.function.process_element1(record, &mut ctx, collector)
        })?;
        self.scope.leave();
        Ok(())
    }

    fn process_batch2(&mut self, batch: RecordBatch<B>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            let mut ctx = self.scope.enter((self.key_selector2)(&record), timestamp);
            self.function.process_element2(record, &mut ctx, collector)
        })?;
        self.scope.leave();
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.scope.advance_event_time(watermark, out, |at, ctx, out| self.function.on_timer(at, ctx, out))?;
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.scope.advance_processing_time(now, out, |at, ctx, out| self.function.on_timer(at, ctx, out))
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.scope.next_timer()
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.scope.snapshot(snapshot)
    }

    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        self.scope.begin_snapshot(begun)
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        self.scope.snapshot_step(places)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.scope.restore(snapshot)
    }

    fn state_types(&self, types: &mut StateTypes, handles: &HandleTypes) {
        KeyedScope::<K>::state_types(types, handles);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
