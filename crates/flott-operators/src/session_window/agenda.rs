//! When to look at which key: a calendar queue (Brown, CACM 1988) of coarse buckets.

use flott_types::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// There are about this many buckets per gap.
const BUCKETS_PER_GAP: i64 = 64;

/// So many buckets ahead are found without a search.
const NEAR_BUCKETS_MAX: i64 = 4096;

/// How many of the next entries [`Agenda::upcoming`] shows at most.
pub(super) const UPCOMING: usize = 64;

/// The end of a session and the hash of its key.
pub(super) type Entry = (Timestamp, u64);

/// Entries in buckets of time, so that making one costs little. A bucket is sorted when the watermark reaches it.
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
    /// The bucket that was opened last, in order, and how many of its entries have been taken.
    opened: Vec<Entry>,
    n_taken: usize,
    /// Entries that were made for buckets after they had been opened.
    belated: BinaryHeap<Reverse<Entry>>,
}

impl Agenda {
    /// Enters the end of a session that waits for `gap_ms`.
    #[inline]
    pub(super) fn insert(&mut self, end: Timestamp, hash: u64, gap_ms: i64) {
        let bits = self.bucket_bits.unwrap_or_else(|| self.begin(end, gap_ms));
        let ahead = (end >> bits).saturating_sub(self.first);
        match self.near.get_mut(ahead as usize) {
            Some(bucket) if ahead >= 0 => {
                bucket.push((end, hash));
                self.n_near += 1;
            }
            _ => self.insert_elsewhere(end, hash, ahead),
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

    fn insert_elsewhere(&mut self, end: Timestamp, hash: u64, ahead: i64) {
        if ahead < 0 {
            self.belated.push(Reverse((end, hash)));
        } else if ahead < NEAR_BUCKETS_MAX {
            self.near.resize_with(ahead as usize + 1, Vec::new);
            self.near[ahead as usize].push((end, hash));
            self.n_near += 1;
        } else {
            self.far.entry(self.first + ahead).or_default().push((end, hash));
        }
    }

    /// Takes the earliest entry if it ends until `until`.
    #[inline]
    pub(super) fn pop_until(&mut self, until: Timestamp) -> Option<Entry> {
        loop {
            let opened = self.opened.get(self.n_taken).copied();
            let belated = self.belated.peek().map(|Reverse(entry)| *entry);
            return match (opened, belated) {
                (Some(entry), belated) if belated.is_none_or(|belated| entry <= belated) => {
                    (entry.0 <= until).then(|| {
                        self.n_taken += 1;
                        entry
                    })
                }
                (_, Some(entry)) => (entry.0 <= until).then(|| {
                    self.belated.pop();
                    entry
                }),
                (Some(_), None) | (None, None) => {
                    if self.open_next(until) {
                        continue;
                    }
                    None
                }
            };
        }
    }

    /// Opens the next bucket that has entries and begins until `until`.
    #[inline(never)]
    fn open_next(&mut self, until: Timestamp) -> bool {
        let Some(bits) = self.bucket_bits else { return false };
        let now = until >> bits;
        loop {
            if self.n_near == 0 {
                // Nothing is lost by giving the empty buckets other numbers.
                let next = self.far.first_key_value().map_or(now, |(bucket, _)| now.min(*bucket));
                self.first = self.first.max(next);
            }
            if self.first > now {
                return false;
            }
            // The memory of the bucket that is used up is for a later one.
            let mut used_up = std::mem::take(&mut self.opened);
            used_up.clear();
            self.opened = self.near.pop_front().unwrap_or_default();
            self.near.push_back(used_up);
            self.n_taken = 0;
            self.n_near -= self.opened.len();
            self.opened.extend(self.far.remove(&self.first).unwrap_or_default());
            self.first += 1;
            if !self.opened.is_empty() {
                self.opened.sort_unstable();
                return true;
            }
        }
    }

    /// Some of the entries that will be taken next.
    pub(super) fn upcoming(&self) -> &[Entry] {
        let rest = self.opened.get(self.n_taken..).unwrap_or_default();
        rest.get(..UPCOMING).unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_is_due_once_and_in_order(
            gap in 1..5_000_i64,
            steps in proptest::collection::vec((0..200_i64, prop_oneof![9 => 0..300_i64, 1 => 0..2_000_000_i64]), 1..200),
        ) {
            let mut agenda = Agenda::default();
            let mut waiting = Vec::<Entry>::new();
            let mut now = -10_000;
            let ends = [Timestamp::MAX; 1].map(|now| (0, now - 1_000_000_000));
            for (hash, (ahead, advance)) in (0..).zip(steps.into_iter().chain(ends)) {
                let entry = (now + ahead * gap / 50, hash);
                agenda.insert(entry.0, entry.1, gap);
                waiting.push(entry);
                waiting.sort_unstable();
                now += if hash % 3 == 0 || advance > 2_000_000 { advance } else { 0 };
                let mut due = Vec::new();
                while let Some(entry) = agenda.pop_until(now) {
                    due.push(entry);
                    // Some keys have another session.
                    if entry.1 % 7 == 0 && entry.0 < 1_000_000_000 {
                        let later = (entry.0 + 1 + ahead, entry.1 + 1);
                        agenda.insert(later.0, later.1, 0);
                        waiting.push(later);
                    }
                }
                waiting.sort_unstable();
                let expected: Vec<_> = waiting.extract_if(.., |entry| entry.0 <= now).collect();
                prop_assert_eq!(due, expected);
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
