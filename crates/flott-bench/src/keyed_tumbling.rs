//! Records counted per key and tumbling window of event time.
//!
//! A result is (key, end of window, count). One window is open at a time, two while generators
//! drift apart.

mod flott;
mod handwritten;
mod handwritten_buffered;
mod handwritten_hashbrown;
mod renoir;
mod timely;

use std::collections::VecDeque;

use crate::records::{Record, split_by_time_unit};
use crate::scenario::{Case, Checksum, Contender, Family, Scenario};
use crate::table::FlatTable;

/// The size of a window in time units, that is, in records.
pub(crate) const WINDOW_SIZE: i64 = 1_000_000;

pub(crate) fn scenario() -> Scenario {
    Scenario {
        name: "keyed-tumbling",
        about: "count per key and tumbling window of 1 M time units",
        records: 50_000_000,
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
        }),
        Contender::new(Family::Handwritten, "handwritten-hashbrown", move |records, parallelism| {
            handwritten_hashbrown::run(records, parallelism, n_keys)
        })
        .note("the same loop and exchange over hashbrown::HashMap"),
        Contender::new(Family::Handwritten, "handwritten-buffered", move |records, parallelism| {
            handwritten_buffered::run(records, parallelism, n_keys)
        })
        .note("not incremental: keeps all records of a window, partitioned by hash, until it closes"),
        Contender::new(Family::Flott, "flott", move |records, parallelism| {
            flott::run(records, parallelism, n_keys)
        }),
        Contender::new(Family::Timely, "timely", move |records, parallelism| {
            timely::run(records, parallelism, n_keys)
        }),
        Contender::new(Family::Renoir, "renoir-own-window", move |records, parallelism| {
            renoir::run_own_window(records, parallelism, n_keys)
        })
        .note("a window operator written for this bench; at parallelism 2 it runs four threads"),
        Contender::new(Family::Renoir, "renoir-built-in", move |records, parallelism| {
            renoir::run_built_in_window(records, parallelism, n_keys)
        })
        .known_wrong("its event-time windows begin at each key's first record")
        .records_max(5_000_000),
    ]
}

/// How many distinct keys one of `parallelism` threads sees in a window.
fn keys_per_window(n_keys: u64, parallelism: usize) -> usize {
    let n_keys = n_keys as f64;
    // Records are drawn uniformly: a key is missed by each with probability 1 - 1/n.
    let distinct = n_keys * (1.0 - (-(WINDOW_SIZE as f64) / n_keys).exp());
    (distinct / parallelism as f64) as usize
}

/// The windows that are open, oldest first, and emptied tables for the next ones.
#[derive(Debug)]
struct OpenWindows {
    open: VecDeque<(i64, FlatTable<u64>)>,
    emptied: Vec<FlatTable<u64>>,
    keys_per_window: usize,
}

impl OpenWindows {
    fn new(n_keys: u64, parallelism: usize) -> Self {
        let keys_per_window = keys_per_window(n_keys, parallelism);
        Self { open: VecDeque::new(), emptied: Vec::new(), keys_per_window }
    }

    /// Counts records, which must be in event-time order.
    fn add(&mut self, records: &[Record]) {
        split_by_time_unit(records, WINDOW_SIZE, |window_idx, run| {
            self.table(window_idx).upsert_each(run, |_, count, _| *count += 1);
        });
    }

    fn table(&mut self, window_idx: i64) -> &mut FlatTable<u64> {
        let position = match self.open.binary_search_by_key(&window_idx, |window| window.0) {
            Ok(position) => position,
            Err(position) => {
                let table =
                    self.emptied.pop().unwrap_or_else(|| FlatTable::with_capacity(self.keys_per_window));
                self.open.insert(position, (window_idx, table));
                position
            }
        };
        &mut self.open[position].1
    }

    /// Calls `visit` with each slot of the oldest window and closes it; vacant slots have a count of
    /// zero.
    fn close_first(&mut self, visit: impl FnMut(u64, u64)) {
        if let Some((_, mut table)) = self.open.pop_front() {
            table.reset_each(visit);
            self.emptied.push(table);
        }
    }

    /// The ends of all open windows, ascending.
    fn ends(&self) -> impl Iterator<Item = i64> {
        self.open.iter().map(|window| (window.0 + 1) * WINDOW_SIZE)
    }

    /// The end of the oldest window if the watermark has passed it.
    fn first_passed_end(&self, watermark: i64) -> Option<i64> {
        self.ends().next().filter(|window_end| watermark >= window_end - 1)
    }

    /// Closes the windows that the watermark has passed, straight into a checksum.
    fn close_into(&mut self, watermark: i64, checksum: &mut Checksum) {
        while let Some(window_end) = self.first_passed_end(watermark) {
            let mut sum = *checksum;
            self.close_first(|key, count| sum.add_if(count > 0, key, window_end, count));
            *checksum = sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::records::record;

    #[test]
    fn every_contender_counts_as_the_naive_loop() {
        let (records, n_keys) = (1_050_000, 1_000);
        let mut counts: BTreeMap<(i64, u64), u64> = BTreeMap::new();
        for (key, timestamp) in (0..records).map(|index| record(index, n_keys)) {
            *counts.entry((timestamp / WINDOW_SIZE, key)).or_default() += 1;
        }
        let mut expected = Checksum::default();
        for ((window_idx, key), count) in counts {
            expected.add(key, (window_idx + 1) * WINDOW_SIZE, count);
        }
        for contender in contenders(n_keys).iter().filter(|contender| contender.known_wrong.is_none()) {
            for parallelism in [1, 3] {
                let outcome = (contender.run)(records, parallelism);
                assert_eq!(outcome.checksum, expected, "{} at {parallelism}", contender.name);
            }
        }
    }
}
