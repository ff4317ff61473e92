//! What the summary counts while the job runs.

use super::results::LateFlight;
use super::screen::Line;
use flott::Sink;
use flott::sinks::FnSink;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many late flights the summary shows.
const LATE_SHOWN: usize = 5;

/// Counts that sinks of the job add to; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Mutex<Counts>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) hours: u64,
    pub(super) corrections: u64,
    pub(super) sessions: u64,
    pub(super) late_for_hour: u64,
    pub(super) late_for_session: u64,
    /// The first ones.
    pub(super) late: Vec<LateFlight>,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    pub(super) fn lines(&self) -> impl FnMut(&Line) + Clone + Send + 'static {
        let tally = self.clone();
        move |line: &Line| {
            let mut counts = tally.lock();
            match line {
                Line::Hour(hour) if hour.revision == 1 => counts.hours += 1,
                Line::Hour(_) => counts.corrections += 1,
                Line::Session(_) => counts.sessions += 1,
            }
        }
    }

    pub(super) fn late_flights(&self) -> impl Sink<LateFlight> {
        let tally = self.clone();
        FnSink::new(move |flight: LateFlight| {
            let mut counts = tally.lock();
            match flight.too_late_for.as_str() {
                "hour" => counts.late_for_hour += 1,
                _ => counts.late_for_session += 1,
            }
            // A flight that was late for both is shown once.
            let is_shown = |shown: &LateFlight| {
                (shown.carrier.as_str(), shown.flight, shown.sched_dep_ms)
                    == (flight.carrier.as_str(), flight.flight, flight.sched_dep_ms)
            };
            if counts.late.len() < LATE_SHOWN && !counts.late.iter().any(is_shown) {
                counts.late.push(flight);
            }
        })
    }
}
