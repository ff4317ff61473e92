//! What an operator is, and where it emits to.

use flott_api::{RuntimeContext, SideBuffer, SideOutputs};
use flott_state::{
    BegunSnapshot, ChainSnapshot, HandleTypes, OperatorSnapshot, SnapshotProgress, StateTypes,
};
use flott_types::{
    CheckpointBarrier, CheckpointId, Error, OperatorUid, RecordBatch, Result, StreamStatus, TagId, Timestamp,
    Watermark,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};

/// What an operator is told when it is opened; the same as its functions are.
pub type OperatorContext = RuntimeContext;

/// An operator with one input.
///
/// Legal calls: `open restore? (process_batch | on_watermark | on_status | on_processing_time | poll_ready |
/// poll_pushed_back | checkpoint)* on_end_of_data (poll_ready | poll_pushed_back | on_processing_time | checkpoint)*`, where `checkpoint` is
/// `on_barrier begin_snapshot | snapshot_step | on_checkpoint_complete | on_checkpoint_aborted`. Watermarks never go back. The operator
/// forwards watermarks, status and end of data itself, so that it can hold them behind what it still has to emit; the
/// defaults forward at once. After an error nothing more is called.
#[expect(
    clippy::missing_errors_doc,
    reason = "every error fails the subtask, as the trait's text says of all of them"
)]
pub trait Operator<I, O>: Send {
    /// Called once, before anything else.
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        let _unused = ctx;
        Ok(())
    }

    /// Processes records.
    fn process_batch(&mut self, batch: RecordBatch<I>, out: &mut OperatorOutput<'_, O>) -> Result<()>;

    /// Event time has advanced.
    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        out.emit_watermark(watermark)
    }

    /// The input has become idle or active.
    fn on_status(&mut self, status: StreamStatus, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        out.emit_status(status)
    }

    /// The wall clock, in milliseconds since the epoch. Called before a batch when the clock has moved and when
    /// [`Operator::next_timer`] is due.
    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let _unused = (now, out);
        Ok(())
    }

    /// When the operator next wants [`Operator::on_processing_time`].
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }

    /// No record follows. What remains is emitted before the end of data is.
    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        out.emit_end_of_data()
    }

    /// Input pauses: what is held only to be sent in larger pieces goes out now.
    fn flush(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let _unused = out;
        Ok(())
    }

    /// Goes on with asynchronous work and emits what has completed. `Pending` while no more input can be taken; the task is
    /// then woken by `cx`.
    fn poll_ready(&mut self, cx: &mut Context<'_>, out: &mut OperatorOutput<'_, O>) -> Poll<Result<()>> {
        let _unused = (cx, out);
        Poll::Ready(Ok(()))
    }

    /// Goes on with asynchronous work while what follows is full and nothing can be emitted; called in place of
    /// [`Operator::poll_ready`], as often.
    fn poll_pushed_back(&mut self, cx: &mut Context<'_>) {
        let _unused = cx;
    }

    /// The barrier of a checkpoint has come, and [`Operator::begin_snapshot`] follows with nothing in between. What must not be in the
    /// snapshot is emitted now: it goes before the barrier.
    fn on_barrier(&mut self, barrier: &CheckpointBarrier, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let _unused = (barrier, out);
        Ok(())
    }

    /// The checkpoint is complete: what was prepared for it and for earlier ones may have its effect outside.
    fn on_checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let _unused = checkpoint_id;
        Ok(())
    }

    /// The checkpoint will never be complete.
    fn on_checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let _unused = checkpoint_id;
        Ok(())
    }

    /// Adds all state to `snapshot`.
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()>;

    /// As [`Operator::snapshot`], but keyed state that may be large is only announced: [`Operator::snapshot_step`] sends what it is
    /// at this moment, while the operator goes on with records.
    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        self.snapshot(&mut begun.snapshot)
    }

    /// Goes on with what was begun, for `places` places of tables; with `usize::MAX` to the end. Called between any two other
    /// calls until it is complete, which it is before the next snapshot is begun.
    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        let _unused = places;
        SnapshotProgress::Complete
    }

    /// Takes over the state of a snapshot, already divided for this subtask.
    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()>;

    /// The types of its states, as far as they are known before a record has come; `handles` are those of its function.
    fn state_types(&self, types: &mut StateTypes, handles: &HandleTypes) {
        let _unused = (types, handles);
    }

    /// How many records of the batch at hand were processed, for error messages.
    fn progress(&self) -> usize {
        0
    }
}

