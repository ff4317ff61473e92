//! What the demo must find, computed naively from the same file.

use flate2::read::GzDecoder;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

const HOUR_MS: i64 = 3_600_000;

/// Watermarks are multiples of this (`pipeline.watermark-granularity`), less one.
const GRANULARITY_MS: i64 = 100;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Flight {
    pub(crate) sched_dep_ms: i64,
    pub(crate) carrier: String,
    pub(crate) origin: String,
    pub(crate) dep_delay_min: Option<i32>,
    pub(crate) cancelled: bool,
}

/// The flights of the repository in the order of the file.
pub(crate) fn read() -> Vec<Flight> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/flights-2013-01.csv.gz");
    let file = std::fs::File::open(path).expect("the flights are in the repository");
    csv::Reader::from_reader(GzDecoder::new(file))
        .deserialize()
        .collect::<Result<_, _>>()
        .expect("they are CSV")
}

/// What is known of an hour of an airport.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Hour {
    pub(crate) departures: u32,
    pub(crate) cancelled: u32,
    pub(crate) delayed: u32,
    pub(crate) delay_sum_min: i64,
    pub(crate) delay_max_min: Option<i32>,
    /// How often it was emitted.
    pub(crate) revisions: u32,
}

impl Hour {
    fn add(&mut self, flight: &Flight) {
        let Some(delay) = flight.dep_delay_min else {
            assert!(flight.cancelled, "a flight without a departure is cancelled");
            self.cancelled += 1;
            return;
        };
        self.departures += 1;
        self.delayed += u32::from(delay > 15);
        self.delay_sum_min += i64::from(delay);
        self.delay_max_min = self.delay_max_min.max(Some(delay));
    }
}

/// A period of delays of an airline: first and last scheduled departure, flights, worst delay.
pub(crate) type Session = (String, i64, i64, u32, i32);

#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) hours: BTreeMap<(String, i64), Hour>,
    pub(crate) late_for_hour: usize,
    pub(crate) sessions: Vec<Session>,
    pub(crate) late_for_session: usize,
}

/// Trails the greatest timestamp by a bound, as the source's watermark does.
struct NaiveWatermark {
    bound_ms: i64,
    max: Option<i64>,
}

impl NaiveWatermark {
    /// All that is before this, exclusively, is complete.
    fn complete_before(&self) -> Option<i64> {
        self.max.map(|max| (max - self.bound_ms).div_euclid(GRANULARITY_MS) * GRANULARITY_MS)
    }

    fn see(&mut self, timestamp: i64) {
        self.max = self.max.max(Some(timestamp));
    }
}

/// The results of one pass over the flights in order.
pub(crate) fn expected(flights: &[Flight], bound_ms: i64, lateness_ms: i64, gap_ms: i64) -> Expected {
    let mut expected = Expected::default();
    hours(flights, bound_ms, lateness_ms, &mut expected);
    sessions(flights, bound_ms + lateness_ms, gap_ms, &mut expected);
    expected
}

fn hours(flights: &[Flight], bound_ms: i64, lateness_ms: i64, expected: &mut Expected) {
    let mut watermark = NaiveWatermark { bound_ms, max: None };
    for flight in flights {
        let hour_ms = flight.sched_dep_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let end_ms = hour_ms + HOUR_MS;
        let complete = watermark.complete_before();
        // Timestamps of an hour go up to end_ms - 1, and so do watermarks that complete it.
        if complete.is_some_and(|complete| end_ms + lateness_ms <= complete) {
            expected.late_for_hour += 1;
        } else {
            let hour = expected.hours.entry((flight.origin.clone(), hour_ms)).or_default();
            hour.add(flight);
            hour.revisions += u32::from(complete.is_some_and(|complete| end_ms <= complete));
        }
        watermark.see(flight.sched_dep_ms);
    }
    // An hour whose flights were not all late had a first result at its end, unless its first record came after that.
    let mut watermark = NaiveWatermark { bound_ms, max: None };
    let mut seen_in_time = std::collections::BTreeSet::new();
    for flight in flights {
        let key = (flight.origin.clone(), flight.sched_dep_ms.div_euclid(HOUR_MS) * HOUR_MS);
        if watermark.complete_before().is_none_or(|complete| key.1 + HOUR_MS > complete) {
            seen_in_time.insert(key);
        }
        watermark.see(flight.sched_dep_ms);
    }
    for key in seen_in_time {
        expected.hours.entry(key).or_default().revisions += 1;
    }
}

fn sessions(flights: &[Flight], bound_ms: i64, gap_ms: i64, expected: &mut Expected) {
    // Sessions of a carrier that are still open, as start, end of the gap, flights and worst delay.
    let mut open: BTreeMap<String, Vec<(i64, i64, u32, i32)>> = BTreeMap::new();
    let mut watermark = NaiveWatermark { bound_ms, max: None };
    let close =
        |open: &mut BTreeMap<String, Vec<(i64, i64, u32, i32)>>, complete: i64, closed: &mut Vec<Session>| {
            for (carrier, sessions) in open {
                sessions.retain(|(start, end, flights, worst)| {
                    if *end <= complete {
                        closed.push((carrier.clone(), *start, end - gap_ms, *flights, *worst));
                    }
                    *end > complete
                });
            }
        };
    for flight in flights {
        let at = flight.sched_dep_ms;
        let delay = flight.dep_delay_min.unwrap_or_default();
        if delay > 30 {
            let mine = open.entry(flight.carrier.clone()).or_default();
            let mut merged = (at, at + gap_ms, 1, delay);
            mine.retain(|(start, end, flights, worst)| {
                let touches = *start <= at + gap_ms && at <= *end;
                if touches {
                    merged =
                        (merged.0.min(*start), merged.1.max(*end), merged.2 + flights, merged.3.max(*worst));
                }
                !touches
            });
            if watermark.complete_before().is_some_and(|complete| merged.1 <= complete) {
                expected.late_for_session += 1;
            } else {
                mine.push(merged);
            }
        }
        watermark.see(at);
        if let Some(complete) = watermark.complete_before() {
            close(&mut open, complete, &mut expected.sessions);
        }
    }
    close(&mut open, i64::MAX, &mut expected.sessions);
    expected.sessions.sort();
}
