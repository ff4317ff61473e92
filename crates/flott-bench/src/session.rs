//! Records counted per key and session of event time.
//!
//! A session ends when its key has no record for longer than the gap. A result is (key, first
//! timestamp, count and last timestamp). The gap is twice the mean time between two records of a
//! key, so a session has seven records on average whatever the number of keys. Each generator is
//! in event-time order. Timestamps are even and the gap odd: two records are never exactly a gap
//! apart, where definitions of a session differ.

mod flott;
mod handwritten;

use crate::records::{Record, record};
use crate::scenario::{Case, Checksum, Contender, Family, Scenario};

pub(crate) fn scenario() -> Scenario {
    Scenario {
        name: "session",
        about: "count per key and session with a gap of twice the mean time between records",
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
        })
        .note("records in event-time order (merged by sender); a time wheel closes sessions"),
        Contender::new(Family::Flott, "flott", move |records, parallelism| {
            flott::run(records, parallelism, n_keys)
        }),
    ]
}

/// Record `index`: as [`record`] makes it, at twice its index.
#[inline(always)]
pub(crate) fn session_record(index: u64, n_keys: u64) -> Record {
    let (key, timestamp) = record(index, n_keys);
    (key, timestamp * 2)
}

/// How long a session waits for its next record.
pub(crate) fn session_gap(n_keys: u64) -> i64 {
    4 * n_keys as i64 + 1
}

/// Adds a session that ended.
#[inline(always)]
pub(crate) fn add_session(checksum: &mut Checksum, key: u64, first: i64, last: i64, count: u64) {
    checksum.add(key, first, count ^ (last as u64).rotate_left(20));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_contender_finds_the_sessions_of_the_naive_loop() {
        for n_keys in [1, 100, 20_000] {
            let records = 300_000;
            let mut open: BTreeMap<u64, (i64, i64, u64)> = BTreeMap::new();
            let mut expected = Checksum::default();
            for (key, timestamp) in (0..records).map(|index| session_record(index, n_keys)) {
                let (first, last, count) = open.entry(key).or_insert((timestamp, timestamp, 0));
                if timestamp - *last > session_gap(n_keys) {
                    add_session(&mut expected, key, *first, *last, *count);
                    (*first, *count) = (timestamp, 0);
                }
                (*last, *count) = (timestamp, *count + 1);
            }
            for (key, (first, last, count)) in open {
                add_session(&mut expected, key, first, last, count);
            }
            for contender in &contenders(n_keys) {
                for parallelism in [1, 2, 3] {
                    let outcome = (contender.run)(records, parallelism);
                    assert_eq!(
                        outcome.checksum, expected,
                        "{} of {n_keys} keys at {parallelism}",
                        contender.name
                    );
                }
            }
        }
    }
}
