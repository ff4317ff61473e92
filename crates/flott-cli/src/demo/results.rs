//! What the demo computes: hours and periods of delays.

use super::flight::Flight;
use super::new_york;
use flott::AggregateFunction;
use flott::windowing::TimeWindow;
use serde::{Deserialize, Serialize};

/// Departures that are later than this count as delayed in an hour's share.
pub(super) const DELAYED_MIN: i32 = 15;

/// What is known about the flights that were scheduled in one hour at one airport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hour {
    pub(super) origin: String,
    /// The start of the hour in New York.
    pub(super) hour: String,
    pub(super) hour_ms: i64,
    /// 1 for the first result, one more for each correction.
    pub(super) revision: u32,
    pub(super) departures: u32,
    pub(super) cancelled: u32,
    /// Over the departures; empty if there was none.
    pub(super) mean_delay_min: Option<f64>,
    pub(super) max_delay_min: Option<i32>,
    /// The departures more than 15 minutes late, as a part of all.
    pub(super) delayed_share: Option<f64>,
}

impl Hour {
    pub(super) fn new(origin: &str, window: TimeWindow, sums: HourSums) -> Self {
        let per_departure = |sum: f64| (sums.departures > 0).then(|| sum / f64::from(sums.departures));
        Self {
            origin: origin.to_owned(),
            hour: new_york::iso(window.start),
            hour_ms: window.start,
            revision: 1,
            departures: sums.departures,
            cancelled: sums.cancelled,
            mean_delay_min: per_departure(sums.delay_sum_min as f64),
            max_delay_min: sums.delay_max_min,
            delayed_share: per_departure(f64::from(sums.delayed)),
        }
    }
}

/// Sums up the flights of an hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct SumHour;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct HourSums {
    departures: u32,
    cancelled: u32,
    delayed: u32,
    delay_sum_min: i64,
    delay_max_min: Option<i32>,
}

impl AggregateFunction<Flight> for SumHour {
    type Accumulator = HourSums;
    type Output = HourSums;

    fn create_accumulator(&self) -> HourSums {
        HourSums::default()
    }

    fn add(&self, sums: &mut HourSums, flight: &Flight) {
        let Some(delay) = flight.dep_delay_min else {
            sums.cancelled += 1;
            return;
        };
        sums.departures += 1;
        sums.delayed += u32::from(delay > DELAYED_MIN);
        sums.delay_sum_min += i64::from(delay);
        sums.delay_max_min = sums.delay_max_min.max(Some(delay));
    }

    fn get_result(&self, sums: &HourSums) -> HourSums {
        sums.clone()
    }

    fn merge(&self, sums: &mut HourSums, other: &HourSums) {
        sums.departures += other.departures;
        sums.cancelled += other.cancelled;
        sums.delayed += other.delayed;
        sums.delay_sum_min += other.delay_sum_min;
        sums.delay_max_min = sums.delay_max_min.max(other.delay_max_min);
    }
}

/// Delays longer than this make a session.
pub(super) const SESSION_DELAY_MIN: i32 = 30;

/// A period in which flights of an airline were delayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DelaySession {
    pub(super) carrier: String,
    /// When the first delayed flight was scheduled, in New York.
    pub(super) from: String,
    /// When the last one was.
    pub(super) to: String,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    pub(super) flights: u32,
    pub(super) worst_delay_min: i32,
    pub(super) worst_flight: String,
}

impl DelaySession {
    pub(super) fn new(carrier: &str, window: TimeWindow, gap_ms: i64, delays: Delays) -> Self {
        let (from_ms, to_ms) = (window.start, window.end.saturating_sub(gap_ms));
        Self {
            carrier: carrier.to_owned(),
            from: new_york::iso(from_ms),
            to: new_york::iso(to_ms),
            from_ms,
            to_ms,
            flights: delays.flights,
            worst_delay_min: delays.worst_delay_min,
            worst_flight: delays.worst_flight,
        }
    }
}

/// Counts the flights of a session and keeps the worst.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountDelays;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Delays {
    flights: u32,
    worst_delay_min: i32,
    worst_flight: String,
}

impl Delays {
    /// Of two equally bad flights the one that comes first in the alphabet, so that the order of arrival does not matter.
    fn see(&mut self, delay: i32, flight: impl FnOnce() -> String) {
        if delay < self.worst_delay_min {
            return;
        }
        let flight = flight();
        if delay > self.worst_delay_min || flight < self.worst_flight {
            (self.worst_delay_min, self.worst_flight) = (delay, flight);
        }
    }
}

impl AggregateFunction<Flight> for CountDelays {
    type Accumulator = Delays;
    type Output = Delays;

    fn create_accumulator(&self) -> Delays {
        Delays::default()
    }

    fn add(&self, delays: &mut Delays, flight: &Flight) {
        delays.flights += 1;
        delays.see(flight.dep_delay_min.unwrap_or_default(), || flight.to_string());
    }

    fn get_result(&self, delays: &Delays) -> Delays {
        delays.clone()
    }

    fn merge(&self, delays: &mut Delays, other: &Delays) {
        delays.flights += other.flights;
        delays.see(other.worst_delay_min, || other.worst_flight.clone());
    }
}

/// A flight that came when what it belongs to was complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LateFlight {
    /// `hour` or `session`.
    pub(super) too_late_for: String,
    /// When it was scheduled, in New York.
    pub(super) scheduled: String,
    pub(super) arrived: String,
    pub(super) sched_dep_ms: i64,
    pub(super) arrival_ms: i64,
    pub(super) carrier: String,
    pub(super) flight: u32,
    pub(super) origin: String,
    pub(super) dest: String,
    pub(super) dep_delay_min: Option<i32>,
}

impl LateFlight {
    pub(super) fn new(too_late_for: &str, flight: Flight) -> Self {
        Self {
            too_late_for: too_late_for.to_owned(),
            scheduled: new_york::iso(flight.sched_dep_ms),
            arrived: new_york::iso(flight.arrival_ms),
            sched_dep_ms: flight.sched_dep_ms,
            arrival_ms: flight.arrival_ms,
            carrier: flight.carrier,
            flight: flight.flight,
            origin: flight.origin,
            dest: flight.dest,
            dep_delay_min: flight.dep_delay_min,
        }
    }
}
