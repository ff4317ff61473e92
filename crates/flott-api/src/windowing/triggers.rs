//! The triggers.
//!
//! They mean what Flink's of the same name mean. Where Flink's behaviour is an accident, the difference is noted at the
//! trigger.

mod continuous;
mod count;
mod delta;
mod timeout;

pub use continuous::{ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger};
pub use count::CountTrigger;
pub use delta::DeltaTrigger;
pub use timeout::{EventTimeoutTrigger, ProcessingTimeoutTrigger};

use super::{Trigger, TriggerContext, TriggerResult, TriggerState, Window};
use crate::UserResult;
use flott_types::Timestamp;

/// Fires when the watermark reaches the end of the window; with allowed lateness again for each late record.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTimeTrigger;

impl<T: 'static, W: Window> Trigger<T, W> for EventTimeTrigger {
    fn on_element(
        &self,
        _: &T,
        _: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        if window.max_timestamp() <= ctx.current_watermark().timestamp() {
            return Ok(TriggerResult::Fire);
        }
        ctx.register_event_time_timer(window.max_timestamp());
        Ok(TriggerResult::Continue)
    }

    fn on_event_time(
        &self,
        at: Timestamp,
        window: &W,
        _: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        Ok(if at == window.max_timestamp() { TriggerResult::Fire } else { TriggerResult::Continue })
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

    fn on_merge(&self, window: &W, _: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
        if window.max_timestamp() > ctx.current_watermark().timestamp() {
            ctx.register_event_time_timer(window.max_timestamp());
        }
        Ok(())
    }

    fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        ctx.delete_event_time_timer(window.max_timestamp());
        Ok(())
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(*self)
    }
}

/// Fires when the wall clock reaches the end of the window, and when a bounded input ends before. (In Flink what is open then
/// is dropped.)
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessingTimeTrigger;

impl<T: 'static, W: Window> Trigger<T, W> for ProcessingTimeTrigger {
    fn on_element(
        &self,
        _: &T,
        _: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        ctx.register_processing_time_timer(window.max_timestamp());
        Ok(TriggerResult::Continue)
    }

    fn on_event_time(&self, _: Timestamp, _: &W, _: &mut dyn TriggerContext) -> UserResult<TriggerResult> {
        Ok(TriggerResult::Continue)
    }

    fn on_processing_time(
        &self,
        at: Timestamp,
        window: &W,
        _: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        Ok(if at == window.max_timestamp() { TriggerResult::Fire } else { TriggerResult::Continue })
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, window: &W, _: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
        ctx.register_processing_time_timer(window.max_timestamp());
        Ok(())
    }

    fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        ctx.delete_processing_time_timer(window.max_timestamp());
        Ok(())
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(*self)
    }
}

/// Never fires: the trigger of global windows that say none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverTrigger;

impl<T: 'static, W: Window> Trigger<T, W> for NeverTrigger {
    fn on_element(
        &self,
        _: &T,
        _: Timestamp,
        _: &W,
        _: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        Ok(TriggerResult::Continue)
    }

    fn on_event_time(&self, _: Timestamp, _: &W, _: &mut dyn TriggerContext) -> UserResult<TriggerResult> {
        Ok(TriggerResult::Continue)
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

    fn on_merge(&self, _: &W, _: &[TriggerState], _: &mut dyn TriggerContext) -> UserResult {
        Ok(())
    }

    fn clear(&self, _: &W, _: &mut dyn TriggerContext) -> UserResult {
        Ok(())
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(*self)
    }
}

/// Throws the window's content away whenever another trigger fires, so that each record counts in one result only.
#[derive(Clone, Debug)]
pub struct PurgingTrigger<G> {
    inner: G,
}

impl<G> PurgingTrigger<G> {
    /// `inner`, purging.
    pub fn of(inner: G) -> Self {
        Self { inner }
    }
}

const fn purging(result: TriggerResult) -> TriggerResult {
    if result.is_fire() { TriggerResult::FireAndPurge } else { result }
}

impl<T: 'static, W: Window, G: Trigger<T, W> + Clone + 'static> Trigger<T, W> for PurgingTrigger<G> {
    fn on_element(
        &self,
        record: &T,
        timestamp: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        self.inner.on_element(record, timestamp, window, ctx).map(purging)
    }

    fn on_event_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        self.inner.on_event_time(at, window, ctx).map(purging)
    }

    fn on_processing_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        self.inner.on_processing_time(at, window, ctx).map(purging)
    }

    fn can_merge(&self) -> bool {
        self.inner.can_merge()
    }

    fn on_merge(&self, window: &W, merged: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
        self.inner.on_merge(window, merged, ctx)
    }

    fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        self.inner.clear(window, ctx)
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(self.clone())
    }
}
