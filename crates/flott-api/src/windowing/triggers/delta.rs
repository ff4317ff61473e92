//! Firing by how far a record is from the one that fired last.

use crate::UserResult;
use crate::windowing::{Trigger, TriggerContext, TriggerResult, TriggerState, Window};
use flott_types::{Data, Error, Timestamp};
use std::fmt;
use std::sync::Arc;

type DeltaFunction<T> = Arc<dyn Fn(&T, &T) -> f64 + Send + Sync>;

/// Fires when a record is further than a threshold from the last one that fired, as a function measures it; the first
/// record of a window is where measuring begins.
pub struct DeltaTrigger<T> {
    threshold: f64,
    delta: DeltaFunction<T>,
}

const LAST: &str = "last";

impl<T> DeltaTrigger<T> {
    /// Fires when `delta(last record that fired, record)` is greater than `threshold`.
    pub fn of(threshold: f64, delta: impl Fn(&T, &T) -> f64 + Send + Sync + 'static) -> Self {
        Self { threshold, delta: Arc::new(delta) }
    }
}

impl<T> Clone for DeltaTrigger<T> {
    fn clone(&self) -> Self {
        Self { threshold: self.threshold, delta: Arc::clone(&self.delta) }
    }
}

impl<T> fmt::Debug for DeltaTrigger<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaTrigger").field("threshold", &self.threshold).finish_non_exhaustive()
    }
}

impl<T: Data, W: Window> Trigger<T, W> for DeltaTrigger<T> {
    fn on_element(
        &self,
        record: &T,
        _: Timestamp,
        _: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        let state = ctx.state();
        let result = match state.get::<T>(LAST)? {
            None => TriggerResult::Continue,
            Some(last) if (self.delta)(&last, record) > self.threshold => TriggerResult::Fire,
            Some(_) => return Ok(TriggerResult::Continue),
        };
        state.set(LAST, record)?;
        Ok(result)
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
        false
    }

    fn on_merge(&self, _: &W, _: &[TriggerState], _: &mut dyn TriggerContext) -> UserResult {
        Err(Error::user("a DeltaTrigger cannot be used with windows that merge").into())
    }

    fn clear(&self, _: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        ctx.state().clear(LAST);
        Ok(())
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(self.clone())
    }
}
