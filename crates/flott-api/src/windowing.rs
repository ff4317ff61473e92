//! Windows: which window a record belongs to, when a window fires, what is left out.
//!
//! Concrete assigners are in `assigners`, triggers in `triggers`, evictors in `evictors`.

mod assigners;
mod evictors;
mod triggers;

pub use assigners::{
    DynamicGap, EventTimeSessionWindows, FixedGap, GlobalWindows, ProcessingTimeSessionWindows, SessionGap,
    SlidingEventTimeWindows, SlidingProcessingTimeWindows, TumblingEventTimeWindows,
    TumblingProcessingTimeWindows,
};
pub use evictors::{CountEvictor, DeltaEvictor, TimeEvictor};
pub use triggers::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger,
    EventTimeTrigger, EventTimeoutTrigger, NeverTrigger, ProcessingTimeTrigger, ProcessingTimeoutTrigger,
    PurgingTrigger,
};

use crate::UserResult;
use flott_state::{decode, encode};
use flott_types::{Data, Error, NO_TIMESTAMP, Result, Timestamp, Watermark};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::hash::Hash;

/// A bucket of records.
pub trait Window: Data + Eq + Hash + Ord + Debug {
    /// The largest timestamp that belongs to it; the window is complete when the watermark reaches it.
    fn max_timestamp(&self) -> Timestamp;
    /// Whether `other` overlaps or touches it, so that a merging assigner makes one of both.
    fn intersects(&self, other: &Self) -> bool;
    /// The smallest window that holds both.
    fn cover(&self, other: &Self) -> Self;
    /// The window of this type that is `window`, if the type has one: operators that compute with plain times make
    /// their windows by it.
    fn from_time_window(window: TimeWindow) -> Option<Self> {
        let _unused = window;
        None
    }
}

/// The time from `start`, inclusive, to `end`, exclusive, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// The first timestamp in the window.
    pub start: Timestamp,
    /// The first timestamp after the window.
    pub end: Timestamp,
}

impl Window for TimeWindow {
    #[inline]
    fn max_timestamp(&self) -> Timestamp {
        self.end.saturating_sub(1)
    }
    fn intersects(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
    fn cover(&self, other: &Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
    fn from_time_window(window: TimeWindow) -> Option<Self> {
        Some(window)
    }
}

/// The event timestamp of a record, for assigners and triggers that need one.
///
/// # Errors
/// If the record has none.
#[inline]
pub fn require_timestamp(timestamp: Timestamp) -> Result<Timestamp> {
    if timestamp == NO_TIMESTAMP {
        let message = "record has no timestamp: set a timestamp assigner in the WatermarkStrategy";
        return Err(Error::user(message));
    }
    Ok(timestamp)
}

/// The one window that holds everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GlobalWindow;

impl Window for GlobalWindow {
    fn max_timestamp(&self) -> Timestamp {
        Timestamp::MAX
    }
    fn intersects(&self, _: &Self) -> bool {
        true
    }
    fn cover(&self, _: &Self) -> Self {
        Self
    }
}

/// Windows of equal size at equal distances: an aggregate over them is kept per slice of the largest
/// length of which both size and slide are multiples (Li et al., "No pane, no gain", SIGMOD Record 2005).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slicing {
    /// Length of a window in milliseconds.
    pub size_ms: i64,
    /// Distance of window starts in milliseconds; equal to `size_ms` for tumbling windows.
    pub slide_ms: i64,
    /// Start of some window, in milliseconds.
    pub offset_ms: i64,
}

/// Puts records into windows.
pub trait WindowAssigner<T>: Clone + Send + Sync + 'static {
    /// The kind of window.
    type Window: Window;

    /// Appends the windows of a record to `windows`.
    ///
    /// # Errors
    /// For example if an event-time assigner gets a record without a timestamp; fails the job.
    fn assign_windows(
        &self,
        record: &T,
        timestamp: Timestamp,
        processing_time: Timestamp,
        windows: &mut Vec<Self::Window>,
    ) -> UserResult;

    /// The trigger of windows that say none.
    fn default_trigger(&self) -> Box<dyn Trigger<T, Self::Window>>;

    /// Whether windows end by the watermark, so that records can be late.
    fn is_event_time(&self) -> bool;

    /// Whether overlapping windows of a key become one: sessions.
    fn is_merging(&self) -> bool {
        false
    }

    /// For event-time sessions: how long a session waits after `record`, in milliseconds, at least 1. An assigner that
    /// answers for one record answers for all, and its only window is then the time from the record to the end of the
    /// gap; this lets aggregates go without the general way of merging.
    ///
    /// # Errors
    /// If the gap of this record is not positive; fails the job.
    fn session_gap_ms(&self, record: &T) -> UserResult<i64> {
        let _unused = record;
        Err(Error::user("the window assigner has no session gap").into())
    }

    /// Whether [`WindowAssigner::session_gap_ms`] answers.
    fn is_event_time_session(&self) -> bool {
        false
    }

    /// For evenly spaced windows: how they lie, so that aggregates can be kept per slice. Their time is the records' if
    /// [`WindowAssigner::is_event_time`] says so, else the wall clock's.
    fn slicing(&self) -> Option<Slicing> {
        None
    }
}

