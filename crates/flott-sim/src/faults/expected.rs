//! The reference: every row that a job must commit, and when it is due, by plain loops over the input.

use super::plan::{Job, Shape};
use crate::record::mix;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A record: its split and its number there.
pub(crate) type Numbered = (u32, u64);

/// The splits of the second source are numbered from here.
pub(crate) const SECOND: u32 = 100;

/// No split has more records.
const LATE_SPLIT: i64 = 10_000;
/// The keys of the first of two keyed operators: others than those of the second.
const HOLDER_KEYS: u32 = 4;

/// What a job writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Row {
    /// A record as it was read.
    Record(Numbered),
    /// Records of a key that belong together, from which event time on.
    Group(u32, i64, Vec<Numbered>),
    /// The so-manieth record of a key, with the sum of all numbers so far.
    Count(u32, u64, u64),
    /// A record that came when its window was over, or was alone in it.
    Late(Numbered),
}

/// When a row must have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// When this record was read.
    Read(Numbered),
    /// When both were.
    Both(Numbered, Numbered),
    /// When the watermark is this.
    At(i64),
}

/// The rows of a job.
pub(crate) type Expected = BTreeMap<Row, Due>;

impl Job {
    /// Always even, so that the end of a session with an odd gap is no record's time.
    pub(crate) fn timestamp(&self, record: Numbered) -> i64 {
        let (split, number) = record;
        if let (true, Shape::Tumbling { size_ms }) = (self.is_late(&record), self.shape) {
            // A window of its own, before all others.
            return -size_ms * (i64::from(split + 1) * LATE_SPLIT + number as i64);
        }
        let late =
            if self.disorder_ms == 0 { 0 } else { mix(u64::from(split), number) % self.disorder_ms as u64 };
        let at = number as i64 * self.pace_ms + self.disorder_ms - late as i64;
        let is_behind = self.idle_ms.is_some() && split == SECOND;
        (if is_behind { at + self.records as i64 * self.pace_ms + self.disorder_ms } else { at }) / 2 * 2
    }

    /// Whether a record comes when its window is over, unless nothing has come before it.
    pub(crate) fn is_late(&self, (_, number): &Numbered) -> bool {
        self.late_every.is_some_and(|every| number % every == every - 1)
    }

    pub(crate) fn key(&self, (split, number): Numbered) -> u32 {
        let key = (mix(number, u64::from(split)) % u64::from(self.keys)) as u32;
        // Only the records of a split have an order.
        if self.shape.is_ordered() { split * 1_000 + key } else { key }
    }

    /// Whether there is a second source, and what it has goes where the first one's goes.
    pub(crate) fn has_second(&self) -> bool {
        self.second.is_some() && !self.apart
    }

    /// Whether a record is for the second input of what has two: those of the second source, or else every second one.
    pub(crate) fn is_right(&self, (split, number): &Numbered) -> bool {
        if self.has_second() { *split == SECOND } else { number % 2 == 1 }
    }

    /// What the keyed operator before the other is by itself, if there is one.
    pub(crate) fn holder(&self) -> Option<Self> {
        let shape = Shape::Timers { delay_ms: self.held_ms? };
        Some(Self { shape, held_ms: None, keys: HOLDER_KEYS, ..self.clone() })
    }

    /// Whether a record passes the operator that keeps a list.
    pub(crate) fn is_logged(&self, (split, _): &Numbered) -> bool {
        self.logged && (self.raw || self.shape == Shape::Records) && !(self.apart && *split == SECOND)
    }

    /// How much later than its records a timer is, if there are timers.
    pub(crate) const fn delay_ms(&self) -> i64 {
        match self.shape {
            Shape::Timers { delay_ms } | Shape::Connected { delay_ms } | Shape::Rules { delay_ms } => {
                delay_ms
            }
            _ => 0,
        }
    }

    /// The timestamp of a record when it comes to the keyed operator, or the second of them.
    pub(crate) fn keyed_timestamp(&self, record: Numbered) -> i64 {
        self.timestamp(record) + self.held_ms.unwrap_or(0)
    }

    /// Splits with their numbers of records.
    pub(crate) fn splits(&self) -> impl Iterator<Item = (u32, u64)> {
        let first = (0..self.splits).map(|split| (split, self.records));
        first.chain(self.second.map(|records| (SECOND, records)))
    }

