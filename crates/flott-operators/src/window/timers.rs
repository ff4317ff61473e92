//! The timers of windows: those that triggers set, and the one at which a window ends.

use flott_api::windowing::{TriggerContext, TriggerState, Window};
use flott_state::TimerService;
use flott_types::{Key, Timestamp, Watermark};

/// When windows end, and by which clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub(super) is_event_time: bool,
    pub(super) allowed_lateness_ms: i64,
}

impl Lifetime {
    /// The time after which nothing is known of a window any more; `None` if it lives for ever.
    pub(super) fn end<W: Window>(self, window: &W) -> Option<Timestamp> {
        let max_timestamp = window.max_timestamp();
        let lateness = if self.is_event_time { self.allowed_lateness_ms } else { 0 };
        Some(max_timestamp.saturating_add(lateness)).filter(|end| *end != Timestamp::MAX)
    }

    /// Whether a record for the window comes too late.
    pub(super) fn has_ended<W: Window>(self, window: &W, watermark: Watermark) -> bool {
        self.is_event_time && self.end(window).is_some_and(|end| end <= watermark.timestamp())
    }

    /// Sets the timer at which a new window ends.
    pub(super) fn register<K: Key, W: Window>(self, timers: &mut TimerService<K, W>, key: &K, window: &W) {
        if let Some(end) = self.end(window) {
            let queue = if self.is_event_time { &mut timers.event } else { &mut timers.processing };
            queue.register(end, key, window);
        }
    }

    /// Takes it back, because the window became part of another.
    pub(super) fn delete<K: Key, W: Window>(self, timers: &mut TimerService<K, W>, key: &K, window: &W) {
        if let Some(end) = self.end(window) {
            let queue = if self.is_event_time { &mut timers.event } else { &mut timers.processing };
            queue.delete(end, key, window);
        }
    }
}

/// Whether time on the wall goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WallClock {
    Running,
    /// The input has ended: what waits for the wall clock is fired now, and nothing can wait for it any more.
    Over,
}

/// What a trigger sees of one window of one key.
#[derive(Debug)]
pub(super) struct WindowTimers<'a, K, W> {
    pub(super) timers: &'a mut TimerService<K, W>,
    pub(super) key: &'a K,
    pub(super) window: &'a W,
    pub(super) state: &'a mut TriggerState,
    pub(super) lifetime: Lifetime,
    pub(super) wall_clock: WallClock,
}

impl<K: Key, W: Window> WindowTimers<'_, K, W> {
    /// Whether a timer is the one at which the window ends: the operator has set it when the window opened and takes it
    /// back when the window is gone, so triggers need not, and mostly it is all they ask for.
    fn is_end(&self, at: Timestamp, is_event_time: bool) -> bool {
        self.lifetime.is_event_time == is_event_time && self.lifetime.end(self.window) == Some(at)
    }
}

impl<K: Key, W: Window> TriggerContext for WindowTimers<'_, K, W> {
    fn current_watermark(&self) -> Watermark {
        self.timers.event_time.of_key(self.key)
    }
    fn current_processing_time(&self) -> Timestamp {
        self.timers.processing_time
    }
    fn register_event_time_timer(&mut self, at: Timestamp) {
        if !self.is_end(at, true) {
            self.timers.event.register(at, self.key, self.window);
        }
    }
    fn register_processing_time_timer(&mut self, at: Timestamp) {
        // A trigger that fires again and again would do so for ever at the end of the input.
        if self.wall_clock == WallClock::Running && !self.is_end(at, false) {
            self.timers.processing.register(at, self.key, self.window);
        }
    }
    fn delete_event_time_timer(&mut self, at: Timestamp) {
        if !self.is_end(at, true) {
            self.timers.event.delete(at, self.key, self.window);
        }
    }
    fn delete_processing_time_timer(&mut self, at: Timestamp) {
        if !self.is_end(at, false) {
            self.timers.processing.delete(at, self.key, self.window);
        }
    }
    fn state(&mut self) -> &mut TriggerState {
        self.state
    }
}