/// What happens to a window after a trigger was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// The window's result is emitted.
    Fire,
    /// The window's content is thrown away.
    Purge,
    /// Both.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether a result is emitted.
    pub const fn is_fire(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }
    /// Whether the content is thrown away.
    pub const fn is_purge(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// What a trigger remembers of one window of one key, by name; part of the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerState {
    slots: Vec<(String, Vec<u8>)>,
}

impl TriggerState {
    /// The value stored under `name`.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn get<V: Data>(&self, name: &str) -> Result<Option<V>> {
        let slot = self.slots.iter().find(|(known, _)| known == name);
        slot.map(|(_, bytes)| decode("trigger state", bytes)).transpose()
    }

    /// Stores a value under `name`.
    ///
    /// # Errors
    /// If it cannot be serialized.
    pub fn set<V: Data>(&mut self, name: &str, value: &V) -> Result<()> {
        let bytes = encode("trigger state", value)?;
        match self.slots.iter_mut().find(|(known, _)| known == name) {
            Some((_, slot)) => *slot = bytes,
            None => self.slots.push((name.to_owned(), bytes)),
        }
        Ok(())
    }

    /// Forgets `name`.
    pub fn clear(&mut self, name: &str) {
        self.slots.retain(|(known, _)| known != name);
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// What a trigger can see and do for the window at hand.
pub trait TriggerContext {
    /// The watermark that has been reached.
    fn current_watermark(&self) -> Watermark;
    /// The wall clock, in milliseconds since the epoch.
    fn current_processing_time(&self) -> Timestamp;
    /// Asks for [`Trigger::on_event_time`] when the watermark passes `at`.
    fn register_event_time_timer(&mut self, at: Timestamp);
    /// Asks for [`Trigger::on_processing_time`] when the wall clock passes `at`, or the input ends.
    fn register_processing_time_timer(&mut self, at: Timestamp);
    /// Takes an event-time timer back.
    fn delete_event_time_timer(&mut self, at: Timestamp);
    /// Takes a processing-time timer back.
    fn delete_processing_time_timer(&mut self, at: Timestamp);
    /// What the trigger remembers of this window.
    fn state(&mut self) -> &mut TriggerState;
}

impl<T: 'static, W: Window> Trigger<T, W> for Box<dyn Trigger<T, W>> {
    fn on_element(
        &self,
        record: &T,
        timestamp: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        (**self).on_element(record, timestamp, window, ctx)
    }
    fn on_event_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        (**self).on_event_time(at, window, ctx)
    }
    fn on_processing_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        (**self).on_processing_time(at, window, ctx)
    }
    fn can_merge(&self) -> bool {
        (**self).can_merge()
    }
    fn on_merge(&self, window: &W, merged: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
        (**self).on_merge(window, merged, ctx)
    }
    fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        (**self).clear(window, ctx)
    }
    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        (**self).clone_box()
    }
}

impl<T, W: Window> Clone for Box<dyn Trigger<T, W>> {
    fn clone(&self) -> Self {
        (**self).clone_box()
    }
}

impl<T, W> Clone for Box<dyn Evictor<T, W>> {
    fn clone(&self) -> Self {
        (**self).clone_box()
    }
}

/// Decides when a window fires. One trigger object serves all keys and windows of a subtask: what it remembers of a window
/// goes into [`TriggerContext::state`].
pub trait Trigger<T, W: Window>: Send + Sync {
    /// A record was added to the window.
    ///
    /// # Errors
    /// Fails the job.
    fn on_element(
        &self,
        record: &T,
        timestamp: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult>;

    /// The watermark has passed a timer.
    ///
    /// # Errors
    /// Fails the job.
    fn on_event_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult>;

    /// The wall clock has passed a timer, or the input has ended: then all timers that are set fire, in the order of time, and none can be
    /// set any more.
    ///
    /// # Errors
    /// Fails the job.
    fn on_processing_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult>;

    /// Whether it works on windows that merge.
    fn can_merge(&self) -> bool;

    /// `window` was made of windows whose trigger states were `merged`; timers of those are gone.
    ///
    /// # Errors
    /// Fails the job.
    fn on_merge(&self, window: &W, merged: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult;

    /// The window is gone: take timers back.
    ///
    /// # Errors
    /// Fails the job.
    fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult;

    /// A copy for another subtask.
    fn clone_box(&self) -> Box<dyn Trigger<T, W>>;
}

/// Leaves records out of a firing. Windows with an evictor keep all their records.
pub trait Evictor<T, W>: Send + Sync {
    /// Removes records before the window function sees them.
    fn evict_before(&self, records: &mut Vec<(T, Timestamp)>, window: &W, processing_time: Timestamp);
    /// Removes records after the window function saw them.
    fn evict_after(&self, records: &mut Vec<(T, Timestamp)>, window: &W, processing_time: Timestamp) {
        let _unused = (records, window, processing_time);
    }
    /// A copy for another subtask.
    fn clone_box(&self) -> Box<dyn Evictor<T, W>>;
}
