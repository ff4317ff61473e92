//! The end of a chain: records are collected per channel and sent as batches.

use crate::channel::{ChannelClosed, ChannelSender, Outgoing};
use crate::partitioner::Partitioner;
use flott_env::canary;
use flott_types::{
    CheckpointBarrier, Data, RecordBatch, StreamElement, StreamStatus, Timestamp, Watermark, approximate_size,
};
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};

/// What a batch holds at least, unless it then has more than four times the records that were asked for.
const BATCH_BYTES: usize = 64 * 1024;

/// Large records wait for each other up to so many bytes only, however many records a batch was to have.
const COLLECTED_BYTES_MAX: usize = 1 << 20;

/// Divides the output of a subtask among its channels.
///
/// Emitting never blocks: what a full channel does not take waits here, and the subtask takes no more input until
/// [`ResultPartition::poll_ready`] says so. What waits is bounded by what one input element produces.
pub struct ResultPartition<T> {
    partitioner: Box<dyn Partitioner<T>>,
    channels: Vec<ChannelSender<T>>,
    collecting: Vec<RecordBatch<T>>,
    /// What each channel has not taken yet.
    outgoing: Vec<VecDeque<Outgoing<T>>>,
    batch_size: usize,
    /// Whether barriers of checkpoints may overtake records behind this.
    overtakes: bool,
    /// The end of data was sent.
    ended: bool,
    /// Bytes of a record, measured on one record of the last batch.
    record_bytes: usize,
}

impl<T> fmt::Debug for ResultPartition<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultPartition").field("channels", &self.channels.len()).finish_non_exhaustive()
    }
}

impl<T: Data> ResultPartition<T> {
    /// A partition that sends batches of about `batch_size` records, up to four times as many if they are small, and fewer if they are larger than a megabyte
    /// together.
    pub fn new(
        partitioner: Box<dyn Partitioner<T>>,
        channels: Vec<ChannelSender<T>>,
        batch_size: usize,
    ) -> Self {
        let collecting = channels.iter().map(|_| RecordBatch::default()).collect();
        let outgoing = channels.iter().map(|_| VecDeque::new()).collect();
        let record_bytes = size_of::<T>();
        Self {
            partitioner,
            channels,
            collecting,
            outgoing,
            batch_size,
            overtakes: false,
            ended: false,
            record_bytes,
        }
    }

    /// The same partition for barriers that may overtake records in its channels.
    #[must_use]
    pub fn with_overtaking(self) -> Self {
        Self { overtakes: true, ..self }
    }

    /// Takes records.
    ///
    /// # Errors
    /// If a custom partitioner names a channel that does not exist.
    pub fn emit(&mut self, batch: RecordBatch<T>) -> Result<(), String> {
        if let Some(record) = batch.records().first() {
            self.record_bytes = approximate_size(record);
        }
        let full = self.full_batch();
        for collecting in self.collecting.iter_mut().filter(|collecting| collecting.is_empty()) {
            collecting.reserve(full + self.batch_size, batch.is_timed());
        }
        self.partitioner.partition(batch, &mut self.collecting)?;
        for channel in 0..self.collecting.len() {
            self.send_if(channel, full);
        }
        Ok(())
    }

    /// How many records are sent at once when many come. A batch costs a lock and may cost waking up a thread, so small
    /// records go in larger batches, and large ones in smaller.
    fn full_batch(&self) -> usize {
        let within = |bytes: usize| bytes / self.record_bytes.max(1);
        let many = within(BATCH_BYTES).clamp(self.batch_size, 4 * self.batch_size);
        many.min(within(COLLECTED_BYTES_MAX).max(1))
    }

    /// Forwards a watermark to all channels, behind all records.
    pub fn watermark(&mut self, watermark: Watermark) {
        self.broadcast(&StreamElement::Watermark(watermark));
    }

    /// Forwards a status to all channels, behind all records.
    pub fn status(&mut self, status: StreamStatus) {
        self.broadcast(&StreamElement::Status(status));
    }

    /// Forwards a barrier to all channels, behind all records. One that may overtake is in its channel at once, with everything before it:
    /// who reads there has it all, and none of it is this subtask's to keep.
    ///
    /// # Errors
    /// If the consumer is gone.
    pub fn barrier(&mut self, barrier: CheckpointBarrier) -> Result<(), ChannelClosed> {
        self.broadcast(&StreamElement::Barrier(barrier));
        if !self.overtakes || barrier.kind.is_savepoint() {
            return Ok(());
        }
        let ended = self.ended;
        self.channels.iter_mut().zip(&mut self.outgoing).try_for_each(|(channel, outgoing)| {
            if canary("forget-output-in-flight") {
                outgoing.retain(|waiting| matches!(waiting.element, StreamElement::Barrier(_)));
            }
            channel.send_all(outgoing).or_else(|closed| on_closed(ended, outgoing, closed))
        })
    }

    /// Ends all channels, behind all records.
    pub fn end_of_data(&mut self) {
        self.broadcast(&StreamElement::EndOfData);
        self.ended = true;
    }

    /// Sends partial batches.
    pub fn flush(&mut self) {
        (0..self.collecting.len()).for_each(|channel| self.send_if(channel, 1));
    }

