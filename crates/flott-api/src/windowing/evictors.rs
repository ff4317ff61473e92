//! The evictors.

use super::{Evictor, Window};
use flott_types::{NO_TIMESTAMP, Timestamp, duration_ms};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whether records leave before or after the window function has seen them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EvictionTime {
    Before,
    After,
}

/// Implements `Evictor` by a method `evict`.
macro_rules! evictor {
    ($name:ty) => {
        impl<T: 'static, W: Window> Evictor<T, W> for $name {
            fn evict_before(&self, records: &mut Vec<(T, Timestamp)>, _: &W, _: Timestamp) {
                if self.time == EvictionTime::Before {
                    self.evict(records);
                }
            }

            fn evict_after(&self, records: &mut Vec<(T, Timestamp)>, _: &W, _: Timestamp) {
                if self.time == EvictionTime::After {
                    self.evict(records);
                }
            }

            fn clone_box(&self) -> Box<dyn Evictor<T, W>> {
                Box::new(self.clone())
            }
        }
    };
}

/// Keeps the records that came last.
#[derive(Clone, Copy, Debug)]
pub struct CountEvictor {
    n_max: usize,
    time: EvictionTime,
}

evictor!(CountEvictor);

impl CountEvictor {
    /// Keeps the `n` records that came last.
    pub fn of(n: usize) -> Self {
        Self { n_max: n, time: EvictionTime::Before }
    }

    /// Lets the window function see the records once more before they leave.
    #[must_use]
    pub fn do_evict_after(mut self) -> Self {
        self.time = EvictionTime::After;
        self
    }

    fn evict<T>(&self, records: &mut Vec<(T, Timestamp)>) {
        let n_excess = records.len().saturating_sub(self.n_max);
        records.drain(..n_excess);
    }
}

/// Keeps the records of the last stretch of time before the newest one, by their timestamps.
#[derive(Clone, Copy, Debug)]
pub struct TimeEvictor {
    length_ms: i64,
    time: EvictionTime,
}

evictor!(TimeEvictor);

impl TimeEvictor {
    /// Keeps records less than `length` older than the newest. Records without timestamps all stay.
    pub fn of(length: Duration) -> Self {
        Self { length_ms: duration_ms(length), time: EvictionTime::Before }
    }

    /// Lets the window function see the records once more before they leave.
    #[must_use]
    pub fn do_evict_after(mut self) -> Self {
        self.time = EvictionTime::After;
        self
    }

    fn evict<T>(&self, records: &mut Vec<(T, Timestamp)>) {
        let newest = records.iter().map(|(_, timestamp)| *timestamp).max().unwrap_or(NO_TIMESTAMP);
        if newest != NO_TIMESTAMP {
            let horizon = newest.saturating_sub(self.length_ms);
            records.retain(|(_, timestamp)| *timestamp > horizon);
        }
    }
}

type DeltaFunction<T> = Arc<dyn Fn(&T, &T) -> f64 + Send + Sync>;

/// Keeps the records that are near the last one, as a function measures it.
pub struct DeltaEvictor<T> {
    threshold: f64,
    delta: DeltaFunction<T>,
    time: EvictionTime,
}

evictor!(DeltaEvictor<T>);

impl<T> Clone for DeltaEvictor<T> {
    fn clone(&self) -> Self {
        Self { threshold: self.threshold, delta: Arc::clone(&self.delta), time: self.time }
    }
}

impl<T> fmt::Debug for DeltaEvictor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaEvictor").field("threshold", &self.threshold).finish_non_exhaustive()
    }
}

impl<T> DeltaEvictor<T> {
    /// Drops records for which `delta(record, last record)` is `threshold` or more.
    pub fn of(threshold: f64, delta: impl Fn(&T, &T) -> f64 + Send + Sync + 'static) -> Self {
        Self { threshold, delta: Arc::new(delta), time: EvictionTime::Before }
    }

    /// Lets the window function see the records once more before they leave.
    #[must_use]
    pub fn do_evict_after(mut self) -> Self {
        self.time = EvictionTime::After;
        self
    }

    fn evict(&self, records: &mut Vec<(T, Timestamp)>) {
        let Some((last, last_timestamp)) = records.pop() else { return };
        let is_far = |record: &T| (self.delta)(record, &last) >= self.threshold;
        records.retain(|(record, _)| !is_far(record));
        // The last record is measured against itself too, as in Flink.
        if !is_far(&last) {
            records.push((last, last_timestamp));
        }
    }
}
