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
    /// It is returned.
    ReturnExpiredIfNotCleanedUp,
}

/// How long state lives, in processing time. Expired entries are left out of snapshots and cleaned up while the state is
/// accessed, a few at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTtlConfig {
    pub(crate) ttl: Duration,
    pub(crate) update: TtlUpdate,
    pub(crate) visibility: TtlVisibility,
    pub(crate) cleanup_entries: usize,
}

impl StateTtlConfig {
    /// Entries live for `ttl` after they were written, are never returned after that, and each access to the state
    /// looks at 5 entries to clean up.
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

    /// How many entries each access looks at to remove what has expired; 0 cleans up at snapshots only.
    #[must_use]
    pub fn cleanup_incrementally(mut self, entries: usize) -> Self {
        self.cleanup_entries = entries;
        self
    }

    pub(crate) fn expires_at(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(duration_ms(self.ttl))
    }
}

/// A value with the processing time at which it expires; `Timestamp::MAX` for never.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored<V> {
    pub(crate) value: V,
    pub(crate) expires_at: Timestamp,
}

impl<V> Stored<V> {
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}
