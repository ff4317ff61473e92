//! Process functions: records one by one, with or without keyed state and timers.

use crate::keyed::KeyedScope;
use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::{Progress, user_error};
use crate::watermark_state;
use flott_api::{Collector, KeyedProcessFunction, ProcessContext, ProcessFunction, UserResult};
use flott_state::{
    BegunSnapshot, HandleTypes, OperatorSnapshot, OperatorStateBackend, SnapshotProgress, StateTypes, decode,
    encode,
};
use flott_types::{Key, NO_TIMESTAMP, RecordBatch, Result, SubtaskIndex, Timestamp, Watermark};
use std::fmt;

/// Operator state and clocks: what a function of records without keys sees besides the record.
pub(crate) struct UnkeyedScope {
    state: OperatorStateBackend,
    watermark: Watermark,
    pub(crate) processing_time: Timestamp,
}

impl UnkeyedScope {
    /// Empty; [`UnkeyedScope::open`] tells it its place.
    pub(crate) fn new() -> Self {
        let state = OperatorStateBackend::new(SubtaskIndex(0));
        Self { state, watermark: Watermark::MIN, processing_time: 0 }
    }

    pub(crate) fn open(&mut self, ctx: &OperatorContext) {
        self.state = OperatorStateBackend::new(ctx.subtask);
        self.processing_time = ctx.env.processing_time();
    }

    pub(crate) fn watermark(&self) -> Watermark {
        self.watermark
    }

    #[inline]
    pub(crate) fn context(&mut self, timestamp: Timestamp) -> ProcessContext<'_> {
        let Self { state, watermark, processing_time } = self;
        ProcessContext { timestamp, watermark: *watermark, processing_time: *processing_time, state }
    }

    /// After a restore the watermark of the snapshot may be ahead of the one that comes.
    pub(crate) fn advance_event_time(&mut self, watermark: Watermark) {
        self.watermark = self.watermark.max(watermark);
    }

    pub(crate) fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.state.snapshot(snapshot)?;
        watermark_state::save(self.watermark, snapshot)
    }

    pub(crate) fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.watermark = watermark_state::load(snapshot)?;
        self.state.restore(snapshot)
    }
}

/// Calls `process` for each record of a batch and emits what it collects, also before it returns an error.
#[inline]
pub(crate) fn for_each_record<I, O>(
    batch: RecordBatch<I>,
    progress: &mut usize,
    out: &mut OperatorOutput<'_, O>,
    mut process: impl FnMut(I, Timestamp, &mut Collector<'_, O>) -> UserResult,
) -> Result<()> {
    let mut progress = Progress::start(progress);
    let mut made = RecordBatch::default();
    for (record, timestamp) in batch {
        let mut collector = Collector::new(&mut made, out.sides(), timestamp);
        if let Err(error) = process(record, timestamp, &mut collector) {
            out.emit(made)?;
            return Err(user_error("the process function", error));
        }
        progress.advance();
        if made.len() >= EMIT_AT {
            out.emit(made.take())?;
        }
    }
    out.emit(made)
}

/// Output is sent on when there are this many records: one record may make very many.
const EMIT_AT: usize = 1024;

/// Runs a [`ProcessFunction`].
pub struct ProcessOperator<F> {
    function: F,
    scope: UnkeyedScope,
    progress: usize,
    subtask: SubtaskIndex,
    parallelism: u32,
    /// The function was closed, here or before a restart: what it emits then is emitted once.
    closed: bool,
}

impl<F> fmt::Debug for ProcessOperator<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessOperator").field("watermark", &self.scope.watermark()).finish_non_exhaustive()
    }
}

impl<F> ProcessOperator<F> {
    /// An operator that runs `function`.
    pub fn new(function: F) -> Self {
        let scope = UnkeyedScope::new();
        Self { function, scope, progress: 0, subtask: SubtaskIndex(0), parallelism: 1, closed: false }
    }
}

/// The union state that says, for each subtask, whether its function was closed.
const CLOSED: &str = "_closed";

impl<I, O, F: ProcessFunction<I, O>> Operator<I, O> for ProcessOperator<F> {
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        (self.subtask, self.parallelism) = (ctx.subtask, ctx.parallelism);
        self.scope.open(ctx);
        self.function.open(ctx).map_err(|error| user_error("opening the process function", error))
    }

    fn process_batch(&mut self, batch: RecordBatch<I>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            self.function.process_element(record, &mut self.scope.context(timestamp), collector)
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

    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return out.emit_end_of_data();
        }
        let mut made = RecordBatch::default();
        let closed = self.function.close(&mut Collector::new(&mut made, out.sides(), NO_TIMESTAMP));
        out.emit(made)?;
        closed.map_err(|error| user_error("closing the process function", error))?;
        out.emit_end_of_data()
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.scope.snapshot(snapshot)?;
        snapshot.union.insert(CLOSED.to_owned(), vec![encode(CLOSED, &self.closed)?]);
        Ok(())
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.scope.restore(snapshot)?;
        let entries = snapshot.union.get(CLOSED).into_iter().flatten();
        let closed = entries.map(|bytes| decode(CLOSED, bytes)).collect::<Result<Vec<bool>>>()?;
        // At another parallelism nobody can say which new subtask continues a closed one, unless all were.
        self.closed = match closed.get(self.subtask.as_usize()) {
            Some(own) if closed.len() == self.parallelism as usize => *own,
            _ => !closed.is_empty() && closed.iter().all(|closed| *closed),
        };
        Ok(())
    }

    fn state_types(&self, types: &mut StateTypes, handles: &HandleTypes) {
        types.add_operator_handles(handles);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

/// Runs a [`KeyedProcessFunction`].
///
/// Event-time timers fire when a watermark comes, in the order of their times and before the watermark is forwarded; a
/// timer that a firing sets fires too if it is due. Processing-time timers that are not due when the input ends do not
/// fire.
pub struct KeyedProcessOperator<K, F, S> {
    key_selector: S,
    function: F,
    scope: KeyedScope<K>,
    progress: usize,
}

impl<K: Key, F, S> fmt::Debug for KeyedProcessOperator<K, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedProcessOperator")
            .field("watermark", &self.scope.watermark())
            .finish_non_exhaustive()
    }
}

impl<K: Key, F, S> KeyedProcessOperator<K, F, S> {
    /// An operator that runs `function` on records whose key `key_selector` (`Fn(&I) -> K`) finds.
    pub fn new(key_selector: S, function: F) -> Self {
        Self { key_selector, function, scope: KeyedScope::new(), progress: 0 }
    }
}

impl<K, I, O, F, S> Operator<I, O> for KeyedProcessOperator<K, F, S>
where
    K: Key,
    F: KeyedProcessFunction<K, I, O>,
    S: Fn(&I) -> K + Send,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.scope.open(ctx)?;
        self.function.open(ctx).map_err(|error| user_error("opening the process function", error))
    }

    fn process_batch(&mut self, batch: RecordBatch<I>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for_each_record(batch, &mut self.progress, out, |record, timestamp, collector| {
            let mut ctx = self.scope.enter((self.key_selector)(&record), timestamp);
            self.function.process_element(record, &mut ctx, collector)
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
