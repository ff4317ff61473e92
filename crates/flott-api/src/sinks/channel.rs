//! A bounded channel to the host program.

use crate::UserResult;
use crate::sink::{Sink, SinkContext, SinkWriter};
use flott_types::{RecordBatch, Result, SubtaskIndex, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A sink whose records the host program receives; at most `capacity_records` wait, then the job is held back.
///
/// The receiver's stream ends when all subtasks have finished, or the job is gone. A job whose receiver is dropped
/// fails at its next record. A writer blocks its thread while the channel is full; in a simulation, where all tasks
/// share one thread, it lets the channel grow instead.
///
/// # Panics
/// If `capacity_records` is 0.
pub fn channel_sink<T: Send + 'static>(capacity_records: usize) -> (ChannelSink<T>, ChannelReceiver<T>) {
    assert!(capacity_records > 0, "a channel needs room for a record");
    let shared = Arc::new(Shared {
        capacity_records,
        state: Mutex::new(State {
            queue: VecDeque::new(),
            n_handles: 1,
            finished: BTreeSet::new(),
            parallelism: u32::MAX,
            receiver_gone: false,
            receiver_waker: None,
        }),
        room: Condvar::new(),
        records: Condvar::new(),
    });
    (ChannelSink { handle: Handle(Arc::clone(&shared)) }, ChannelReceiver { shared })
}

struct State<T> {
    queue: VecDeque<(T, Timestamp)>,
    /// The sink, its clones and writers: whoever may still send or make somebody who does.
    n_handles: usize,
    finished: BTreeSet<SubtaskIndex>,
    /// Of the sink; no set is as large as this before a writer was made.
    parallelism: u32,
    receiver_gone: bool,
    receiver_waker: Option<Waker>,
}

struct Shared<T> {
    capacity_records: usize,
    state: Mutex<State<T>>,
    room: Condvar,
    records: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_receiver(&self, mut state: MutexGuard<'_, State<T>>) {
        let waker = state.receiver_waker.take();
        drop(state);
        self.records.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Keeps the channel open.
struct Handle<T>(Arc<Shared<T>>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        self.0.lock().n_handles += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.n_handles -= 1;
        if state.n_handles == 0 {
            self.0.wake_receiver(state);
        }
    }
}

/// Sends to the host program: see [`channel_sink`].
#[derive(Clone)]
pub struct ChannelSink<T> {
    handle: Handle<T>,
}

impl<T> fmt::Debug for ChannelSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelSink")
    }
}

/// Sends the records of one subtask.
pub struct ChannelWriter<T> {
    handle: Handle<T>,
    subtask: SubtaskIndex,
    may_block: bool,
}

impl<T> fmt::Debug for ChannelWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelWriter").field("subtask", &self.subtask).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Sink<T> for ChannelSink<T> {
    type Writer = ChannelWriter<T>;

    fn create_writer(&self, ctx: SinkContext) -> Result<ChannelWriter<T>> {
        let handle = self.handle.clone();
        // After a restart a subtask that had finished writes again.
        let mut state = handle.0.lock();
        state.finished.remove(&ctx.subtask);
        state.parallelism = ctx.parallelism;
        drop(state);
        Ok(ChannelWriter { handle, subtask: ctx.subtask, may_block: ctx.env.may_block() })
    }
}

impl<T: Send + 'static> SinkWriter<T> for ChannelWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        let shared = &self.handle.0;
        let mut records = batch.into_iter().peekable();
        while records.peek().is_some() {
            let mut state = shared.lock();
            while self.may_block && !state.receiver_gone && state.queue.len() >= shared.capacity_records {
                state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.receiver_gone {
                return Err("the receiver of the channel sink is gone".into());
            }
            let room = if self.may_block { shared.capacity_records - state.queue.len() } else { usize::MAX };
            state.queue.extend(records.by_ref().take(room));
            shared.wake_receiver(state);
        }
        Ok(())
    }

    fn finish(&mut self) -> UserResult {
        let mut state = self.handle.0.lock();
        state.finished.insert(self.subtask);
        self.handle.0.wake_receiver(state);
        Ok(())
    }
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// No record waits.
    Empty,
    /// No record waits, and none comes.
    Ended,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no record waits",
            Self::Ended => "the job has ended",
        })
    }
}
impl std::error::Error for TryRecvError {}

/// The host program's end of a [`ChannelSink`]. As an iterator it blocks for each record until the job ends.
pub struct ChannelReceiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> fmt::Debug for ChannelReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelReceiver").field("n_waiting", &self.n_waiting()).finish()
    }
}

impl<T> ChannelReceiver<T> {
    /// Takes a record from the locked queue, or says why there is none.
    fn pop(&self, state: &mut State<T>) -> Result<(T, Timestamp), TryRecvError> {
        let Some(record) = state.queue.pop_front() else {
            let all_finished = state.finished.len() >= state.parallelism as usize;
            let ended = all_finished || state.n_handles == 0;
            return Err(if ended { TryRecvError::Ended } else { TryRecvError::Empty });
        };
        // Waking writers for every record would make them take turns with it; half empty is soon enough. One that is
        // woken finds room, so all may be.
        if state.queue.len() <= self.shared.capacity_records / 2 {
            self.shared.room.notify_all();
        }
        Ok(record)
    }

    /// Number of records that wait.
    pub fn n_waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// A record, if one waits.
    ///
    /// # Errors
    /// If none does.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.pop(&mut self.shared.lock()).map(|(record, _)| record)
    }

    /// The next record, `None` after the last; waits.
    pub async fn recv(&mut self) -> Option<T> {
        self.recv_with_timestamp().await.map(|(record, _)| record)
    }

    /// The next record and its timestamp, `None` after the last; waits.
    pub async fn recv_with_timestamp(&mut self) -> Option<(T, Timestamp)> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next record and its timestamp, `None` after the last; `Pending` until there is one.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<(T, Timestamp)>> {
        let mut state = self.shared.lock();
        match self.pop(&mut state) {
            Ok(record) => Poll::Ready(Some(record)),
            Err(TryRecvError::Ended) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                state.receiver_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next record, `None` after the last; blocks the thread.
    pub fn blocking_recv(&mut self) -> Option<T> {
        let mut state = self.shared.lock();
        loop {
            match self.pop(&mut state) {
                Ok((record, _)) => return Some(record),
                Err(TryRecvError::Ended) => return None,
                Err(TryRecvError::Empty) => {
                    state = self.shared.records.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl<T> Iterator for ChannelReceiver<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.blocking_recv()
    }
}

impl<T> Drop for ChannelReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receiver_gone = true;
        let unread = std::mem::take(&mut state.queue);
        drop(state);
        self.shared.room.notify_all();
        // Dropping records runs user code.
        drop(unread);
    }
}
