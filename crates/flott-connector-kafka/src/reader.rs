//! Reads partitions.

use crate::client::{Client, Consumer, Fetched, OffsetPosition, PartitionHandle};
use crate::config::ReaderOptions;
use crate::offsets::TopicPartition;
use crate::record::{DecodesMessage, RecordDeserializer};
use crate::split::KafkaSplit;
use flott_api::message::{MessageCollector, RawMessage};
use flott_api::{InputStatus, SourceOutput, SourceReader, SourceSplit};
use flott_types::{Error, Result, SplitId};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A partition that is read.
struct Reading {
    id: SplitId,
    split: KafkaSplit,
    handle: PartitionHandle,
    /// The cluster has said that the stopping offset has been reached, and the partition was read again from the position on: so its next end is behind
    /// everything that was there then.
    is_confirming: bool,
    is_paused: bool,
}

/// Reads the partitions of one subtask, a batch of each in turn.
pub struct KafkaReader<T> {
    client: Arc<dyn Client>,
    consumer: Box<dyn Consumer>,
    deserializer: Box<dyn RecordDeserializer<T>>,
    options: ReaderOptions,
    reading: Vec<Reading>,
    /// Where the next look begins, so that each partition has its turn.
    next: usize,
    /// Ended, and the task has not been told.
    finished: Vec<SplitId>,
    /// Of partitions that have ended since the last complete checkpoint: they are in no snapshot any more.
    final_offsets: Vec<(TopicPartition, i64)>,
    more_splits_come: bool,
    collector: MessageCollector<T, Offset>,
}

/// Where a record stands in its partition.
struct Offset(i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", self.0)
    }
}

