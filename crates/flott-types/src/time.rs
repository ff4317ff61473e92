//! Event time: timestamps and watermarks, in milliseconds since the epoch.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z; negative before it.
pub type Timestamp = i64;

/// The timestamp of a record that has none: no timestamp assigner ran.
pub const NO_TIMESTAMP: Timestamp = i64::MIN;

/// The promise that no record with a timestamp at or below it follows, late records excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Watermark(pub Timestamp);

impl Watermark {
    /// Nothing is known yet.
    pub const MIN: Self = Self(i64::MIN);
    /// Event time has ended: what is still open fires.
    pub const MAX: Self = Self(i64::MAX);

    /// The timestamp up to which, inclusively, event time has passed.
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIN => f.write_str("W-inf"),
            Self::MAX => f.write_str("W+inf"),
            Self(timestamp) => write!(f, "W{timestamp}"),
        }
    }
}

/// `duration` in whole milliseconds, saturating at `i64::MAX`.
pub fn duration_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
