//! Halts a process at a point until it is let go.

use super::point::{Point, Side, Step};
use flott_env::Env;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct Probe(Arc<Inner>);

struct Inner {
    /// The real world, to say something on standard output.
    env: Env,
    halt: Option<Point>,
    n_passed: AtomicU64,
    /// Whether the halted thread may go on.
    is_open: Mutex<bool>,
    opened: Condvar,
    clock_ms: AtomicI64,
}

impl Probe {
    pub(crate) fn new(env: Env, halt: Option<Point>) -> Self {
        Self(Arc::new(Inner {
            env,
            halt,
            n_passed: AtomicU64::new(0),
            is_open: Mutex::new(false),
            opened: Condvar::new(),
            clock_ms: AtomicI64::new(0),
        }))
    }

    /// Says a line to the harness. If that has gone nobody listens, and this process ends soon.
    pub(crate) fn say(&self, line: &str) {
        drop(self.0.env.print(format!("{}\n", line.replace('\n', " ")).as_bytes()));
    }

    /// The thread that is halted, if any, may go on.
    pub(crate) fn open(&self) {
        *self.0.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.opened.notify_all();
    }

    /// Moves the wall clock.
    pub(crate) fn jump(&self, ms: i64) {
        self.0.clock_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// How far the wall clock was moved.
    pub(crate) fn clock_ms(&self) -> i64 {
        self.0.clock_ms.load(Ordering::Relaxed)
    }

    /// The calling thread is here; it may be halted.
    pub(crate) fn at(&self, step: Step, side: Side) {
        let inner = &*self.0;
        let Some(point) = inner.halt.filter(|point| (point.step, point.side) == (step, side)) else { return };
        if inner.n_passed.fetch_add(1, Ordering::Relaxed) != point.nth {
            return;
        }
        self.say(&format!("at {point}"));
        let mut is_open = inner.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_open {
            is_open = inner.opened.wait(is_open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a step.
    pub(crate) fn take<R>(&self, step: Step, f: impl FnOnce() -> R) -> R {
        self.at(step, Side::Before);
        let result = f();
        self.at(step, Side::Behind);
        result
    }
}
