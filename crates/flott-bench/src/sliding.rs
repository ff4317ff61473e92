//! Records counted per key and sliding window of event time: 10 slices long, sliding by one.
//!
//! A result is (key, end of window, count), for every window in which the key has a record; the
//! first windows begin before the first record, the last ones end after the last. With 1 M keys
//! there are six results for each record: then the scenario measures how fast windows are emitted.

mod flott;
mod handwritten;
mod handwritten_subtract;

use crate::scenario::{Case, Contender, Family, Scenario};

/// By how many time units the window slides.
pub(crate) const SLIDE: i64 = 100_000;

/// How many slides long a window is.
pub(crate) const SLICES_PER_WINDOW: i64 = 10;

pub(crate) fn scenario() -> Scenario {
    Scenario {
        name: "sliding",
        about: "count per key and sliding window of 1 M time units by 100 k",
        records: 20_000_000,
        cases: [1_000_000, 1_000]
            .into_iter()
            .map(|n_keys| Case { name: format!("{n_keys} keys"), contenders: contenders(n_keys) })
            .collect(),
    }
}

fn contenders(n_keys: u64) -> Vec<Contender> {
    vec![
        Contender::new(Family::Handwritten, "handwritten", move |records, parallelism| {
            handwritten::run(records, parallelism, n_keys)
        })
        .note("a column of counts per slice, summed per window: works for any mergeable aggregate"),
        Contender::new(Family::Handwritten, "handwritten-subtract", move |records, parallelism| {
            handwritten_subtract::run(records, parallelism, n_keys)
        })
        .note("a table per slice, added to and subtracted from a running total: needs an inverse"),
        Contender::new(Family::Flott, "flott", move |records, parallelism| {
            flott::run(records, parallelism, n_keys)
        }),
    ]
}

/// The slices whose windows are to be emitted, in order.
#[derive(Debug, Default)]
struct WindowClock {
    /// The slice with which the next window ends. Time begins at zero.
    next_slice: i64,
    /// The last slice that has a record.
    last_slice: i64,
}

impl WindowClock {
    fn on_slice(&mut self, slice: i64) {
        self.last_slice = self.last_slice.max(slice);
    }

    /// The last slice of the next window that the watermark has passed.
    fn next_passed(&mut self, watermark: i64) -> Option<i64> {
        let slice = self.next_slice;
        let is_passed = watermark >= (slice + 1) * SLIDE - 1 && slice < self.last_slice + SLICES_PER_WINDOW;
        is_passed.then(|| {
            self.next_slice += 1;
            slice
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::records::record;
    use crate::scenario::Checksum;

    #[test]
    fn every_contender_counts_as_the_naive_loop() {
        let (records, n_keys) = (1_250_000, 100);
        let mut counts: BTreeMap<(i64, u64), u64> = BTreeMap::new();
        for (key, timestamp) in (0..records).map(|index| record(index, n_keys)) {
            *counts.entry((timestamp / SLIDE, key)).or_default() += 1;
        }
        let mut windows: BTreeMap<(i64, u64), u64> = BTreeMap::new();
        for ((slice, key), count) in counts {
            for last_slice in slice..slice + SLICES_PER_WINDOW {
                *windows.entry((last_slice, key)).or_default() += count;
            }
        }
        let mut expected = Checksum::default();
        for ((last_slice, key), count) in windows {
            expected.add(key, (last_slice + 1) * SLIDE, count);
        }
        for contender in &contenders(n_keys) {
            for parallelism in [1, 3] {
                let outcome = (contender.run)(records, parallelism);
                assert_eq!(outcome.checksum, expected, "{} at {parallelism}", contender.name);
            }
        }
    }
}
