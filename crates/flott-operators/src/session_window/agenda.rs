//! When to look at which key: a calendar queue (Brown, CACM 1988) of coarse buckets.

use flott_types::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// There are about this many buckets per gap.
const BUCKETS_PER_GAP: i64 = 64;

/// So many buckets ahead are found without a search.
const NEAR_BUCKETS_MAX: i64 = 1024;

/// The end of a session and the place of its key.
pub(super) type Entry = (Timestamp, u32);

/// Entries in buckets of time, so that making one costs little. The bucket that the watermark is in is sorted once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Log 2 of the length of a bucket in milliseconds; comes from the first gap that is seen.
    bucket_bits: Option<u32>,
    /// The number of the first bucket of `near`. Buckets before it have been opened.
    first: i64,
    near: VecDeque<Vec<Entry>>,
    /// How many entries are in `near`.
    n_near: usize,
    /// Entries of later buckets, by the number of the bucket.
    far: BTreeMap<i64, Vec<Entry>>,
    /// What was in the bucket that was opened last and is not due yet, latest first.
    opened: Vec<Entry>,
    /// Entries for buckets that have been opened.
    belated: BinaryHeap<Reverse<Entry>>,
}

impl Agenda {
    /// Enters the end of a session that waits for `gap_ms`.
    #[inline]
    pub(super) fn insert(&mut self, end: Timestamp, idx: u32, gap_ms: i64) {
        let bits = self.bucket_bits.unwrap_or_else(|| self.begin(end, gap_ms));
        let ahead = (end >> bits).saturating_sub(self.first);
        match self.near.get_mut(ahead as usize) {
            Some(bucket) if ahead >= 0 => {
                bucket.push((end, idx));
                self.n_near += 1;
            }
            _ => self.insert_elsewhere(end, idx, ahead),
        }
    }

    #[cold]
    fn begin(&mut self, end: Timestamp, gap_ms: i64) -> u32 {
        // At least 1: the number of the last bucket then is less than the largest number.
        let bits = (gap_ms / BUCKETS_PER_GAP).max(2).ilog2();
        self.bucket_bits = Some(bits);
        // Records of other keys may be earlier, so not all of the near buckets are after the first one.
        self.first = (end >> bits).saturating_sub(BUCKETS_PER_GAP);
        bits
    }

    fn insert_elsewhere(&mut self, end: Timestamp, idx: u32, ahead: i64) {
        if ahead < 0 {
            self.belated.push(Reverse((end, idx)));
        } else if ahead < NEAR_BUCKETS_MAX {
            self.near.resize_with(ahead as usize + 1, Vec::new);
            self.near[ahead as usize].push((end, idx));
            self.n_near += 1;
        } else {
            self.far.entry(self.first + ahead).or_default().push((end, idx));
        }
    }

    /// Takes some of the entries that end until `until` into `due`: a bucket or less. Returns the time until which it
    /// was all of them; what the caller enters again must end later, but may be due at the next call.
    pub(super) fn take_due(&mut self, until: Timestamp, due: &mut Vec<Entry>) -> Option<Timestamp> {
        let bits = self.bucket_bits?;
        self.take_opened(until, due);
        while due.is_empty() && self.opened.is_empty() && self.open_next(bits, until, due) {}
        if due.is_empty() {
            return None;
        }
        // Only the end of time has no next bucket.
        let unopened_from = self.first.checked_mul(1 << bits);
        Some(unopened_from.map_or(until, |from| until.min(from - 1)))
    }

    fn take_opened(&mut self, until: Timestamp, due: &mut Vec<Entry>) {
        while let Some(entry) = self.opened.pop_if(|entry| entry.0 <= until) {
            due.push(entry);
        }
        while self.belated.peek().is_some_and(|Reverse(entry)| entry.0 <= until) {
            due.extend(self.belated.pop().map(|Reverse(entry)| entry));
        }
    }

    /// Opens the next bucket that begins until `until`.
    fn open_next(&mut self, bits: u32, until: Timestamp, due: &mut Vec<Entry>) -> bool {
        let now = until >> bits;
        if self.n_near == 0 {
            // Nothing is lost by giving the empty buckets other numbers.
            let next = self.far.first_key_value().map_or(now, |(bucket, _)| now.min(*bucket));
            self.first = self.first.max(next);
        }
        if self.first > now {
            return false;
        }
        let mut entries = self.near.pop_front().unwrap_or_default();
        self.n_near -= entries.len();
        entries.append(&mut self.far.remove(&self.first).unwrap_or_default());
        self.first += 1;
        if self.first <= now {
            due.append(&mut entries);
        } else {
            entries.sort_unstable_by(|a, b| b.cmp(a));
            std::mem::swap(&mut self.opened, &mut entries);
            self.take_opened(until, due);
        }
        // Its memory is for a later bucket.
        self.near.push_back(entries);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_is_due_once_and_in_time(
            gap in 1..5_000_i64,
            steps in proptest::collection::vec((0..200_i64, prop_oneof![9 => 0..300_i64, 1 => 0..2_000_000_i64]), 1..200),
        ) {
            let mut agenda = Agenda::default();
            let mut waiting = Vec::<Entry>::new();
            let (mut now, mut due) = (-10_000, Vec::new());
            for (idx, (ahead, advance)) in (0..).zip(steps) {
                let entry = (now + ahead * gap / 50, idx);
                agenda.insert(entry.0, entry.1, gap);
                waiting.push(entry);
                now += if idx % 3 == 0 { advance } else { 0 };
                let mut until_before = None;
                while let Some(until) = agenda.take_due(now, &mut due) {
                    prop_assert!(until <= now && until_before.is_none_or(|before| before < until));
                    until_before = Some(until);
                    due.sort_unstable();
                    let mut expected: Vec<_> = waiting.extract_if(.., |entry| entry.0 <= until).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(&due, &expected);
                    due.clear();
                }
                prop_assert!(waiting.iter().all(|entry| entry.0 > now));
            }
            let mut n_left = 0;
            while agenda.take_due(Timestamp::MAX, &mut due).is_some() {
                n_left += due.drain(..).count();
            }
            prop_assert_eq!(n_left, waiting.len());
        }
    }
}