/// An operator with two inputs of different types. As [`Operator`], but for two methods per input; watermarks and status
/// are already combined over both, and `on_end_of_data` comes when both have ended.
#[expect(
    clippy::missing_errors_doc,
    reason = "every error fails the subtask, as the trait's text says of all of them"
)]
pub trait TwoInputOperator<A, B, O>: Send {
    /// Called once, before anything else.
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        let _unused = ctx;
        Ok(())
    }
    /// Processes records of the first input.
    fn process_batch1(&mut self, batch: RecordBatch<A>, out: &mut OperatorOutput<'_, O>) -> Result<()>;
    /// Processes records of the second input.
    fn process_batch2(&mut self, batch: RecordBatch<B>, out: &mut OperatorOutput<'_, O>) -> Result<()>;
    /// Event time has advanced on both inputs.
    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        out.emit_watermark(watermark)
    }
    /// See [`Operator::on_processing_time`].
    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let _unused = (now, out);
        Ok(())
    }
    /// See [`Operator::next_timer`].
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    /// See [`Operator::on_end_of_data`].
    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        out.emit_end_of_data()
    }
    /// Adds all state to `snapshot`.
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()>;

    /// As [`TwoInputOperator::snapshot`], but keyed state that may be large is only announced: [`TwoInputOperator::snapshot_step`] sends what it is
    /// at this moment, while the operator goes on with records.
    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        self.snapshot(&mut begun.snapshot)
    }

    /// Goes on with what was begun, for `places` places of tables; with `usize::MAX` to the end. Called between any two other
    /// calls until it is complete, which it is before the next snapshot is begun.
    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        let _unused = places;
        SnapshotProgress::Complete
    }
    /// Takes over the state of a snapshot, already divided for this subtask.
    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()>;
    /// The types of its states, as far as they are known before a record has come; `handles` are those of its function.
    fn state_types(&self, types: &mut StateTypes, handles: &HandleTypes) {
        let _unused = (types, handles);
    }

    /// How many records of the batch at hand were processed, for error messages.
    fn progress(&self) -> usize {
        0
    }
}

/// What flows through a chain besides records, whatever their type.
#[expect(
    clippy::missing_errors_doc,
    reason = "an error is that of the operator downstream and fails the subtask"
)]
pub trait OutputControl: Send {
    /// Event time has advanced.
    fn watermark(&mut self, watermark: Watermark) -> Result<()>;
    /// The stream becomes idle or active.
    fn status(&mut self, status: StreamStatus) -> Result<()>;
    /// Nothing follows.
    fn end_of_data(&mut self) -> Result<()>;
    /// The wall clock, in milliseconds since the epoch.
    fn processing_time(&mut self, now: Timestamp) -> Result<()>;
    /// The next time at which somebody downstream in the chain wants [`OutputControl::processing_time`].
    fn next_timer(&self) -> Option<Timestamp>;
    /// Sends partial batches now.
    fn flush(&mut self) -> Result<()>;
    /// Whether more input can be taken; goes on with what keeps it from being so.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;
    /// Adds the snapshots of all operators downstream in the chain.
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()>;
    /// The barrier of a checkpoint: begins the snapshots of all operators downstream in the chain, each after what that operator emits
    /// before the barrier, and forwards the barrier.
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        let _unused = barrier;
        let mut whole = Vec::new();
        self.snapshot(&mut whole)?;
        whole.into_iter().for_each(|(uid, snapshot)| snapshots.push(&uid, snapshot.into()));
        Ok(())
    }
    /// Goes on with the snapshots that [`OutputControl::barrier`] has begun, in the order of their streams:
    /// [`Operator::snapshot_step`] of the first operator that is not complete.
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        let _unused = places;
        Ok(SnapshotProgress::Complete)
    }
    /// Tells all operators downstream in the chain that the checkpoint is complete.
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let _unused = checkpoint_id;
        Ok(())
    }
    /// Tells all operators downstream in the chain that the checkpoint will never be complete.
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let _unused = checkpoint_id;
        Ok(())
    }
}

/// Where records go: the next operator of the chain, or the partition at its end.
pub trait Output<T>: OutputControl {
    /// Takes a batch; it is not empty.
    ///
    /// # Errors
    /// That of an operator downstream, already with its place.
    fn emit(&mut self, batch: RecordBatch<T>) -> Result<()>;
}

impl<O: OutputControl + ?Sized> OutputControl for Box<O> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        (**self).watermark(watermark)
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        (**self).status(status)
    }
    fn end_of_data(&mut self) -> Result<()> {
        (**self).end_of_data()
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        (**self).processing_time(now)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        (**self).next_timer()
    }
    fn flush(&mut self) -> Result<()> {
        (**self).flush()
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        (**self).poll_ready(cx)
    }
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        (**self).snapshot(snapshots)
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        (**self).barrier(barrier, snapshots)
    }
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        (**self).snapshot_step(places)
    }
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        (**self).checkpoint_complete(checkpoint_id)
    }
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        (**self).checkpoint_aborted(checkpoint_id)
    }
}

impl<T, O: Output<T> + ?Sized> Output<T> for Box<O> {
    fn emit(&mut self, batch: RecordBatch<T>) -> Result<()> {
        (**self).emit(batch)
    }
}

