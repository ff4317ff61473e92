//! The reference: every row that a job must commit, and when it is due, by plain loops over the input.

use super::plan::{Job, Shape};
use crate::record::mix;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A record: its split and its number there.
pub(crate) type Numbered = (u32, u64);

/// The splits of the second source are numbered from here.
pub(crate) const SECOND: u32 = 100;

/// What a job writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Row {
    /// A record as it was read.
    Record(Numbered),
    /// Records of a key that belong together, from which event time on.
    Group(u32, i64, Vec<Numbered>),
    /// The so-manieth record of a key, with the sum of all numbers so far.
    Count(u32, u64, u64),
}

/// When a row must have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// When this record was read.
    Read(Numbered),
    /// When the watermark is this.
    At(i64),
}

/// The rows of a job.
pub(crate) type Expected = BTreeMap<Row, Due>;

impl Job {
    /// Always even, so that the end of a session with an odd gap is no record's time.
    pub(crate) fn timestamp(&self, (split, number): Numbered) -> i64 {
        let late =
            if self.disorder_ms == 0 { 0 } else { mix(u64::from(split), number) % self.disorder_ms as u64 };
        (number as i64 * self.pace_ms + self.disorder_ms - late as i64) / 2 * 2
    }

    pub(crate) fn key(&self, (split, number): Numbered) -> u32 {
        let key = (mix(number, u64::from(split)) % u64::from(self.keys)) as u32;
        match self.shape {
            // Only the records of a split have an order.
            Shape::Counts => split * 1_000 + key,
            _ => key,
        }
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
        match self.shape {
            Shape::Records => {}
            Shape::Tumbling { size_ms } => self.groups(&records, size_ms, size_ms, &mut expected),
            Shape::Sliding { size_ms, slide_ms } => self.groups(&records, size_ms, slide_ms, &mut expected),
            Shape::Session { gap_ms } => {
                records.sort_by_key(|record| self.timestamp(*record));
                self.sessions(&records, gap_ms, &mut expected);
            }
            Shape::Timers { delay_ms } => {
                for (key, at, group) in self.by_time(&records, |at| vec![at]) {
                    expected.insert(Row::Group(key, at, group), Due::At(at + delay_ms));
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

    /// Records by key and each of the times that `starts` gives for their timestamp.
    fn by_time(
        &self,
        records: &[Numbered],
        starts: impl Fn(i64) -> Vec<i64>,
    ) -> Vec<(u32, i64, Vec<Numbered>)> {
        let mut groups = BTreeMap::<(u32, i64), Vec<Numbered>>::new();
        for record in records {
            for start in starts(self.timestamp(*record)) {
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
            let (key, at) = (self.key(*record), self.timestamp(*record));
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
