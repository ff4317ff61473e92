//! A link of an operator chain: the operator, and what it emits into.

use flott_operators::{Operator, OperatorOutput, Output, OutputControl, OutputMetrics, SideChannels};
use flott_state::{ChainSnapshot, OperatorSnapshot, SnapshotProgress};
use flott_types::{
    CheckpointBarrier, CheckpointId, Error, OperatorUid, RecordBatch, Result, StreamStatus, Timestamp,
    Watermark,
};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// Where an operator runs, for error messages.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) operator: String,
    pub(crate) uid: OperatorUid,
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People count subtasks from one, as Flink's UI does.
        write!(f, "operator '{}' subtask {}/{}", self.operator, self.subtask + 1, self.parallelism)
    }
}

/// Runs `f`, which calls user code, and turns a panic into an error.
pub(crate) fn guard<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|payload| Err(Error::subtask(panic_text(payload.as_ref()))))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("user code panicked: {}", text.unwrap_or_else(|| "no message".to_owned()))
}

/// An operator with one input in its place: takes what [`Output`] takes and calls the operator.
pub struct ChainLink<I, O, Op> {
    operator: Op,
    output: Box<dyn Output<O>>,
    sides: SideChannels,
    metrics: Arc<OutputMetrics>,
    place: Place,
    records_in: u64,
    input: PhantomData<fn(I)>,
}

impl<I, O, Op> fmt::Debug for ChainLink<I, O, Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainLink({})", self.place)
    }
}

impl<I, O, Op: Operator<I, O>> ChainLink<I, O, Op> {
    pub(crate) fn new(
        operator: Op,
        output: Box<dyn Output<O>>,
        sides: SideChannels,
        metrics: Arc<OutputMetrics>,
        place: Place,
    ) -> Self {
        Self { operator, output, sides, metrics, place, records_in: 0, input: PhantomData }
    }

    /// Calls the operator about anything but records; a failure of its own, unlike one from further down, gets this link's
    /// place.
    fn call<R>(&mut self, f: impl FnOnce(&mut Op, &mut OperatorOutput<'_, O>) -> Result<R>) -> Result<R> {
        let Self { operator, output, sides, metrics, place, records_in, .. } = self;
        let mut out = OperatorOutput::new(&mut **output, sides, metrics);
        let result = guard(|| f(operator, &mut out));
        let value = result.map_err(|error| error.at(|| format!("{place}, after record {records_in}")))?;
        sides.flush()?;
        Ok(value)
    }
}

impl<I, O, Op: Operator<I, O>> OutputControl for ChainLink<I, O, Op> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.metrics.current_input_watermark.store(watermark.0, Ordering::Relaxed);
        self.call(|operator, out| operator.on_watermark(watermark, out))
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.call(|operator, out| operator.on_status(status, out))
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.call(|operator, out| operator.on_end_of_data(out))
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        self.call(|operator, out| operator.on_processing_time(now, out))?;
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.processing_time(now))?;
        self.output.processing_time(now)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        let sides = self.sides.receivers.iter().filter_map(|(_, receiver)| receiver.next_timer());
        self.operator.next_timer().into_iter().chain(self.output.next_timer()).chain(sides).min()
    }
    fn flush(&mut self) -> Result<()> {
        self.call(|operator, out| operator.flush(out))?;
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.flush())?;
        self.output.flush()
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // Downstream first: the operator may emit only when what follows can take it.
        let mut ready = self.output.poll_ready(cx)?;
        for (_, receiver) in &mut self.sides.receivers {
            ready = both(ready, receiver.poll_ready(cx)?);
        }
        if ready.is_pending() {
            // Calls to something outside must not time out because nobody asked how they are.
            self.call(|operator, _| {
                operator.poll_pushed_back(cx);
                Ok(())
            })?;
            return Poll::Pending;
        }
        // What it emits now may fill the output again; the next call finds out.
        match self.call(|operator, out| Ok(operator.poll_ready(cx, out)))? {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.at(|| self.place.to_string()))),
            Poll::Ready(Ok(())) => self.output.poll_ready(cx),
            // It waits for something slow: what it has emitted does not wait with it to fill a batch.
            Poll::Pending => {
                self.output.flush()?;
                both(Poll::Pending, self.output.poll_ready(cx)?).map(Ok)
            }
        }
    }
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        let mut snapshot = OperatorSnapshot::default();
        self.call(|operator, _| operator.snapshot(&mut snapshot))?;
        snapshots.push((self.place.uid.clone(), snapshot));
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.snapshot(snapshots))?;
        self.output.snapshot(snapshots)
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        // What it emits now gets into the snapshots of those downstream, which are taken next.
        self.call(|operator, out| operator.on_barrier(barrier, out))?;
        let mut snapshot = snapshots.begin();
        self.call(|operator, _| operator.begin_snapshot(&mut snapshot))?;
        snapshots.push(&self.place.uid, snapshot);
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.barrier(barrier, snapshots))?;
        self.output.barrier(barrier, snapshots)
    }
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        let own = self.call(|operator, _| Ok(operator.snapshot_step(places)))?;
        if own != SnapshotProgress::Complete {
            return Ok(own);
        }
        let sides = self.sides.receivers.iter_mut();
        match first_incomplete(sides, |(_, receiver)| receiver.snapshot_step(places))? {
            SnapshotProgress::Complete => self.output.snapshot_step(places),
            progress => Ok(progress),
        }
    }
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.call(|operator, _| operator.on_checkpoint_complete(checkpoint_id))?;
        let mut sides = self.sides.receivers.iter_mut();
        sides.try_for_each(|(_, receiver)| receiver.checkpoint_complete(checkpoint_id))?;
        self.output.checkpoint_complete(checkpoint_id)
    }
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.call(|operator, _| operator.on_checkpoint_aborted(checkpoint_id))?;
        let mut sides = self.sides.receivers.iter_mut();
        sides.try_for_each(|(_, receiver)| receiver.checkpoint_aborted(checkpoint_id))?;
        self.output.checkpoint_aborted(checkpoint_id)
    }
}

/// Goes on with the first of several snapshots that is not complete.
pub(crate) fn first_incomplete<T>(
    parts: impl Iterator<Item = T>,
    mut step: impl FnMut(T) -> Result<SnapshotProgress>,
) -> Result<SnapshotProgress> {
    for part in parts {
        match step(part)? {
            SnapshotProgress::Complete => {}
            progress => return Ok(progress),
        }
    }
    Ok(SnapshotProgress::Complete)
}

pub(crate) fn both(a: Poll<()>, b: Poll<()>) -> Poll<()> {
    if a.is_ready() && b.is_ready() { Poll::Ready(()) } else { Poll::Pending }
}

impl<I, O, Op: Operator<I, O>> Output<I> for ChainLink<I, O, Op> {
    fn emit(&mut self, batch: RecordBatch<I>) -> Result<()> {
        let n_records = batch.len() as u64;
        self.metrics.records_in.fetch_add(n_records, Ordering::Relaxed);
        let first = self.records_in;
        let place = &self.place;
        let at_record = |operator: &Op, error: Error| {
            error.at(|| format!("{place}, record {}", first + operator.progress() as u64 + 1))
        };
        let mut out = OperatorOutput::new(&mut *self.output, &mut self.sides, &self.metrics);
        let operator = &mut self.operator;
        let processed = guard(|| operator.process_batch(batch, &mut out));
        processed.map_err(|error| at_record(&self.operator, error))?;
        self.records_in += n_records;
        self.sides.flush()
    }
}
