//! Being woken by a reader that has something to read.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

/// Whether a reader has asked to be polled again.
#[derive(Debug, Default)]
pub struct Wakeup {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Wakeup {
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Waits until a reader asks to be polled, and not longer than `timeout` of real time.
    pub fn wait_at_most(&self, timeout: Duration) {
        let is_woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(is_woken, timeout, |is_woken| !*is_woken));
    }

    /// Whether a reader was woken since the last call. A subject whose readers look again by themselves after a while, and has let that pass, calls it
    /// when that is over: such a wake-up says nothing of what there is to read, and the turn counts as one without anything.
    pub fn take(&self) -> bool {
        std::mem::take(&mut *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
