//! The contexts of user functions.

use flott_env::Env;
use flott_state::{KeyedStateBackend, KeyedStateStore, OperatorStateBackend, TimerService};
use flott_types::{Key, SubtaskIndex, Timestamp, Watermark};
use std::fmt;

/// Where a function runs.
#[derive(Clone, Debug)]
pub struct RuntimeContext {
    /// The way to clock and files.
    pub env: Env,
    /// The operator's name.
    pub operator: String,
    /// The subtask.
    pub subtask: SubtaskIndex,
    /// The number of subtasks.
    pub parallelism: u32,
    /// The number of key groups.
    pub max_parallelism: u32,
}

/// The clock of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDomain {
    /// The watermark.
    EventTime,
    /// The wall clock.
    ProcessingTime,
}

/// The context of a record of a stream without keys.
#[derive(Debug)]
pub struct ProcessContext<'a> {
    /// The record's timestamp, [`flott_types::NO_TIMESTAMP`] if it has none.
    pub timestamp: Timestamp,
    /// The watermark that has been reached.
    pub watermark: Watermark,
    /// The wall clock when the batch came, in milliseconds since the epoch.
    pub processing_time: Timestamp,
    /// List, union and broadcast state of the subtask.
    pub state: &'a mut OperatorStateBackend,
}

/// The context of a broadcast record.
#[derive(Debug)]
pub struct BroadcastContext<'a> {
    /// The record's timestamp, [`flott_types::NO_TIMESTAMP`] if it has none.
    pub timestamp: Timestamp,
    /// The watermark that has been reached.
    pub watermark: Watermark,
    /// The broadcast state, which may be changed here.
    pub state: &'a mut OperatorStateBackend,
}

/// The context of a record or timer of a key: pass it to state handles.
pub struct KeyedContext<'a, K> {
    state: &'a mut KeyedStateBackend<K>,
    timers: &'a mut TimerService<K, ()>,
    timestamp: Timestamp,
    domain: TimeDomain,
}

impl<K> fmt::Debug for KeyedContext<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedContext").field("timestamp", &self.timestamp).finish_non_exhaustive()
    }
}

impl<'a, K: Key> KeyedContext<'a, K> {
    /// A context, for operators.
    #[inline]
    pub fn new(
        state: &'a mut KeyedStateBackend<K>,
        timers: &'a mut TimerService<K, ()>,
        timestamp: Timestamp,
        domain: TimeDomain,
    ) -> Self {
        Self { state, timers, timestamp, domain }
    }

    /// The key in scope.
    pub fn current_key(&self) -> &K {
        &self.state.current().key
    }

    /// The timestamp of the record or timer at hand.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The clock that called: event time for records.
    pub fn time_domain(&self) -> TimeDomain {
        self.domain
    }

    /// The watermark that has been reached.
    pub fn current_watermark(&self) -> Watermark {
        self.timers.event_time.of_hash(self.state.current().hash)
    }

    /// The wall clock when the batch came, in milliseconds since the epoch.
    pub fn current_processing_time(&self) -> Timestamp {
        self.timers.processing_time
    }

    /// Calls `on_timer` for the key in scope when the watermark passes `at`.
    pub fn register_event_time_timer(&mut self, at: Timestamp) {
        self.timers.event.register(at, &self.state.current().key, &());
    }

    /// Calls `on_timer` for the key in scope when the wall clock passes `at`.
    pub fn register_processing_time_timer(&mut self, at: Timestamp) {
        self.timers.processing.register(at, &self.state.current().key, &());
    }

    /// Removes an event-time timer of the key in scope.
    pub fn delete_event_time_timer(&mut self, at: Timestamp) {
        self.timers.event.delete(at, &self.state.current().key, &());
    }

    /// Removes a processing-time timer of the key in scope.
    pub fn delete_processing_time_timer(&mut self, at: Timestamp) {
        self.timers.processing.delete(at, &self.state.current().key, &());
    }
}

impl<K: Key> KeyedStateStore for KeyedContext<'_, K> {
    type Key = K;
    fn keyed_state(&mut self) -> &mut KeyedStateBackend<K> {
        self.state
    }
}

/// The context of a window that fires.
#[derive(Debug)]
pub struct WindowContext<'a, W> {
    /// The window.
    pub window: &'a W,
    /// The watermark that has been reached.
    pub watermark: Watermark,
    /// The wall clock, in milliseconds since the epoch.
    pub processing_time: Timestamp,
}
