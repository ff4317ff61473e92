//! The window assigners.

use super::{
    EventTimeTrigger, GlobalWindow, NeverTrigger, ProcessingTimeTrigger, Slicing, TimeWindow, Trigger,
    WindowAssigner, require_timestamp,
};
use crate::UserResult;
use flott_types::{Error, Timestamp, duration_ms};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A duration of at least a millisecond; anything shorter is a mistake in the program, found when it is built.
fn positive_ms(what: &str, duration: Duration) -> i64 {
    let ms = duration_ms(duration);
    assert!(ms >= 1, "{what} of {duration:?}: it must be at least 1 ms");
    ms
}

/// The start of the interval of length `length_ms` around `timestamp`; some interval starts at `offset_ms`, which lies
/// in `0..length_ms`.
fn interval_start(timestamp: Timestamp, offset_ms: i64, length_ms: i64) -> Timestamp {
    // The remainders are taken one by one: `timestamp - offset_ms` may overflow.
    let into = timestamp.rem_euclid(length_ms) - offset_ms;
    timestamp.saturating_sub(if into < 0 { into + length_ms } else { into })
}

/// The windows of equal size at equal distances around `timestamp`, earliest first.
fn assign_evenly(layout: Slicing, timestamp: Timestamp, windows: &mut Vec<TimeWindow>) {
    let Slicing { size_ms, slide_ms, offset_ms } = layout;
    let last_start = interval_start(timestamp, offset_ms, slide_ms);
    // Starts later than `timestamp - size_ms`; none if windows are further apart than they are long.
    let reach = last_start.saturating_sub(timestamp.saturating_sub(size_ms));
    let n_windows = if reach > 0 { (reach - 1) / slide_ms + 1 } else { 0 };
    for back in (0..n_windows).rev() {
        let start = last_start.saturating_sub(back.saturating_mul(slide_ms));
        windows.push(TimeWindow { start, end: start.saturating_add(size_ms) });
    }
}

macro_rules! even_windows {
    ($(#[doc = $doc:literal])+ $name:ident, $event_time:literal, $trigger:ident, $time:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            layout: Slicing,
        }

        impl $name {
            /// Shifts all windows by `offset`: windows of a day that begin at 16:00 UTC have an offset of 16 hours.
            #[must_use]
            pub fn with_offset(self, offset: Duration) -> Self {
                self.with_offset_ms(duration_ms(offset))
            }

            /// As `with_offset`, in milliseconds, which may be negative.
            #[must_use]
            pub fn with_offset_ms(mut self, offset_ms: i64) -> Self {
                self.layout.offset_ms = offset_ms.rem_euclid(self.layout.slide_ms);
                self
            }
        }

        impl<T: 'static> WindowAssigner<T> for $name {
            type Window = TimeWindow;

            fn assign_windows(
                &self,
                _: &T,
                timestamp: Timestamp,
                processing_time: Timestamp,
                windows: &mut Vec<TimeWindow>,
            ) -> UserResult {
                let time = $time(timestamp, processing_time)?;
                assign_evenly(self.layout, time, windows);
                Ok(())
            }

            fn default_trigger(&self) -> Box<dyn Trigger<T, TimeWindow>> {
                Box::new($trigger)
            }

            fn is_event_time(&self) -> bool {
                $event_time
            }

            fn slicing(&self) -> Option<Slicing> {
                Some(self.layout)
            }
        }
    };
}

fn event_time(timestamp: Timestamp, _: Timestamp) -> UserResult<Timestamp> {
    Ok(require_timestamp(timestamp)?)
}

#[expect(clippy::unnecessary_wraps, reason = "the counterpart of event_time")]
fn processing_time(_: Timestamp, processing_time: Timestamp) -> UserResult<Timestamp> {
    Ok(processing_time)
}

even_windows! {
    /// Windows of one size that follow each other, by the records' timestamps.
    ///
    /// ```text
    /// TumblingEventTimeWindows::of(Duration::from_secs(60 * 60))
    /// ```
    TumblingEventTimeWindows, true, EventTimeTrigger, event_time
}
even_windows! {
    /// Windows of one size that follow each other, by the wall clock.
    TumblingProcessingTimeWindows, false, ProcessingTimeTrigger, processing_time
}
even_windows! {
    /// Windows of one size, one every `slide`, by the records' timestamps: a record is in `size / slide` of them.
    SlidingEventTimeWindows, true, EventTimeTrigger, event_time
}
even_windows! {
    /// Windows of one size, one every `slide`, by the wall clock.
    SlidingProcessingTimeWindows, false, ProcessingTimeTrigger, processing_time
}

fn tumbling(size: Duration) -> Slicing {
    let size_ms = positive_ms("a window size", size);
    Slicing { size_ms, slide_ms: size_ms, offset_ms: 0 }
}

fn sliding(size: Duration, slide: Duration) -> Slicing {
    let size_ms = positive_ms("a window size", size);
    Slicing { size_ms, slide_ms: positive_ms("a window slide", slide), offset_ms: 0 }
}

impl TumblingEventTimeWindows {
    /// Windows of `size`, in whole milliseconds, aligned to the epoch.
    ///
    /// # Panics
    /// If `size` is less than a millisecond.
    pub fn of(size: Duration) -> Self {
        Self { layout: tumbling(size) }
    }
}

