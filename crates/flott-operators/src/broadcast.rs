//! Process functions that join a stream with a broadcast one. Input 1 is the main stream, input 2 the broadcast one.

use crate::keyed::KeyedScope;
use crate::operator::{OperatorContext, OperatorOutput, TwoInputOperator};
use crate::process::{UnkeyedScope, for_each_record};
use flott_api::{BroadcastContext, BroadcastProcessFunction, KeyedBroadcastProcessFunction};
use flott_state::{
    BegunSnapshot, HandleTypes, OperatorSnapshot, OperatorStateBackend, SnapshotProgress, StateTypes,
};
use flott_types::{Error, Key, RecordBatch, Result, SubtaskIndex, Timestamp, Watermark};
use std::fmt;

/// Runs a [`BroadcastProcessFunction`].
///
/// A record of the main stream sees the broadcast state beside the list and union state of its context, so these are
/// two backends. Which state is where follows from its kind; state of a kind that belongs into the other one is refused
/// when a snapshot is taken.
pub struct BroadcastProcessOperator<F> {
    function: F,
    /// List and union state.
    scope: UnkeyedScope,
    /// Broadcast state.
    broadcast: OperatorStateBackend,
    progress: usize,
}

impl<F> fmt::Debug for BroadcastProcessOperator<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastProcessOperator").field("broadcast", &self.broadcast).finish_non_exhaustive()
    }
}

impl<F> BroadcastProcessOperator<F> {
    /// An operator that runs `function`.
    pub fn new(function: F) -> Self {
        let broadcast = OperatorStateBackend::new(SubtaskIndex(0));
        Self { function, scope: UnkeyedScope::new(), broadcast, progress: 0 }
    }
}

fn misplaced(name: &str, kind: &str, side: &str) -> Error {
    Error::user(format!(
        "{kind} state '{name}' was written while a record of the {side} stream was processed"
    ))
}

impl<I, B, O, F: BroadcastProcessFunction<I, B, O>> TwoInputOperator<I, B, O>
    for BroadcastProcessOperator<F>
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.scope.open(ctx);
        self.broadcast = OperatorStateBackend::new(ctx.subtask);
        Ok(())
    }

    fn process_batch1(&mut self, batch: RecordBatch<I>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            let mut ctx = self.scope.context(timestamp);
            self.function.process_element(record, &mut ctx, &self.broadcast, collector)
        })
    }

    fn process_batch2(&mut self, batch: RecordBatch<B>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let watermark = self.scope.watermark();
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            let mut ctx = BroadcastContext { timestamp, watermark, state: &mut self.broadcast };
            self.function.process_broadcast_element(record, &mut ctx, collector)
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
        let mut broadcast = OperatorSnapshot::default();
        self.scope.snapshot(snapshot)?;
        self.broadcast.snapshot(&mut broadcast)?;
        if let Some(name) = snapshot.broadcast.keys().next() {
            return Err(misplaced(name, "broadcast", "main"));
        }
        if let Some(name) = broadcast.list.keys().chain(broadcast.union.keys()).next() {
            return Err(misplaced(name, "list", "broadcast"));
        }
        snapshot.broadcast = broadcast.broadcast;
        snapshot.schemas.broadcast = broadcast.schemas.broadcast;
        Ok(())
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let (broadcast, schemas) = (snapshot.broadcast.clone(), snapshot.schemas.clone());
        self.broadcast.restore(&OperatorSnapshot { broadcast, schemas, ..OperatorSnapshot::default() })?;
        let OperatorSnapshot { list, union, schemas, .. } = snapshot.clone();
        self.scope.restore(&OperatorSnapshot { list, union, schemas, ..OperatorSnapshot::default() })
    }

    fn state_types(&self, types: &mut StateTypes, handles: &HandleTypes) {
        types.add_operator_handles(handles);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

/// Runs a [`KeyedBroadcastProcessFunction`]; timers as in [`KeyedProcessOperator`](crate::KeyedProcessOperator).
pub struct KeyedBroadcastProcessOperator<K, F, S> {
    key_selector: S,
    function: F,
    scope: KeyedScope<K>,
    broadcast: OperatorStateBackend,
    progress: usize,
}

impl<K: Key, F, S> fmt::Debug for KeyedBroadcastProcessOperator<K, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBroadcastProcessOperator")
            .field("broadcast", &self.broadcast)
            .finish_non_exhaustive()
    }
}

impl<K: Key, F, S> KeyedBroadcastProcessOperator<K, F, S> {
    /// An operator that runs `function` on records whose key `key_selector` (`Fn(&I) -> K`) finds.
    pub fn new(key_selector: S, function: F) -> Self {
        let broadcast = OperatorStateBackend::new(SubtaskIndex(0));
        Self { key_selector, function, scope: KeyedScope::new(), broadcast, progress: 0 }
    }
}

impl<K, I, B, O, F, S> TwoInputOperator<I, B, O> for KeyedBroadcastProcessOperator<K, F, S>
where
    K: Key,
    F: KeyedBroadcastProcessFunction<K, I, B, O>,
    S: Fn(&I) -> K + Send,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.scope.open(ctx)?;
        self.broadcast = OperatorStateBackend::new(ctx.subtask);
        Ok(())
    }

    fn process_batch1(&mut self, batch: RecordBatch<I>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            let mut ctx = self.scope.enter((self.key_selector)(&record), timestamp);
            self.function.process_element(record, &mut ctx, &self.broadcast, collector)
        })?;
        self.scope.leave();
        Ok(())
    }

    fn process_batch2(&mut self, batch: RecordBatch<B>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let watermark = self.scope.watermark();
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            let mut ctx = BroadcastContext { timestamp, watermark, state: &mut self.broadcast };
            self.function.process_broadcast_element(record, &mut ctx, collector)
        })
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.scope.advance_event_time(watermark, out, |at, ctx, out| {
            self.function.on_timer(at, ctx, &self.broadcast, out)
        })?;
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.scope.advance_processing_time(now, out, |at, ctx, out| {
            self.function.on_timer(at, ctx, &self.broadcast, out)
        })
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.scope.next_timer()
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.broadcast.snapshot(snapshot)?;
        self.scope.snapshot(snapshot)
    }

    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        self.broadcast.snapshot(&mut begun.snapshot)?;
        self.scope.begin_snapshot(begun)
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        self.scope.snapshot_step(places)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.broadcast.restore(snapshot)?;
        self.scope.restore(snapshot)
    }

    fn state_types(&self, types: &mut StateTypes, handles: &HandleTypes) {
        KeyedScope::<K>::state_types(types, handles);
        types.add_operator_handles(handles);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
