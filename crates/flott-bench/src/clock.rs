//! The only place of the bench that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Runs `work` and returns how long it took, with its result.
///
/// Every contender measures itself with this, so that each decides what belongs to the run
/// (threads, tables and results do; building a report does not).
#[expect(clippy::disallowed_methods, reason = "a bench measures wall time")]
pub(crate) fn measure<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// Time since it was made.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a bench measures wall time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[expect(clippy::disallowed_methods, reason = "a bench measures wall time")]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Milliseconds since the epoch, for a loop with processing-time windows.
#[expect(clippy::disallowed_methods, reason = "a reference without the engine has a clock of its own")]
pub(crate) fn wall_clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