/// Counters of one operator subtask, updated per batch, read by anybody. Named as Flink's metrics.
#[derive(Debug)]
pub struct OutputMetrics {
    /// `numRecordsIn`
    pub records_in: AtomicU64,
    /// `numRecordsOut`
    pub records_out: AtomicU64,
    /// `numLateRecordsDropped`
    pub late_records_dropped: AtomicU64,
    /// `numRecordsInErrors`: bad records of a source or sink, skipped or routed to a side output.
    pub records_in_errors: AtomicU64,
    /// `currentInputWatermark`
    pub current_input_watermark: AtomicI64,
}

impl Default for OutputMetrics {
    fn default() -> Self {
        Self {
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            late_records_dropped: AtomicU64::new(0),
            records_in_errors: AtomicU64::new(0),
            current_input_watermark: AtomicI64::new(i64::MIN),
        }
    }
}

/// A typed reader of a side output, erased.
pub trait SideReceiver: OutputControl {
    /// Takes a `RecordBatch` of the receiver's type.
    ///
    /// # Errors
    /// If the batch has another type, or that of an operator downstream.
    fn receive(&mut self, batch: Box<dyn std::any::Any + Send>) -> Result<()>;
}

/// The side outputs of an operator that somebody reads, and what was written to them since.
#[derive(Default)]
pub struct SideChannels {
    /// What was written and not yet sent on.
    pub outputs: SideOutputs,
    /// Who reads which tag.
    pub receivers: Vec<(TagId, Box<dyn SideReceiver>)>,
    /// Gets what is written to a tag that nobody reads, for test drivers.
    pub unread: Option<Box<dyn FnMut(SideBuffer) + Send>>,
}

impl fmt::Debug for SideChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideChannels").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl SideChannels {
    /// Sends on what was written. Records of a tag that nobody reads are dropped, as they are in Flink, unless
    /// [`SideChannels::unread`] takes them.
    ///
    /// # Errors
    /// That of an operator downstream.
    pub fn flush(&mut self) -> Result<()> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        for SideBuffer { tag, batch } in self.outputs.take() {
            let mut readers = self.receivers.iter_mut().filter(|(id, _)| *id == tag);
            match (readers.next(), &mut self.unread) {
                (Some((_, receiver)), _) => receiver.receive(batch)?,
                (None, Some(unread)) => unread(SideBuffer { tag: tag.clone(), batch }),
                (None, None) => {}
            }
            if readers.next().is_some() {
                return Err(Error::user(format!("side output '{tag}' has two receivers")));
            }
        }
        Ok(())
    }
}

/// Where an operator emits to: the main output and, by tag, side outputs.
pub struct OperatorOutput<'a, O> {
    output: &'a mut dyn Output<O>,
    sides: &'a mut SideChannels,
    metrics: &'a Arc<OutputMetrics>,
}

impl<O> fmt::Debug for OperatorOutput<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorOutput").field("sides", &self.sides).finish_non_exhaustive()
    }
}

impl<'a, O> OperatorOutput<'a, O> {
    /// An output, for the chain that calls the operator.
    pub fn new(
        output: &'a mut dyn Output<O>,
        sides: &'a mut SideChannels,
        metrics: &'a Arc<OutputMetrics>,
    ) -> Self {
        Self { output, sides, metrics }
    }

    /// Emits a batch, in the order of calls; an empty one is nothing.
    ///
    /// # Errors
    /// That of an operator downstream, already with its place.
    pub fn emit(&mut self, batch: RecordBatch<O>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.metrics.records_out.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.output.emit(batch)
    }

    /// The side outputs, to write to; they are sent on after the call, and before any watermark.
    pub fn sides(&mut self) -> &mut SideOutputs {
        &mut self.sides.outputs
    }

    /// The operator's counters.
    pub fn metrics(&self) -> &OutputMetrics {
        self.metrics
    }

    /// Forwards a watermark, to side outputs too.
    ///
    /// # Errors
    /// That of an operator downstream.
    pub fn emit_watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.control(|output| output.watermark(watermark))
    }

    /// Forwards a status, to side outputs too.
    ///
    /// # Errors
    /// That of an operator downstream.
    pub fn emit_status(&mut self, status: StreamStatus) -> Result<()> {
        self.control(|output| output.status(status))
    }

    /// Forwards the end of data, to side outputs too.
    ///
    /// # Errors
    /// That of an operator downstream.
    pub fn emit_end_of_data(&mut self) -> Result<()> {
        self.control(|output| output.end_of_data())
    }

    fn control(&mut self, mut send: impl FnMut(&mut dyn OutputControl) -> Result<()>) -> Result<()> {
        self.sides.flush()?;
        send(&mut *self.output)?;
        self.sides
            .receivers
            .iter_mut()
            .try_for_each(|(_, receiver)| send(&mut **receiver as &mut dyn OutputControl))
    }
}