impl<T> fmt::Debug for KafkaReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let splits: Vec<_> = self.reading.iter().map(|reading| &reading.split).collect();
        f.debug_struct("KafkaReader").field("splits", &splits).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> KafkaReader<T> {
    pub(crate) fn new(
        client: Arc<dyn Client>,
        deserializer: Box<dyn RecordDeserializer<T>>,
        options: ReaderOptions,
    ) -> Result<Self> {
        Ok(Self {
            consumer: client.consumer()?,
            client,
            deserializer,
            options,
            reading: Vec::new(),
            next: 0,
            finished: Vec::new(),
            final_offsets: Vec::new(),
            more_splits_come: true,
            collector: MessageCollector::default(),
        })
    }

    /// Stops reading a partition; it leaves the snapshot.
    fn end(&mut self, idx: usize) -> Result<()> {
        let Reading { id, split, handle, .. } = self.reading.remove(idx);
        self.consumer.unassign(handle)?;
        self.final_offsets.push((split.partition, split.offset));
        self.finished.push(id);
        Ok(())
    }

    /// Reads a batch of one partition.
    fn read(&mut self, idx: usize, records_max: usize, out: &mut SourceOutput<T>) -> Result<Option<Fetched>> {
        let Self { reading, consumer, deserializer, collector, .. } = self;
        let Some(Reading { id, split, handle, is_paused: false, .. }) = reading.get_mut(idx) else {
            return Ok(None);
        };
        let out = out.split(id);
        let mut failed = None;
        let fetched = consumer.fetch(*handle, records_max, &mut |message| {
            if split.stopping_offset.is_some_and(|stop| message.offset >= stop) {
                split.offset = split.offset.max(message.offset);
                return ControlFlow::Break(());
            }
            let mut decoder = DecodesMessage { deserializer: deserializer.as_mut(), message: Some(message) };
            let raw = RawMessage {
                position: Offset(message.offset),
                key: message.key,
                value: message.value.unwrap_or_default(),
                timestamp: message.timestamp,
            };
            let taken = collector.decode(&mut decoder, raw, out);
            if let Err(error) = taken {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            split.offset = message.offset + 1;
            if split.is_read() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let mut decoder = DecodesMessage { deserializer: deserializer.as_mut(), message: None };
        failed
            .map_or_else(|| collector.flush(&mut decoder, out), Err)
            .map_err(|error| error.context(format!("reading partition {}", split.partition)))?;
        Ok(Some(fetched))
    }

    /// Whether a partition whose end was reached has been read up to its stopping offset. The last offsets may be of no records: of ends of
    /// transactions, of records that were aborted or compacted away. Only the cluster knows that (FLINK-34470).
    fn is_read_at_end(&mut self, idx: usize) -> Result<bool> {
        let Some(Reading { split, handle, is_confirming, .. }) = self.reading.get_mut(idx) else {
            return Ok(false);
        };
        let Some(stop) = split.stopping_offset else { return Ok(false) };
        if split.is_read() || *is_confirming {
            return Ok(true);
        }
        let partition = split.partition.clone();
        let latest = self.client.offsets(std::slice::from_ref(&partition), OffsetPosition::Latest)?;
        if latest.get(&partition).is_none_or(|latest| *latest < stop) {
            return Ok(false);
        }
        // Between the end and the answer records may have come. What is read from here to the next end has all of them.
        self.consumer.unassign(*handle)?;
        *handle = assign_one(self.consumer.as_mut(), split)?;
        *is_confirming = true;
        Ok(false)
    }
}

fn assign_one(consumer: &mut dyn Consumer, split: &KafkaSplit) -> Result<PartitionHandle> {
    let handles = consumer.assign(&[(split.partition.clone(), split.offset)])?;
    handles.first().copied().ok_or_else(|| Error::subtask("the consumer has assigned no partition"))
}

impl<T: Send + 'static> SourceReader for KafkaReader<T> {
    type Record = T;
    type Split = KafkaSplit;

    fn add_splits(&mut self, splits: Vec<KafkaSplit>) -> Result<()> {
        let (read, unread): (Vec<_>, Vec<_>) = splits.into_iter().partition(KafkaSplit::is_read);
        self.finished.extend(read.iter().map(KafkaSplit::split_id));
        let offsets: Vec<_> = unread.iter().map(|split| (split.partition.clone(), split.offset)).collect();
        let handles = self.consumer.assign(&offsets)?;
        let reading = unread.into_iter().zip(handles).map(|(split, handle)| Reading {
            id: split.split_id(),
            split,
            handle,
            is_confirming: false,
            is_paused: false,
        });
        self.reading.extend(reading);
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.more_splits_come = false;
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SourceOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        if !self.finished.is_empty() {
            self.finished.drain(..).for_each(|id| out.split(&id).finished = true);
            return Poll::Ready(Ok(InputStatus::MoreAvailable));
        }
        // Before the look, so that what comes during it wakes.
        self.consumer.set_waker(cx.waker());
        self.consumer.serve()?;
        let n_reading = self.reading.len();
        for turn in 0..n_reading {
            let idx = (self.next + turn) % n_reading;
            let Some(fetched) = self.read(idx, records_max, out)? else { continue };
            let is_read = self.reading.get(idx).is_some_and(|reading| reading.split.is_read())
                || (fetched == Fetched::EndOfPartition && self.is_read_at_end(idx)?);
            if is_read {
                self.end(idx)?;
            }
            if is_read || fetched != Fetched::Nothing {
                self.next = idx + usize::from(!is_read);
                return Poll::Ready(Ok(InputStatus::MoreAvailable));
            }
            if let Some(Reading { id, .. }) = self.reading.get(idx) {
                out.split(id).caught_up = true;
            }
        }
        if self.reading.is_empty() && !self.more_splits_come {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        Poll::Pending
    }

    fn needs_splits(&self) -> bool {
        self.reading.is_empty() && self.finished.is_empty() && self.more_splits_come
    }

    fn end_splits(&mut self, ids: &BTreeSet<SplitId>) -> Result<()> {
        while let Some(idx) = self.reading.iter().position(|reading| ids.contains(&reading.id)) {
            self.end(idx)?;
        }
        // Who ends them knows.
        self.finished.retain(|id| !ids.contains(id));
        Ok(())
    }

    fn set_paused(&mut self, paused: &BTreeSet<SplitId>) {
        for reading in &mut self.reading {
            reading.is_paused = paused.contains(&reading.id);
        }
    }

    fn snapshot(&mut self) -> Result<Vec<KafkaSplit>> {
        Ok(self.reading.iter().map(|reading| reading.split.clone()).collect())
    }

    fn checkpoint_complete(&mut self, splits: &[KafkaSplit]) -> Result<()> {
        if self.options.commits_offsets {
            let mut offsets: Vec<_> =
                splits.iter().map(|split| (split.partition.clone(), split.offset)).collect();
            // A partition that has ended since the snapshot is in it, with an earlier offset: its last one is told with the next.
            let in_checkpoint: BTreeSet<_> = splits.iter().map(|split| &split.partition).collect();
            let ended =
                self.final_offsets.extract_if(.., |(partition, _)| !in_checkpoint.contains(partition));
            offsets.extend(ended);
            self.consumer.commit_offsets(&offsets);
        }
        Ok(())
    }
}
