//! Time to live: state that is forgotten when it was not used for a while.

use flott_types::{Timestamp, duration_ms};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What renews the time to live of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlUpdate {
    /// Writing it.
    OnCreateAndWrite,
    /// Writing or reading it.
    OnReadAndWrite,
}

/// Whether an expired entry that has not been cleaned up yet can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlVisibility {
    /// It reads as absent.
    NeverReturnExpired,
    /// It is returned, once: reading it cleans it up.
    ReturnExpiredIfNotCleanedUp,
}

/// How long state lives, in processing time.
///
/// A value, each element of a list and each entry of a map has its own time to live. What has expired is left out of
/// snapshots and cleaned up when it is read and, a few entries at a time, while the state is accessed. The
/// configuration is no part of a snapshot: a changed one applies to the restored state from its first access on.
/// If several handles have one name, the configuration of the one that is used first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTtlConfig {
    pub(crate) ttl: Duration,
    pub(crate) update: TtlUpdate,
    pub(crate) visibility: TtlVisibility,
    pub(crate) cleanup_entries: usize,
}

impl StateTtlConfig {
    /// Entries live for `ttl`, at least a millisecond, after they were written, are never returned after that, and
    /// each access to the state looks at 5 entries to clean up.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            update: TtlUpdate::OnCreateAndWrite,
            visibility: TtlVisibility::NeverReturnExpired,
            cleanup_entries: 5,
        }
    }

    /// What renews an entry.
    #[must_use]
    pub fn update_type(mut self, update: TtlUpdate) -> Self {
        self.update = update;
        self
    }

    /// Whether expired entries can be seen.
    #[must_use]
    pub fn visibility(mut self, visibility: TtlVisibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// How many entries each access looks at to remove what has expired; with 0 only reading an expired entry
    /// removes it. A long list or map is looked at as a whole, which counts for as many accesses as it is long.
    #[must_use]
    pub fn cleanup_incrementally(mut self, entries: usize) -> Self {
        self.cleanup_entries = entries;
        self
    }

    /// What the configuration means at the processing time `now`.
    pub(crate) fn at(&self, now: Timestamp) -> Expiry {
        Expiry {
            now,
            horizon: now.saturating_sub(duration_ms(self.ttl).max(1)),
            renew_on_read: self.update == TtlUpdate::OnReadAndWrite,
            return_expired: self.visibility == TtlVisibility::ReturnExpiredIfNotCleanedUp,
        }
    }
}

/// A [`StateTtlConfig`] at a point of processing time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    pub(crate) now: Timestamp,
    /// What was last used at or before it has expired.
    pub(crate) horizon: Timestamp,
    renew_on_read: bool,
    return_expired: bool,
}

/// When an element of a state without time to live was last used: it never expires.
pub(crate) const NOT_TRACKED: Timestamp = Timestamp::MAX;

/// When an element was last used that has expired and has been returned after that: it counts as cleaned up.
const CLEANED_UP: Timestamp = Timestamp::MIN;

/// An element of a state with the processing time at which it was last used, in the sense of [`TtlUpdate`].
///
/// The time of use is stored and not the time of expiry, so that a changed configuration applies to what an older
/// run of the job left behind, as in Flink: the configuration is no part of the snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored<V> {
    pub(crate) value: V,
    /// Written as an option, which takes one byte in a state without time to live instead of ten.
    #[serde(with = "tracked")]
    used_at: Timestamp,
}

impl<V> Stored<V> {
    /// A value that is written now.
    pub(crate) fn new(value: V, expiry: Option<Expiry>) -> Self {
        Self { value, used_at: expiry.map_or(NOT_TRACKED, |expiry| expiry.now) }
    }

    /// Whether it has expired for one that was last used at `horizon`.
    pub(crate) fn expired(&self, horizon: Timestamp) -> bool {
        self.used_at <= horizon
    }

    /// Whether there is a value to read, without reading it.
    pub(crate) fn is_readable(&self, expiry: Expiry) -> bool {
        match self.expired(expiry.horizon) {
            true => expiry.return_expired && self.used_at != CLEANED_UP,
            false => true,
        }
    }

    /// Notes that the value is read; says whether it can be. An expired value is returned once at most: reading it
    /// cleans it up.
    pub(crate) fn read(&mut self, expiry: Expiry) -> bool {
        let readable = self.is_readable(expiry);
        if self.expired(expiry.horizon) {
            self.used_at = CLEANED_UP;
        } else if expiry.renew_on_read {
            self.used_at = expiry.now;
        }
        readable
    }

    /// Notes that the value was changed in place.
    pub(crate) fn wrote(&mut self, expiry: Option<Expiry>) {
        self.used_at = expiry.map_or(NOT_TRACKED, |expiry| expiry.now);
    }

    /// Starts the time to live of a value that was written when the state had none.
    pub(crate) fn track_from(&mut self, now: Timestamp) {
        if self.used_at == NOT_TRACKED {
            self.used_at = now;
        }
    }
}

mod tracked {
    use super::{NOT_TRACKED, Timestamp};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(used_at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        Some(used_at).filter(|used_at| **used_at != NOT_TRACKED).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(NOT_TRACKED))
    }
}
