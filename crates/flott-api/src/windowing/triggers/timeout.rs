//! Firing after a time-out, so that a count window which never fills still fires.
//!
//! To purge, put the `PurgingTrigger` outside: `PurgingTrigger::of(ProcessingTimeoutTrigger::of(CountTrigger::of(n), t))`.
//! Inside it would not see the time-out.

use crate::UserResult;
use crate::windowing::{Trigger, TriggerContext, TriggerResult, TriggerState, Window, require_timestamp};
use flott_types::{Result, Timestamp, duration_ms};
use std::time::Duration;

/// From which record a time-out is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountedFrom {
    First,
    Last,
}

/// What a time-out does to the inner trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnTimeout {
    Clear,
    Keep,
}

macro_rules! timeout_trigger {
    (
        $(#[doc = $doc:literal])+ $name:ident, $slot:literal,
        $register:ident, $delete:ident, $now:ident, $on_own:ident, $on_other:ident
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub struct $name<G> {
            inner: G,
            timeout_ms: i64,
            counted_from: CountedFrom,
            on_timeout: OnTimeout,
        }

        impl<G> $name<G> {
            /// Fires when `inner` does, or `timeout` after the first record since the last firing.
            ///
            /// # Panics
            /// If `timeout` is less than a millisecond.
            pub fn of(inner: G, timeout: Duration) -> Self {
                let timeout_ms = duration_ms(timeout);
                assert!(timeout_ms >= 1, "a trigger time-out of {timeout:?}: it must be at least 1 ms");
                Self { inner, timeout_ms, counted_from: CountedFrom::First, on_timeout: OnTimeout::Clear }
            }

            /// Counts the time-out from the last record instead of the first.
            #[must_use]
            pub fn with_reset_on_each_record(mut self) -> Self {
                self.counted_from = CountedFrom::Last;
                self
            }

            /// Lets the inner trigger go on after a time-out as if there had been none: a count, for example, is not
            /// reset.
            #[must_use]
            pub fn without_clear_on_timeout(mut self) -> Self {
                self.on_timeout = OnTimeout::Keep;
                self
            }

            /// Sets or moves the time-out to `at`.
            fn start(&self, at: Timestamp, ctx: &mut dyn TriggerContext) -> Result<()> {
                match ctx.state().get::<Timestamp>($slot)? {
                    Some(_) if self.counted_from == CountedFrom::First => return Ok(()),
                    Some(set) if set == at => return Ok(()),
                    Some(set) => ctx.$delete(set),
                    None => {}
                }
                ctx.state().set($slot, &at)?;
                ctx.$register(at);
                Ok(())
            }

            fn stop(ctx: &mut dyn TriggerContext) -> Result<()> {
                if let Some(at) = ctx.state().get::<Timestamp>($slot)? {
                    ctx.$delete(at);
                    ctx.state().clear($slot);
                }
                Ok(())
            }
        }

        impl<T: 'static, W: Window, G: Trigger<T, W> + Clone + 'static> Trigger<T, W> for $name<G> {
            fn on_element(
                &self,
                record: &T,
                timestamp: Timestamp,
                window: &W,
                ctx: &mut dyn TriggerContext,
            ) -> UserResult<TriggerResult> {
                let result = self.inner.on_element(record, timestamp, window, ctx)?;
                if result.is_fire() {
                    self.clear(window, ctx)?;
                } else {
                    let at = $now(timestamp, ctx)?.saturating_add(self.timeout_ms);
                    self.start(at, ctx)?;
                }
                Ok(result)
            }

            fn $on_own(&self, at: Timestamp, window: &W, ctx: &mut dyn TriggerContext) -> UserResult<TriggerResult> {
                let result = self.inner.$on_own(at, window, ctx)?;
                if ctx.state().get::<Timestamp>($slot)? == Some(at) {
                    Self::stop(ctx)?;
                    if self.on_timeout == OnTimeout::Clear {
                        self.inner.clear(window, ctx)?;
                    }
                    return Ok(if result.is_purge() { TriggerResult::FireAndPurge } else { TriggerResult::Fire });
                }
                if result.is_fire() {
                    Self::stop(ctx)?;
                }
                Ok(result)
            }

            fn $on_other(&self, at: Timestamp, window: &W, ctx: &mut dyn TriggerContext) -> UserResult<TriggerResult> {
                let result = self.inner.$on_other(at, window, ctx)?;
                if result.is_fire() {
                    Self::stop(ctx)?;
                }
                Ok(result)
            }

            fn can_merge(&self) -> bool {
                self.inner.can_merge()
            }

            /// The merged window waits for the earliest time-out, or for the latest if each record resets it.
            fn on_merge(&self, window: &W, merged: &[TriggerState], ctx: &mut dyn TriggerContext) -> UserResult {
                self.inner.on_merge(window, merged, ctx)?;
                let mut timeouts = Vec::with_capacity(merged.len());
                for state in merged {
                    timeouts.extend(state.get::<Timestamp>($slot)?);
                }
                let at = match self.counted_from {
                    CountedFrom::First => timeouts.into_iter().min(),
                    CountedFrom::Last => timeouts.into_iter().max(),
                };
                if let Some(at) = at {
                    self.start(at, ctx)?;
                }
                Ok(())
            }

            fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult {
                Self::stop(ctx)?;
                self.inner.clear(window, ctx)
            }

            fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
                Box::new(self.clone())
            }
        }
    };
}

#[expect(clippy::unnecessary_wraps, reason = "the counterpart of record_time")]
fn wall_clock(_: Timestamp, ctx: &mut dyn TriggerContext) -> Result<Timestamp> {
    Ok(ctx.current_processing_time())
}

fn record_time(timestamp: Timestamp, _: &mut dyn TriggerContext) -> Result<Timestamp> {
    require_timestamp(timestamp)
}

timeout_trigger! {
    /// Fires when another trigger does, or when the wall clock has advanced by a time-out since the first (or last)
    /// record. A time-out also clears the inner trigger.
    ///
    /// Unlike Flink's, timers of the inner trigger do not count as time-outs.
    ProcessingTimeoutTrigger, "processing-timeout",
    register_processing_time_timer, delete_processing_time_timer, wall_clock, on_processing_time, on_event_time
}
timeout_trigger! {
    /// Fires when another trigger does, or when the watermark has passed the timestamp of the first (or last) record by
    /// a time-out. A time-out also clears the inner trigger.
    EventTimeoutTrigger, "event-timeout",
    register_event_time_timer, delete_event_time_timer, record_time, on_event_time, on_processing_time
}