impl TumblingProcessingTimeWindows {
    /// Windows of `size`, in whole milliseconds, aligned to the epoch.
    ///
    /// # Panics
    /// If `size` is less than a millisecond.
    pub fn of(size: Duration) -> Self {
        Self { layout: tumbling(size) }
    }
}

impl SlidingEventTimeWindows {
    /// Windows of `size`, one every `slide`, in whole milliseconds, aligned to the epoch. If `slide` is longer than
    /// `size`, records in between are in no window.
    ///
    /// # Panics
    /// If `size` or `slide` is less than a millisecond.
    pub fn of(size: Duration, slide: Duration) -> Self {
        Self { layout: sliding(size, slide) }
    }
}

impl SlidingProcessingTimeWindows {
    /// Windows of `size`, one every `slide`, in whole milliseconds, aligned to the epoch. If `slide` is longer than
    /// `size`, records in between are in no window.
    ///
    /// # Panics
    /// If `size` or `slide` is less than a millisecond.
    pub fn of(size: Duration, slide: Duration) -> Self {
        Self { layout: sliding(size, slide) }
    }
}

/// How long a session waits for its next record.
pub trait SessionGap<T>: Clone + Send + Sync + 'static {
    /// The gap after `record` in milliseconds, at least 1.
    ///
    /// # Errors
    /// If it is not positive.
    fn gap_ms(&self, record: &T) -> UserResult<i64>;
}

/// The same gap after every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedGap {
    gap_ms: i64,
}

impl<T> SessionGap<T> for FixedGap {
    #[inline]
    fn gap_ms(&self, _: &T) -> UserResult<i64> {
        Ok(self.gap_ms)
    }
}

/// A gap that a function of the record says.
pub struct DynamicGap<T, F> {
    gap: F,
    records: PhantomData<fn(&T)>,
}

impl<T, F: Clone> Clone for DynamicGap<T, F> {
    fn clone(&self) -> Self {
        Self { gap: self.gap.clone(), records: PhantomData }
    }
}

impl<T, F> fmt::Debug for DynamicGap<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynamicGap")
    }
}

impl<T: 'static, F: Fn(&T) -> Duration + Clone + Send + Sync + 'static> SessionGap<T> for DynamicGap<T, F> {
    #[inline]
    fn gap_ms(&self, record: &T) -> UserResult<i64> {
        let gap = (self.gap)(record);
        let gap_ms = duration_ms(gap);
        if gap_ms >= 1 {
            return Ok(gap_ms);
        }
        Err(Error::user(format!("the session gap of a record is {gap:?}: it must be at least 1 ms")).into())
    }
}

macro_rules! session_windows {
    ($(#[doc = $doc:literal])+ $name:ident, $event_time:literal, $trigger:ident, $time:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<G = FixedGap> {
            gap: G,
        }

        impl $name {
            /// Sessions that end when there was no record for `gap`.
            ///
            /// # Panics
            /// If `gap` is less than a millisecond.
            pub fn with_gap(gap: Duration) -> Self {
                Self { gap: FixedGap { gap_ms: positive_ms("a session gap", gap) } }
            }

            /// Sessions that end when no record came for as long as `gap` says of each of their records. A gap of less
            /// than a millisecond fails the job.
            pub fn with_dynamic_gap<T, F>(gap: F) -> $name<DynamicGap<T, F>>
            where
                F: Fn(&T) -> Duration + Clone + Send + Sync + 'static,
            {
                $name { gap: DynamicGap { gap, records: PhantomData } }
            }
        }

        impl<T: 'static, G: SessionGap<T>> WindowAssigner<T> for $name<G> {
            type Window = TimeWindow;

            fn assign_windows(
                &self,
                record: &T,
                timestamp: Timestamp,
                processing_time: Timestamp,
                windows: &mut Vec<TimeWindow>,
            ) -> UserResult {
                let start = $time(timestamp, processing_time)?;
                windows.push(TimeWindow { start, end: start.saturating_add(self.gap.gap_ms(record)?) });
                Ok(())
            }

            fn default_trigger(&self) -> Box<dyn Trigger<T, TimeWindow>> {
                Box::new($trigger)
            }

            fn is_event_time(&self) -> bool {
                $event_time
            }

            fn is_merging(&self) -> bool {
                true
            }

            #[inline]
            fn session_gap_ms(&self, record: &T) -> UserResult<i64> {
                self.gap.gap_ms(record)
            }

            fn is_event_time_session(&self) -> bool {
                $event_time
            }
        }
    };
}

session_windows! {
    /// Periods of activity of a key, by the records' timestamps: a session ends when the key has no record for the gap.
    EventTimeSessionWindows, true, EventTimeTrigger, event_time
}
session_windows! {
    /// Periods of activity of a key, by the wall clock: a session ends when the key has no record for the gap.
    ProcessingTimeSessionWindows, false, ProcessingTimeTrigger, processing_time
}

/// One window for all records of a key. It never fires unless a trigger is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalWindows;

impl<T: 'static> WindowAssigner<T> for GlobalWindows {
    type Window = GlobalWindow;

    fn assign_windows(
        &self,
        _: &T,
        _: Timestamp,
        _: Timestamp,
        windows: &mut Vec<GlobalWindow>,
    ) -> UserResult {
        windows.push(GlobalWindow);
        Ok(())
    }

    fn default_trigger(&self) -> Box<dyn Trigger<T, GlobalWindow>> {
        Box::new(NeverTrigger)
    }

    fn is_event_time(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
