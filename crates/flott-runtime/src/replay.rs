//! Records that were in flight to an operator that has no channels any more, because it is chained now.

use flott_operators::{Output, OutputControl};
use flott_state::{
    ChainSnapshot, IN_FLIGHT, InFlightLayout, OperatorSnapshot, SnapshotProgress, encode_element,
    encode_layout, record_schema,
};
use flott_types::{
    CheckpointBarrier, CheckpointId, Data, OperatorUid, RecordBatch, Result, StreamElement, StreamStatus,
    Timestamp, Watermark,
};
use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

/// In front of an operator of a chain: emits into it what was in flight before anything else is. One batch at a time as long as what
/// follows can take it; all at once when something comes that must not overtake. What is left at a checkpoint stays in flight.
pub(crate) struct ReplayFirst<T> {
    /// Whose the records are now.
    layout: InFlightLayout,
    /// By the number of a channel in `layout`.
    batches: VecDeque<(usize, StreamElement<T>)>,
    operator: Box<dyn Output<T>>,
}

impl<T: Data> ReplayFirst<T> {
    pub(crate) fn new(
        layout: InFlightLayout,
        batches: impl IntoIterator<Item = (usize, RecordBatch<T>)>,
        operator: Box<dyn Output<T>>,
    ) -> Self {
        let records = |(channel, batch)| (channel, StreamElement::Records(batch));
        Self { layout, batches: batches.into_iter().map(records).collect(), operator }
    }

    fn replay_next(&mut self) -> Result<bool> {
        match self.batches.pop_front() {
            Some((_, StreamElement::Records(batch))) => self.operator.emit(batch).map(|()| true),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    fn replayed(&mut self) -> Result<&mut dyn Output<T>> {
        while self.replay_next()? {}
        Ok(&mut *self.operator)
    }

    fn entries(&self) -> Result<Vec<Vec<u8>>> {
        let schemas = vec![record_schema::<T>(); self.layout.edges.len()];
        let mut entries = vec![encode_layout(self.layout.clone(), &schemas)?];
        for (channel, batch) in &self.batches {
            entries.extend(encode_element(*channel, batch)?);
        }
        Ok(entries)
    }
}

impl<T: Data> OutputControl for ReplayFirst<T> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.replayed()?.watermark(watermark)
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.replayed()?.status(status)
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.replayed()?.end_of_data()
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        self.operator.processing_time(now)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        self.operator.next_timer()
    }
    fn flush(&mut self) -> Result<()> {
        self.operator.flush()
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            ready!(self.operator.poll_ready(cx))?;
            if !self.replay_next()? {
                return Poll::Ready(Ok(()));
            }
        }
    }
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        self.replayed()?.snapshot(snapshots)
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        if self.batches.is_empty() || barrier.kind.is_savepoint() {
            // A savepoint has nothing in flight, so that the program may change.
            return self.replayed()?.barrier(barrier, snapshots);
        }
        let own = snapshots.operators.len();
        self.operator.barrier(barrier, snapshots)?;
        if let Some((_, begun)) = snapshots.operators.get_mut(own) {
            begun.snapshot.list.insert(IN_FLIGHT.to_owned(), self.entries()?);
        }
        Ok(())
    }
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        self.operator.snapshot_step(places)
    }
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.operator.checkpoint_complete(checkpoint_id)
    }
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.operator.checkpoint_aborted(checkpoint_id)
    }
}

impl<T: Data> Output<T> for ReplayFirst<T> {
    fn emit(&mut self, batch: RecordBatch<T>) -> Result<()> {
        self.replayed()?.emit(batch)
    }
}
