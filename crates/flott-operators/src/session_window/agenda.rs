//! When to look at which key: a calendar queue (Brown, CACM 1988) of coarse buckets.

use flott_types::Timestamp;
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// There are about this many buckets per gap.
const BUCKETS_PER_GAP: i64 = 64;

/// So many buckets ahead are found without a search.
const NEAR_BUCKETS_MAX: i64 = 4096;

/// When so many entries have been taken, the rest is left for the next call.
const TAKEN_ENOUGH: usize = 4096;

/// The end of a session and the hash of its key.
pub(super) type Entry = (Timestamp, u64);

/// Entries in buckets of time, so that making one costs little. A bucket that the watermark passes is taken as a whole, one that it
/// stops in is sorted first, so that the next watermarks need not search it again.
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
    /// The last bucket in which the watermark stopped, in order, and how many of its entries have been taken.
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

    /// Moves entries that end until `until` to the end of `taken`, in no order. All of them that end until the time that is returned; that
    /// is less than `until` if there are more: the caller works off what it has got, and asks again.
    pub(super) fn take_until(&mut self, until: Timestamp, taken: &mut Vec<Entry>) -> Timestamp {
        let Some(bits) = self.bucket_bits else { return until };
        self.take_opened(until, taken);
        let now = until >> bits;
        while self.first <= now {
            if self.n_near == 0 {
                // Nothing is lost by giving the empty buckets other numbers.
                let next = self.far.first_key_value().map_or(now, |(bucket, _)| now.min(*bucket));
                self.first = self.first.max(next);
            }
            let mut bucket = self.near.pop_front().unwrap_or_default();
            self.n_near -= bucket.len();
            bucket.extend(self.far.remove(&self.first).unwrap_or_default());
            self.first += 1;
            if self.first > now {
                bucket.sort_unstable();
                self.n_taken = 0;
                // The memory of the bucket that is used up is for a later one.
                self.near.push_back(std::mem::replace(&mut self.opened, bucket));
                self.take_opened(until, taken);
                break;
            }
            taken.append(&mut bucket);
            self.near.push_back(bucket);
            if taken.len() >= TAKEN_ENOUGH {
                return (self.first << bits) - 1;
            }
        }
        until
    }

    /// Takes from what was opened, and what was entered there since.
    fn take_opened(&mut self, until: Timestamp, taken: &mut Vec<Entry>) {
        let rest = self.opened.get(self.n_taken..).unwrap_or_default();
        let n_due = rest.iter().take_while(|(end, _)| *end <= until).count();
        taken.extend_from_slice(rest.get(..n_due).unwrap_or_default());
        self.n_taken += n_due;
        if self.n_taken == self.opened.len() {
            self.opened.clear();
            self.n_taken = 0;
        }
        while let Some(next) = self.belated.peek_mut().filter(|next| next.0.0 <= until) {
            taken.push(PeekMut::pop(next).0);
        }
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
            let mut now = -10_000;
            let ends = [Timestamp::MAX; 1].map(|now| (0, now - 1_000_000_000));
            for (hash, (ahead, advance)) in (0..).zip(steps.into_iter().chain(ends)) {
                let entry = (now + ahead * gap / 50, hash);
                agenda.insert(entry.0, entry.1, gap);
                waiting.push(entry);
                waiting.sort_unstable();
                now += if hash % 3 == 0 || advance > 2_000_000 { advance } else { 0 };
                loop {
                    let mut due = Vec::new();
                    let until = agenda.take_until(now, &mut due);
                    prop_assert!(until <= now);
                    due.sort_unstable();
                    let expected: Vec<_> = waiting.extract_if(.., |entry| entry.0 <= until).collect();
                    prop_assert_eq!(&due, &expected);
                    // Some keys have another session.
                    for (end, hash) in due.into_iter().filter(|(_, hash)| hash % 7 == 0 && until < 1_000_000_000) {
                        let later = (until + 1 + (end + ahead) % 1_000, hash + 1);
                        agenda.insert(later.0, later.1, 0);
                        waiting.push(later);
                    }
                    waiting.sort_unstable();
                    if until == now {
                        break;
                    }
                }
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
