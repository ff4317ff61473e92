//! Firing by number of records.

use crate::UserResult;
use crate::windowing::{Trigger, TriggerContext, TriggerResult, TriggerState, Window};
use flott_types::Timestamp;

/// Fires when the window has got another `n` records.
#[derive(Clone, Copy, Debug)]
pub struct CountTrigger {
    n: u64,
}

const COUNT: &str = "count";

impl CountTrigger {
    /// Fires at every `n`-th record of a window.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn of(n: u64) -> Self {
        assert!(n >= 1, "a count trigger of {n} records: it must be at least 1");
        Self { n }
    }
}

impl<T: 'static, W: Window> Trigger<T, W> for CountTrigger {
    fn on_element(
        &self,
        _: &T,
        _: Timestamp,
        _: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        let state = ctx.state();
        let count = state.get::<u64>(COUNT)?.unwrap_or(0) + 1;
        if count >= self.n {
            state.clear(COUNT);
            return Ok(TriggerResult::Fire);
        }
        state.set(COUNT, &count)?;
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

    /// Sums the counts. A merged window that has enough records fires with the next one, which is the one that made
    /// the windows merge.
    fn on_merge(&self, _: &W, merged: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
        let mut sum = 0;
        for state in merged {
            sum += state.get::<u64>(COUNT)?.unwrap_or(0);
        }
        if sum > 0 {
            ctx.state().set(COUNT, &sum)?;
        }
        Ok(())
    }

    fn clear(&self, _: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        ctx.state().clear(COUNT);
        Ok(())
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(*self)
    }
}
