//! When to look at which key.

use flott_types::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The agenda has about this many buckets per gap.
const BUCKETS_PER_GAP: i64 = 64;

/// The end of a session and the place of its key.
pub(super) type Entry = (Timestamp, u32);

/// Entries in buckets of time, so that entering one costs little. The bucket that the watermark is in is sorted once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Entries from `opened_until` on, by the number of their bucket, in any order.
    buckets: BTreeMap<i64, Vec<Entry>>,
    /// Log 2 of the length of a bucket in milliseconds; comes from the first gap that is seen.
    bucket_bits: Option<u32>,
    /// Earlier buckets have been opened: what was in the last one and is not due yet, latest first.
    opened: Vec<Entry>,
    /// Entries that were made for a bucket after it was opened.
    belated: BinaryHeap<Reverse<Entry>>,
    opened_until: Option<Timestamp>,
}

/// The due entries that [`Agenda::take_due`] has found: all that end until some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DueUntil(pub(super) Timestamp);

impl Agenda {
    /// Enters the end of a session that waits for `gap_ms`.
    pub(super) fn insert(&mut self, end: Timestamp, idx: u32, gap_ms: i64) {
        if self.opened_until.is_some_and(|until| end < until) {
            self.belated.push(Reverse((end, idx)));
            return;
        }
        let bits = *self.bucket_bits.get_or_insert_with(|| (gap_ms / BUCKETS_PER_GAP).max(1).ilog2());
        self.buckets.entry(end >> bits).or_default().push((end, idx));
    }

    /// Takes some entries that end until `until`, the earliest, into `due`: one bucket or less. What the caller enters
    /// again must end later than what it is told, and may well be due at the next call.
    pub(super) fn take_due(&mut self, until: Timestamp, due: &mut Vec<Entry>) -> Option<DueUntil> {
        self.take_opened(until, due);
        if !due.is_empty() {
            let opened_until = self.opened_until.unwrap_or(until);
            return Some(DueUntil(until.min(opened_until.saturating_sub(1))));
        }
        let first = self.buckets.first_entry()?;
        let bits = self.bucket_bits.unwrap_or(0);
        if *first.key() > until >> bits {
            return None;
        }
        let (bucket, mut entries) = first.remove_entry();
        let last = (bucket << bits) | ((1 << bits) - 1);
        self.opened_until = Some(last.saturating_add(1));
        if last <= until {
            due.append(&mut entries);
            return Some(DueUntil(last));
        }
        entries.sort_unstable_by(|a, b| b.cmp(a));
        self.opened = entries;
        self.take_opened(until, due);
        (!due.is_empty()).then_some(DueUntil(until))
    }

    fn take_opened(&mut self, until: Timestamp, due: &mut Vec<Entry>) {
        while let Some(entry) = self.opened.pop_if(|entry| entry.0 <= until) {
            due.push(entry);
        }
        while self.belated.peek().is_some_and(|Reverse(entry)| entry.0 <= until) {
            due.extend(self.belated.pop().map(|Reverse(entry)| entry));
        }
    }
}