    /// Hands over what waits; `Pending` while a channel is full.
    ///
    /// # Errors
    /// If the consumer is gone before the end of data was sent.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        let mut ready = Poll::Ready(Ok(()));
        for (channel, outgoing) in self.channels.iter_mut().zip(&mut self.outgoing) {
            match channel.poll_send(cx, outgoing) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(closed)) => on_closed(self.ended, outgoing, closed)?,
                Poll::Pending => ready = Poll::Pending,
            }
        }
        ready
    }

    fn broadcast(&mut self, element: &StreamElement<T>) {
        self.flush();
        for outgoing in &mut self.outgoing {
            outgoing.push_back(Outgoing { bytes: 0, element: element.clone() });
        }
    }

    fn send_if(&mut self, channel: usize, at_least: usize) {
        let (collecting, outgoing) = (self.collecting.get_mut(channel), self.outgoing.get_mut(channel));
        let (Some(collecting), Some(outgoing)) = (collecting, outgoing) else { return };
        if collecting.len() < at_least {
            return;
        }
        // Watermarks cut batches short: many of them wait with what was reserved for full ones, which nobody counts.
        let batch = collecting.take_compact();
        let timestamp_bytes = if batch.is_timed() { size_of::<Timestamp>() } else { 0 };
        let bytes = ((self.record_bytes + timestamp_bytes) * batch.len()).max(1);
        outgoing.push_back(Outgoing { bytes, element: StreamElement::Records(batch) });
    }
}

/// A consumer that has gone behind the end of data has finished, and a barrier that comes now is for nobody: its checkpoint was triggered while
/// the last one was being completed. Had it failed, that would be known.
fn on_closed<T>(
    ended: bool,
    outgoing: &mut VecDeque<Outgoing<T>>,
    closed: ChannelClosed,
) -> Result<(), ChannelClosed> {
    let is_barrier = |waiting: &Outgoing<T>| matches!(waiting.element, StreamElement::Barrier(_));
    if !ended || !outgoing.iter().all(is_barrier) {
        return Err(closed);
    }
    outgoing.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::input_gate;
    use crate::partitioner::BroadcastPartitioner;
    use flott_types::{CheckpointId, CheckpointKind, Increment};
    use std::task::Waker;

    /// A checkpoint may be triggered while the last one is being completed, and then the consumer finishes first.
    #[test]
    fn a_barrier_behind_the_end_of_data_needs_no_consumer() {
        let cx = &mut Context::from_waker(Waker::noop());
        let barrier = CheckpointBarrier {
            id: CheckpointId(2),
            timestamp: 0,
            kind: CheckpointKind::Checkpoint,
            increment: Increment::None,
        };
        for overtakes in [false, true] {
            for ends in [false, true] {
                let (gate, senders) = input_gate::<u32>(1, 200);
                let mut partition = ResultPartition::new(Box::new(BroadcastPartitioner), senders, 1);
                partition.overtakes = overtakes;
                if ends {
                    partition.end_of_data();
                    assert!(matches!(partition.poll_ready(cx), Poll::Ready(Ok(()))));
                }
                drop(gate);
                let sent = partition.barrier(barrier);
                let is_ready = matches!(partition.poll_ready(cx), Poll::Ready(Ok(())));
                assert_eq!(sent.is_ok() && is_ready, ends, "overtakes {overtakes}");
            }
        }
    }

    #[test]
    fn a_batch_that_was_cut_short_waits_with_little_memory() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut gate, senders) = input_gate::<u32>(1, 1 << 20);
        let mut partition = ResultPartition::new(Box::new(BroadcastPartitioner), senders, 1_000);
        for n_records in [3, 2_000, 5_000] {
            partition.emit(RecordBatch::untimed(vec![7; n_records])).expect("the channel exists");
            partition.watermark(Watermark::MAX);
            assert!(matches!(partition.poll_ready(cx), Poll::Ready(Ok(()))));
            let Poll::Ready(Ok((0, StreamElement::Records(batch)))) = gate.poll_next(cx) else {
                panic!("a batch of {n_records} records");
            };
            let (records, _) = batch.into_columns();
            assert_eq!(records, vec![7; n_records]);
            assert!(records.capacity() <= 2 * n_records, "{} for {n_records}", records.capacity());
            assert!(matches!(gate.poll_next(cx), Poll::Ready(Ok((0, StreamElement::Watermark(_))))));
        }
    }

    #[test]
    fn large_records_do_not_wait_for_many_others() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut gate, senders) = input_gate::<Vec<u8>>(1, 1 << 30);
        let mut partition = ResultPartition::new(Box::new(BroadcastPartitioner), senders, 1_000);
        for (n_bytes, waits) in [(100, true), (1_000, true), (2 << 20, false), (100, true)] {
            partition.emit(RecordBatch::untimed(vec![vec![0; n_bytes]])).expect("the channel exists");
            assert!(matches!(partition.poll_ready(cx), Poll::Ready(Ok(()))));
            assert_eq!(gate.poll_next(cx).is_pending(), waits, "a record of {n_bytes} bytes");
        }
    }

    /// Only barriers are for nobody: who goes before it has taken the end has failed.
    #[test]
    fn an_end_of_data_that_nobody_takes_is_an_error() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (gate, senders) = input_gate::<u32>(1, 200);
        let mut partition = ResultPartition::new(Box::new(BroadcastPartitioner), senders, 1);
        partition.end_of_data();
        drop(gate);
        assert!(matches!(partition.poll_ready(cx), Poll::Ready(Err(ChannelClosed))));
    }
}
