//! The counters of a job, named as Flink's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of one job, over all its attempts.
#[derive(Debug, Default)]
pub struct JobMetrics {
    restarts: AtomicU64,
    region_restarts: AtomicU64,
    completed_checkpoints: AtomicU64,
    failed_checkpoints: AtomicU64,
    last_checkpoint_ms: AtomicU64,
    last_checkpoint_bytes: AtomicU64,
    failed_cleanups: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// `numRestarts`: of the whole job or a region of it.
    pub restarts: u64,
    /// Those of these of a region only.
    pub region_restarts: u64,
    /// `numberOfCompletedCheckpoints`, savepoints included.
    pub completed_checkpoints: u64,
    /// `numberOfFailedCheckpoints`: those that were aborted, for whatever reason.
    pub failed_checkpoints: u64,
    /// `lastCheckpointDuration`: from the trigger to the completion of the last complete one.
    pub last_checkpoint_duration: Duration,
    /// `lastCheckpointSize`: the bytes of its parts.
    pub last_checkpoint_bytes: u64,
    /// Deletions of old checkpoints and garbage that failed. What they left is tried again when the job next starts.
    pub failed_cleanups: u64,
}

impl JobMetrics {
    /// The counters as they are now.
    pub fn counts(&self) -> JobCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JobCounts {
            restarts: get(&self.restarts),
            region_restarts: get(&self.region_restarts),
            completed_checkpoints: get(&self.completed_checkpoints),
            failed_checkpoints: get(&self.failed_checkpoints),
            last_checkpoint_duration: Duration::from_millis(get(&self.last_checkpoint_ms)),
            last_checkpoint_bytes: get(&self.last_checkpoint_bytes),
            failed_cleanups: get(&self.failed_cleanups),
        }
    }

    pub(crate) fn on_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_region_restart(&self) {
        self.on_restart();
        self.region_restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_checkpoint_completed(&self, duration: Duration, bytes: u64) {
        self.completed_checkpoints.fetch_add(1, Ordering::Relaxed);
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.last_checkpoint_ms.store(ms, Ordering::Relaxed);
        self.last_checkpoint_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn on_checkpoint_failed(&self) {
        self.failed_checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_cleanup_failed(&self) {
        self.failed_cleanups.fetch_add(1, Ordering::Relaxed);
    }
}
