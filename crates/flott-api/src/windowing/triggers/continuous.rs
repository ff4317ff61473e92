//! Firing at regular intervals while a window is open.

use crate::UserResult;
use crate::windowing::{Trigger, TriggerContext, TriggerResult, TriggerState, Window, require_timestamp};
use flott_types::{Result, Timestamp, duration_ms};
use std::time::Duration;

const NEXT_FIRE: &str = "next-fire";

fn interval_ms(interval: Duration) -> i64 {
    let ms = duration_ms(interval);
    assert!(ms >= 1, "a continuous trigger with an interval of {interval:?}: it must be at least 1 ms");
    ms
}

/// The first multiple of `interval_ms` after `time`.
fn next_multiple(time: Timestamp, interval_ms: i64) -> Timestamp {
    time.saturating_sub(time.rem_euclid(interval_ms)).saturating_add(interval_ms)
}

/// The earliest firing that the merged windows waited for.
fn earliest(merged: &[TriggerState]) -> Result<Option<Timestamp>> {
    let mut earliest = None;
    for state in merged {
        let next = state.get::<Timestamp>(NEXT_FIRE)?;
        earliest = next.map(|next| earliest.map_or(next, |known: Timestamp| known.min(next))).or(earliest);
    }
    Ok(earliest)
}

/// Fires whenever the watermark passes a multiple of an interval, and at the end of the window.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousEventTimeTrigger {
    interval_ms: i64,
}

impl ContinuousEventTimeTrigger {
    /// Fires every `interval` of event time, aligned to the epoch.
    ///
    /// # Panics
    /// If `interval` is less than a millisecond.
    pub fn of(interval: Duration) -> Self {
        Self { interval_ms: interval_ms(interval) }
    }

    fn wait_for(next: Timestamp, window: &impl Window, ctx: &mut dyn TriggerContext) -> Result<()> {
        let next = next.min(window.max_timestamp());
        ctx.state().set(NEXT_FIRE, &next)?;
        ctx.register_event_time_timer(next);
        Ok(())
    }
}

impl<T: 'static, W: Window> Trigger<T, W> for ContinuousEventTimeTrigger {
    fn on_element(
        &self,
        _: &T,
        timestamp: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        if window.max_timestamp() <= ctx.current_watermark().timestamp() {
            return Ok(TriggerResult::Fire);
        }
        ctx.register_event_time_timer(window.max_timestamp());
        if ctx.state().get::<Timestamp>(NEXT_FIRE)?.is_none() {
            Self::wait_for(next_multiple(require_timestamp(timestamp)?, self.interval_ms), window, ctx)?;
        }
        Ok(TriggerResult::Continue)
    }

    fn on_event_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        if at == window.max_timestamp() {
            return Ok(TriggerResult::Fire);
        }
        if ctx.state().get::<Timestamp>(NEXT_FIRE)? != Some(at) {
            return Ok(TriggerResult::Continue);
        }
        Self::wait_for(next_multiple(at, self.interval_ms), window, ctx)?;
        Ok(TriggerResult::Fire)
    }

    fn on_processing_time(
        &self,
        _: Timestamp,
        _: &W,
        _: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        Ok(TriggerResult::Continue)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, window: &W, merged: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
        if window.max_timestamp() > ctx.current_watermark().timestamp() {
            ctx.register_event_time_timer(window.max_timestamp());
        }
        if let Some(next) = earliest(merged)? {
            Self::wait_for(next, window, ctx)?;
        }
        Ok(())
    }

    fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        if let Some(next) = ctx.state().get::<Timestamp>(NEXT_FIRE)? {
            ctx.delete_event_time_timer(next);
            ctx.state().clear(NEXT_FIRE);
        }
        ctx.delete_event_time_timer(window.max_timestamp());
        Ok(())
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(*self)
    }
}

/// Fires whenever the wall clock passes a multiple of an interval, and at the end of a processing-time window.
///
/// The end of an event-time window is nothing to this trigger: with one, wrap nothing around it and let the last
/// interval fire, or use [`ContinuousEventTimeTrigger`].
#[derive(Clone, Copy, Debug)]
pub struct ContinuousProcessingTimeTrigger {
    interval_ms: i64,
}

impl ContinuousProcessingTimeTrigger {
    /// Fires every `interval` of processing time, aligned to the epoch.
    ///
    /// # Panics
    /// If `interval` is less than a millisecond.
    pub fn of(interval: Duration) -> Self {
        Self { interval_ms: interval_ms(interval) }
    }

    /// Waits for the next multiple after `time`, or for the end of the window if that is earlier and still ahead: over
    /// old data an event-time window ends long before the wall clock, and Flink would fire it in a loop.
    fn wait_from(&self, time: Timestamp, window: &impl Window, ctx: &mut dyn TriggerContext) -> Result<()> {
        let next = next_multiple(time, self.interval_ms);
        let end = window.max_timestamp();
        Self::wait_for(if end > time { next.min(end) } else { next }, ctx)
    }

    fn wait_for(next: Timestamp, ctx: &mut dyn TriggerContext) -> Result<()> {
        ctx.state().set(NEXT_FIRE, &next)?;
        ctx.register_processing_time_timer(next);
        Ok(())
    }
}

impl<T: 'static, W: Window> Trigger<T, W> for ContinuousProcessingTimeTrigger {
    fn on_element(
        &self,
        _: &T,
        _: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        if ctx.state().get::<Timestamp>(NEXT_FIRE)?.is_none() {
            self.wait_from(ctx.current_processing_time(), window, ctx)?;
        }
        Ok(TriggerResult::Continue)
    }

    fn on_event_time(&self, _: Timestamp, _: &W, _: &mut dyn TriggerContext) -> UserResult<TriggerResult> {
        Ok(TriggerResult::Continue)
    }

    fn on_processing_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        if ctx.state().get::<Timestamp>(NEXT_FIRE)? != Some(at) {
            return Ok(TriggerResult::Continue);
        }
        self.wait_from(at, window, ctx)?;
        Ok(TriggerResult::Fire)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, _: &W, merged: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
        if let Some(next) = earliest(merged)? {
            Self::wait_for(next, ctx)?;
        }
        Ok(())
    }

    fn clear(&self, _: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        if let Some(next) = ctx.state().get::<Timestamp>(NEXT_FIRE)? {
            ctx.delete_processing_time_timer(next);
            ctx.state().clear(NEXT_FIRE);
        }
        Ok(())
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(*self)
    }
}
