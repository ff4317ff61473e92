//! Records that the host program sends while the job runs.

use crate::source::{Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput};
use crate::split_source::{SplitReader, SplitSource};
use flott_env::sync::mpsc;
use flott_types::{Data, Error, NO_TIMESTAMP, Result, SplitId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// A source that the host program feeds through the sender; at most `capacity_records` wait, then sending waits.
///
/// The source ends when all clones of the sender are dropped. When the job ends, is cancelled or fails, sending
/// returns an error. Records are not kept: what a failed job had taken is gone, so a job with this source cannot be
/// restarted by itself, and one that is restored from a snapshot goes on with what the new program sends.
///
/// # Panics
/// If `capacity_records` is 0.
pub fn channel_source<T: Data>(capacity_records: usize) -> (ChannelSender<T>, ChannelSource<T>) {
    let (sender, receiver) = mpsc::channel(capacity_records);
    (ChannelSender { sender }, ChannelSource { receiver: Arc::new(Mutex::new(Some(receiver))) })
}

/// The job is gone; the record comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(
    /// The record that was not sent.
    pub T,
);

/// Why a record was not sent at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// As many records wait as may.
    Full(T),
    /// The job is gone.
    Closed(T),
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}
impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the job that read this channel is gone")
    }
}
impl<T> std::error::Error for SendError<T> {}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}
impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the channel into the job is full",
            Self::Closed(_) => "the job that read this channel is gone",
        })
    }
}
impl<T> std::error::Error for TrySendError<T> {}

/// The host program's end of a [`ChannelSource`].
pub struct ChannelSender<T> {
    sender: mpsc::Sender<(T, Timestamp)>,
}

impl<T> Clone for ChannelSender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<T> fmt::Debug for ChannelSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<T> ChannelSender<T> {
    /// Sends a record, waiting while the channel is full.
    ///
    /// # Errors
    /// If the job is gone, also when that happens while this waits.
    pub async fn send(&self, record: T) -> Result<(), SendError<T>> {
        self.send_with_timestamp(record, NO_TIMESTAMP).await
    }

    /// Sends a record whose timestamp, in milliseconds since the epoch, is known.
    ///
    /// # Errors
    /// As [`ChannelSender::send`].
    pub async fn send_with_timestamp(&self, record: T, timestamp: Timestamp) -> Result<(), SendError<T>> {
        self.sender
            .send((record, timestamp))
            .await
            .map_err(|mpsc::error::SendError((record, _))| SendError(record))
    }

    /// Sends a record, blocking the thread while the channel is full.
    ///
    /// # Errors
    /// As [`ChannelSender::send`].
    ///
    /// # Panics
    /// On a thread that runs asynchronous tasks.
    pub fn blocking_send(&self, record: T) -> Result<(), SendError<T>> {
        let sent = self.sender.blocking_send((record, NO_TIMESTAMP));
        sent.map_err(|mpsc::error::SendError((record, _))| SendError(record))
    }

    /// Sends a record if there is room.
    ///
    /// # Errors
    /// If there is none, or the job is gone.
    pub fn try_send(&self, record: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send((record, NO_TIMESTAMP)).map_err(|error| match error {
            mpsc::error::TrySendError::Full((record, _)) => TrySendError::Full(record),
            mpsc::error::TrySendError::Closed((record, _)) => TrySendError::Closed(record),
        })
    }

    /// Whether the job is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Completes when the job is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

type Receiver<T> = mpsc::Receiver<(T, Timestamp)>;

/// The job's end of the channel: see [`channel_source`].
pub struct ChannelSource<T> {
    /// Until a reader takes it. It never comes back: the sender learns of the reader's end by its being dropped.
    receiver: Arc<Mutex<Option<Receiver<T>>>>,
}

impl<T> Clone for ChannelSource<T> {
    fn clone(&self) -> Self {
        Self { receiver: Arc::clone(&self.receiver) }
    }
}

impl<T> fmt::Debug for ChannelSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelSource")
    }
}

/// The channel, after a number of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSplit {
    n_read: u64,
}

impl SourceSplit for ChannelSplit {
    fn split_id(&self) -> SplitId {
        SplitId("channel".to_owned())
    }
}

impl<T: Data> SplitSource for ChannelSource<T> {
    type Record = T;
    type Split = ChannelSplit;
    type Reader = ChannelReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::ContinuousUnbounded
    }

    fn splits(&self, _: u32) -> Result<Vec<ChannelSplit>> {
        Ok(vec![ChannelSplit { n_read: 0 }])
    }

    fn keeps_records(&self) -> bool {
        false
    }

    fn open(&self, split: ChannelSplit, _: &SourceReaderContext) -> Result<ChannelReader<T>> {
        let taken = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = taken.ok_or_else(|| {
            Error::user("a channel source cannot be read again: the records sent before the restart are gone")
        })?;
        Ok(ChannelReader { receiver, received: Vec::new(), split })
    }
}

/// Reads the channel.
pub struct ChannelReader<T> {
    receiver: Receiver<T>,
    /// Empty between calls; kept for its memory.
    received: Vec<(T, Timestamp)>,
    split: ChannelSplit,
}

impl<T> fmt::Debug for ChannelReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: Data> SplitReader for ChannelReader<T> {
    type Record = T;
    type Split = ChannelSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        let n = std::task::ready!(self.receiver.poll_recv_many(cx, &mut self.received, records_max.max(1)));
        if n == 0 {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        if out.batch.is_empty() {
            out.position = Some(format!("record {}", self.split.n_read));
        }
        for (record, timestamp) in self.received.drain(..) {
            out.collect_with_timestamp(record, timestamp);
        }
        self.split.n_read += n as u64;
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }

    fn split(&self) -> ChannelSplit {
        self.split.clone()
    }
}
