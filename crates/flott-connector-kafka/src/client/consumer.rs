//! Reads partitions with `rdkafka`: each has a queue of its own.

use super::error::{Trouble, cannot, passes};
use super::{Consumer, Fetched, PartitionHandle};
use crate::offsets::TopicPartition;
use crate::record::{Header, Message};
use flott_types::{Error, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tracing::{debug, warn};

/// What the client tells between calls.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) trouble: Trouble,
}

/// Under this name the client logs that offsets could not be committed. Nothing else tells it: no callback is set with which it would say what
/// became of a commit, and to wait for the answer could take as long as brokers are away.
const COMMIT_FAILED: &str = "COMMITFAIL";

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // Told to the reader, many times a second.
        if error.rdkafka_error_code() == Some(Code::PartitionEOF) {
            return;
        }
        // Brokers go and come back; what does not heal is told when something is read or written.
        debug!(%error, reason, "Kafka client");
        self.trouble.note(&error, reason);
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == COMMIT_FAILED {
            warn!(
                message,
                "offsets are not committed to Kafka: who watches the consumer group sees old ones; is somebody else in the group, or may it not be written?"
            );
        } else {
            debug!(facility, message, "Kafka client");
        }
    }
}

impl ConsumerContext for Context {}

/// Whom to wake.
#[derive(Default)]
struct Wake(Mutex<Option<Waker>>);

impl Wake {
    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn set(&self, waker: &Waker) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

struct Partition {
    partition: TopicPartition,
    queue: PartitionQueue<Context>,
    /// The queue may have something. Set by the client's threads.
    is_ready: Arc<AtomicBool>,
}

/// A consumer of a real cluster.
pub(super) struct RdConsumer {
    // The queues go first: they refer to the consumer.
    partitions: BTreeMap<PartitionHandle, Partition>,
    consumer: Arc<BaseConsumer<Context>>,
    wake: Arc<Wake>,
    next_handle: usize,
}

impl fmt::Debug for RdConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdConsumer").field("n_partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}

impl RdConsumer {
    pub(super) fn new(config: &ClientConfig) -> Result<Self> {
        let mut config = config.clone();
        let mut consumer: BaseConsumer<Context> = config
            .set_log_level(RDKafkaLogLevel::Warning)
            .create_with_context(Context::default())
            .map_err(|error| cannot("read from Kafka", error))?;
        let wake = Arc::new(Wake::default());
        let wakes = Arc::clone(&wake);
        consumer.set_nonempty_callback(move || wakes.wake());
        Ok(Self { partitions: BTreeMap::new(), consumer: Arc::new(consumer), wake, next_handle: 0 })
    }

    /// The queue of a partition, which has to be there before the partition is read: else its first records come to the queue of all.
    fn open(&mut self, partition: &TopicPartition) -> Result<PartitionHandle> {
        let queue = self.consumer.split_partition_queue(&partition.topic, partition.partition);
        let mut queue =
            queue.ok_or_else(|| Error::user(format!("'{partition}' is no partition that Kafka can have")))?;
        let is_ready = Arc::new(AtomicBool::new(true));
        let (wakes, ready) = (Arc::clone(&self.wake), Arc::clone(&is_ready));
        queue.set_nonempty_callback(move || {
            ready.store(true, Ordering::Release);
            wakes.wake();
        });
        let handle = PartitionHandle(self.next_handle);
        self.next_handle += 1;
        self.partitions.insert(handle, Partition { partition: partition.clone(), queue, is_ready });
        Ok(handle)
    }
}

fn list(partitions: impl IntoIterator<Item = (TopicPartition, Offset)>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (TopicPartition { topic, partition }, offset) in partitions {
        list.add_partition_offset(&topic, partition, offset)?;
    }
    Ok(list)
}

/// Shows a message to `take` as it lies in the client's memory.
fn show(
    partition: &TopicPartition,
    message: &BorrowedMessage<'_>,
    take: &mut dyn FnMut(&Message<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let headers = || {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        headers
            .map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) })
            .collect()
    };
    take(&Message {
        partition,
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers: &headers,
    })
}

impl Consumer for RdConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<Vec<PartitionHandle>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let handles: Vec<_> =
            partitions.iter().map(|(partition, _)| self.open(partition)).collect::<Result<_>>()?;
        let offsets = partitions.iter().map(|(it, offset)| (it.clone(), Offset::Offset(*offset)));
        let assigned = list(offsets).and_then(|list| self.consumer.incremental_assign(&list));
        assigned.map_err(|error| cannot("read partitions of Kafka", error))?;
        Ok(handles)
    }

    fn unassign(&mut self, handle: PartitionHandle) -> Result<()> {
        let Some(Partition { partition, .. }) = self.partitions.remove(&handle) else { return Ok(()) };
        let list = list([(partition, Offset::Invalid)]);
        let unassigned = list.and_then(|list| self.consumer.incremental_unassign(&list));
        unassigned.map_err(|error| cannot("stop reading a partition of Kafka", error))
    }

    fn fetch(
        &mut self,
        handle: PartitionHandle,
        records_max: usize,
        take: &mut dyn FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<Fetched> {
        let Some(Partition { partition, queue, is_ready }) = self.partitions.get(&handle) else {
            return Ok(Fetched::Nothing);
        };
        if !is_ready.load(Ordering::Acquire) {
            return Ok(Fetched::Nothing);
        }
        let mut n_taken = 0;
        let found = |n_taken| if n_taken > 0 { Fetched::Records } else { Fetched::Nothing };
        let mut has_looked_twice = false;
        while n_taken < records_max {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    n_taken += 1;
                    if show(partition, &message, take).is_break() {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Fetched::EndOfPartition),
                Some(Err(error)) if passes(&error) => debug!(%error, %partition, "Kafka client"),
                Some(Err(error)) => return Err(cannot(&format!("read partition {partition}"), error)),
                // What comes between the look and the mark sets the mark again, or is found by the second look.
                None if has_looked_twice => break,
                None => {
                    is_ready.store(false, Ordering::Release);
                    has_looked_twice = true;
                }
            }
        }
        if n_taken > 0 {
            is_ready.store(true, Ordering::Release);
        }
        Ok(found(n_taken))
    }

    fn set_waker(&mut self, waker: &Waker) {
        self.wake.set(waker);
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            match self.consumer.poll(Duration::ZERO) {
                None => return Ok(()),
                Some(Err(error)) if passes(&error) || matches!(error, KafkaError::PartitionEOF(_)) => {
                    debug!(%error, "Kafka client");
                }
                Some(Err(error)) => {
                    let trouble = self.consumer.context().trouble.take("read from Kafka");
                    return Err(trouble.unwrap_or_else(|| cannot("read from Kafka", error)));
                }
                // All partitions have queues of their own: a record here would be lost.
                Some(Ok(message)) => {
                    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                    let message = format!("offset {offset} of partition {topic}-{partition} came unasked");
                    return Err(Error::subtask(message));
                }
            }
        }
    }

    fn commit_offsets(&mut self, offsets: &[(TopicPartition, i64)]) {
        if offsets.is_empty() {
            return;
        }
        let offsets = offsets.iter().map(|(it, offset)| (it.clone(), Offset::Offset(*offset)));
        let asked = list(offsets).and_then(|list| self.consumer.commit(&list, CommitMode::Async));
        // What became of it the client tells its log.
        if let Err(error) = asked {
            warn!(%error, "offsets are not committed to Kafka: who watches the consumer group sees old ones");
        }
    }
}
