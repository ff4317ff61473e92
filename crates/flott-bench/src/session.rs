//! Records counted per key and session of event time.
//!
//! A session ends when its key has no record for longer than the gap. A result is (key, first
//! timestamp, count and last timestamp). The gap is twice the mean time between two records of a
//! key, so a session has seven records on average whatever the number of keys. Each generator is
//! in event-time order. Timestamps are even and the gap odd: two records are never exactly a gap
//! apart, where definitions of a session differ.

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
            .map(|n_keys| Case {
                name: format!("{n_keys} keys"),
                contenders: vec![Contender::new(
                    Family::Handwritten,
                    "handwritten",
                    move |records, parallelism| handwritten::run(records, parallelism, n_keys),
                )],
            })
            .collect(),
    }
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
