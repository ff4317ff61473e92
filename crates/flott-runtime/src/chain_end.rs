//! Where a chain ends or forks: partitions, fan-out, side outputs, and nothing at all.

use crate::chain::{both, first_incomplete};
use flott_exchange::ResultPartition;
use flott_operators::{Output, OutputControl, SideReceiver};
use flott_state::{ChainSnapshot, OperatorSnapshot, SnapshotProgress};
use flott_types::{
    CheckpointBarrier, CheckpointId, Data, Error, OperatorUid, RecordBatch, Result, StreamStatus, Timestamp,
    Watermark,
};
use std::any::Any;
use std::task::{Context, Poll};

/// The end of a chain whose output goes to other tasks.
pub(crate) struct PartitionEnd<T>(pub(crate) ResultPartition<T>);

impl<T: Data> OutputControl for PartitionEnd<T> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.0.watermark(watermark);
        Ok(())
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.0.status(status);
        Ok(())
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.0.end_of_data();
        Ok(())
    }
    fn processing_time(&mut self, _: Timestamp) -> Result<()> {
        Ok(())
    }
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    fn flush(&mut self) -> Result<()> {
        self.0.flush();
        Ok(())
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.poll_ready(cx).map(|sent| sent.map_err(|_| downstream_gone()))
    }
    fn snapshot(&mut self, _: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        Ok(())
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, _: &mut ChainSnapshot) -> Result<()> {
        self.0.barrier(*barrier).map_err(|_| downstream_gone())
    }
}

fn downstream_gone() -> Error {
    Error::subtask("a task downstream has stopped")
}

impl<T: Data> Output<T> for PartitionEnd<T> {
    fn emit(&mut self, batch: RecordBatch<T>) -> Result<()> {
        self.0.emit(batch).map_err(Error::user)
    }
}

/// Several readers of one stream: all but the last get copies. With no reader, records are dropped.
pub(crate) struct Tee<T>(pub(crate) Vec<Box<dyn Output<T>>>);

impl<T: Data> Tee<T> {
    /// The one output of `outputs`, or a fan-out to all.
    pub(crate) fn join(mut outputs: Vec<Box<dyn Output<T>>>) -> Box<dyn Output<T>> {
        match (outputs.pop(), outputs.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                outputs.push(last);
                Box::new(Self(outputs))
            }
            (None, _) => Box::new(Self(Vec::new())),
        }
    }
}

impl<T: Data> OutputControl for Tee<T> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.watermark(watermark))
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.status(status))
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.end_of_data())
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.processing_time(now))
    }
    fn next_timer(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|output| output.next_timer()).min()
    }
    fn flush(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.flush())
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut ready = Poll::Ready(());
        for output in &mut self.0 {
            ready = both(ready, output.poll_ready(cx)?);
        }
        ready.map(Ok)
    }
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.snapshot(snapshots))
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.barrier(barrier, snapshots))
    }
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        first_incomplete(self.0.iter_mut(), |output| output.snapshot_step(places))
    }
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.checkpoint_complete(checkpoint_id))
    }
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.0.iter_mut().try_for_each(|output| output.checkpoint_aborted(checkpoint_id))
    }
}

impl<T: Data> Output<T> for Tee<T> {
    fn emit(&mut self, batch: RecordBatch<T>) -> Result<()> {
        if let Some((last, others)) = self.0.split_last_mut() {
            others.iter_mut().try_for_each(|output| output.emit(batch.clone()))?;
            last.emit(batch)?;
        }
        Ok(())
    }
}

/// The readers of one side output.
pub(crate) struct SideEnd<T>(pub(crate) Box<dyn Output<T>>);

impl<T: Data> OutputControl for SideEnd<T> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.0.watermark(watermark)
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.0.status(status)
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.0.end_of_data()
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        self.0.processing_time(now)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        self.0.next_timer()
    }
    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.poll_ready(cx)
    }
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        self.0.snapshot(snapshots)
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        self.0.barrier(barrier, snapshots)
    }
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        self.0.snapshot_step(places)
    }
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.0.checkpoint_complete(checkpoint_id)
    }
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.0.checkpoint_aborted(checkpoint_id)
    }
}

impl<T: Data> SideReceiver for SideEnd<T> {
    fn receive(&mut self, batch: Box<dyn Any + Send>) -> Result<()> {
        match batch.downcast::<RecordBatch<T>>() {
            Ok(batch) => self.0.emit(*batch),
            Err(_) => {
                Err(Error::user("a side output is read as another record type than it is written with"))
            }
        }
    }
}
