//! The records that may still find a partner.

use flott_types::{Timestamp, Watermark};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One side's records of a key by time and, among equal times, by arrival.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Buffer<T> {
    records: BTreeMap<(Timestamp, u64), T>,
    n_arrived: u64,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { records: BTreeMap::new(), n_arrived: 0 }
    }
}

impl<T> Buffer<T> {
    pub(super) fn insert(&mut self, timestamp: Timestamp, record: T) {
        self.records.insert((timestamp, self.n_arrived), record);
        // Only damaged bytes come so far.
        self.n_arrived = self.n_arrived.saturating_add(1);
    }

    /// The records from one time to another, both inclusive.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = (Timestamp, &T)> {
        let range = self.records.range((from, 0)..=(to, u64::MAX));
        range.map(|((timestamp, _), record)| (*timestamp, record))
    }

    /// Drops the records that cannot find a partner any more, which are those whose time and `reach` the watermark has
    /// passed. Returns when the next one goes.
    pub(super) fn expire(&mut self, watermark: Watermark, reach: i64) -> Option<Timestamp> {
        while let Some(first) = self.records.first_entry() {
            let expires = first.key().0.saturating_add(reach);
            if expires > watermark.timestamp() {
                return Some(expires);
            }
            first.remove();
        }
        None
    }
}

/// What is kept of a key. A key of which anything is kept has one timer: when the record that came first can go or, after
/// a clean-up, when the earliest that is left can. A record that could go before it waits, and nothing finds it: what is
/// not late is beyond its reach.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Buffers<L, R> {
    pub(super) left: Buffer<L>,
    pub(super) right: Buffer<R>,
}

impl<L, R> Default for Buffers<L, R> {
    fn default() -> Self {
        Self { left: Buffer::default(), right: Buffer::default() }
    }
}