    pub(crate) fn expected(&self) -> Expected {
        let mut records: Vec<Numbered> =
            self.splits().flat_map(|(split, count)| (0..count).map(move |number| (split, number))).collect();
        let mut expected = Expected::new();
        let is_apart = |split: u32| self.apart && split == SECOND;
        let is_raw = |split| self.raw || self.shape == Shape::Records || is_apart(split);
        let raw = records.iter().filter(|(split, _)| is_raw(*split));
        expected.extend(raw.map(|record| (Row::Record(*record), Due::Read(*record))));
        records.retain(|(split, _)| !is_apart(*split));
        let late = records.iter().filter(|record| self.is_late(record));
        expected.extend(late.map(|record| (Row::Late(*record), Due::Read(*record))));
        records.retain(|record| !self.is_late(record));
        match self.shape {
            Shape::Records => {}
            Shape::Tumbling { size_ms } => self.groups(&records, size_ms, size_ms, &mut expected),
            Shape::Sliding { size_ms, slide_ms } => self.groups(&records, size_ms, slide_ms, &mut expected),
            Shape::Session { gap_ms } => {
                records.sort_by_key(|record| self.keyed_timestamp(*record));
                self.sessions(&records, gap_ms, &mut expected);
            }
            Shape::Timers { delay_ms } | Shape::Connected { delay_ms } => {
                for (key, at, group) in self.by_time(&records, |at| vec![at]) {
                    expected.insert(Row::Group(key, at, group), Due::At(at + delay_ms));
                }
            }
            Shape::Rules { delay_ms } => {
                let (rules, records): (Vec<_>, Vec<_>) =
                    records.into_iter().partition(|record| self.is_right(record));
                for (key, at, group) in self.by_time(&records, |at| vec![at]) {
                    let known = rules.iter().filter(|rule| self.timestamp(**rule) <= at + delay_ms);
                    let group = group.into_iter().chain(known.copied()).collect();
                    expected.insert(Row::Group(key, at, group), Due::At(at + delay_ms));
                }
            }
            Shape::Joined { lower_ms, upper_ms } => {
                let (right, left): (Vec<_>, Vec<_>) =
                    records.into_iter().partition(|record| self.is_right(record));
                for left in left {
                    let from = self.timestamp(left);
                    let is_partner = |right: &&Numbered| {
                        self.key(left) == self.key(**right)
                            && (lower_ms..=upper_ms).contains(&(self.timestamp(**right) - from))
                    };
                    for right in right.iter().filter(is_partner) {
                        let at = from.max(self.timestamp(*right));
                        let row = Row::Group(self.key(left), at, vec![left, *right]);
                        expected.insert(row, Due::Both(left, *right));
                    }
                }
            }
            Shape::Chunks { size_ms, count } => {
                for ((key, start), group) in self.in_order(&records, size_ms) {
                    for chunk in group.chunks_exact(count as usize) {
                        let last = chunk.last().expect("a chunk has records");
                        expected.insert(Row::Group(key, start, chunk.to_vec()), Due::Read(*last));
                    }
                }
            }
            Shape::Counts => {
                let mut counts = BTreeMap::<u32, (u64, u64)>::new();
                for record in &records {
                    let count = counts.entry(self.key(*record)).or_default();
                    *count = (count.0 + 1, count.1 + record.1);
                    expected.insert(Row::Count(self.key(*record), count.0, count.1), Due::Read(*record));
                }
            }
        }
        expected
    }

    /// Records by key and window, in the order in which they were read.
    pub(crate) fn in_order(&self, records: &[Numbered], size_ms: i64) -> BTreeMap<(u32, i64), Vec<Numbered>> {
        let mut windows = BTreeMap::<(u32, i64), Vec<Numbered>>::new();
        for record in records {
            let start = self.timestamp(*record).div_euclid(size_ms) * size_ms;
            windows.entry((self.key(*record), start)).or_default().push(*record);
        }
        windows.values_mut().for_each(|window| window.sort_unstable());
        windows
    }

    /// Records by key and each of the times that `starts` gives for their timestamp.
    fn by_time(
        &self,
        records: &[Numbered],
        starts: impl Fn(i64) -> Vec<i64>,
    ) -> Vec<(u32, i64, Vec<Numbered>)> {
        let mut groups = BTreeMap::<(u32, i64), Vec<Numbered>>::new();
        for record in records {
            for start in starts(self.keyed_timestamp(*record)) {
                groups.entry((self.key(*record), start)).or_default().push(*record);
            }
        }
        let sorted = |mut group: Vec<Numbered>| {
            group.sort_unstable();
            group
        };
        groups.into_iter().map(|((key, at), group)| (key, at, sorted(group))).collect()
    }

    fn groups(&self, records: &[Numbered], size_ms: i64, slide_ms: i64, expected: &mut Expected) {
        let starts = |at: i64| {
            let last = at.div_euclid(slide_ms) * slide_ms;
            (0..).map(|n| last - n * slide_ms).take_while(|start| start + size_ms > at).collect()
        };
        for (key, start, group) in self.by_time(records, starts) {
            expected.insert(Row::Group(key, start, group), Due::At(start + size_ms - 1));
        }
    }

    /// `records` by time.
    fn sessions(&self, records: &[Numbered], gap_ms: i64, expected: &mut Expected) {
        let mut open = BTreeMap::<u32, (i64, i64, Vec<Numbered>)>::new();
        let mut close = |key: u32, (start, end, mut group): (i64, i64, Vec<Numbered>)| {
            group.sort_unstable();
            expected.insert(Row::Group(key, start, group), Due::At(end - 1));
        };
        for record in records {
            let (key, at) = (self.key(*record), self.keyed_timestamp(*record));
            if open.get(&key).is_some_and(|(_, end, _)| at > *end)
                && let Some(session) = open.remove(&key)
            {
                close(key, session);
            }
            let session = open.entry(key).or_insert((at, at, Vec::new()));
            session.1 = at + gap_ms;
            session.2.push(*record);
        }
        for (key, session) in open {
            close(key, session);
        }
    }
}
