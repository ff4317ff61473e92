//! Which records were read, up to a position, and which must be.

use crate::contract::record::{RecordId, list};
use std::collections::{BTreeMap, BTreeSet};

/// The records that a job has read and does not read again, in order, with the reader of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    read: Vec<(usize, RecordId)>,
    seen: BTreeSet<RecordId>,
    last: BTreeMap<u32, u64>,
}

impl Progress {
    /// A record was read.
    pub(super) fn add(&mut self, reader: usize, record: RecordId, is_ordered: bool) -> Result<(), String> {
        self.read.push((reader, record));
        if !self.seen.insert(record) {
            return Err(format!(
                "record {record} is read a second time, behind a position that lies behind it"
            ));
        }
        let last = self.last.entry(record.partition).or_insert(record.number);
        if is_ordered && *last > record.number {
            return Err(format!(
                "record {record} is read after number {last} of its partition: out of order, or from a position too far ahead before"
            ));
        }
        *last = record.number;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.read.len()
    }

    pub(super) fn has(&self, record: &RecordId) -> bool {
        self.seen.contains(record)
    }

    /// What remains if `reader` goes back to where it was at `earlier`.
    pub(super) fn without(&self, reader: usize, earlier: &Self) -> Self {
        let mut remaining = Self::default();
        let keeps = |(at, (by, _)): &(usize, &(usize, RecordId))| *at < earlier.len() || *by != reader;
        for (_, (by, record)) in self.read.iter().enumerate().filter(keeps) {
            remaining.read.push((*by, *record));
            remaining.seen.insert(*record);
            remaining.last.insert(record.partition, record.number);
        }
        remaining
    }

    /// By partition, the number behind the last record.
    pub(super) fn ends(&self) -> BTreeMap<u32, u64> {
        let mut ends = BTreeMap::new();
        for record in &self.seen {
            let end = ends.entry(record.partition).or_insert(0);
            *end = record.number.saturating_add(1).max(*end);
        }
        ends
    }

    /// That all of `expected` were read and nothing else.
    pub(super) fn check(&self, expected: &BTreeSet<RecordId>) -> Result<(), String> {
        let missing: Vec<RecordId> = expected.difference(&self.seen).copied().collect();
        if !missing.is_empty() {
            return Err(format!("records are never read: {}", list(missing)));
        }
        let more: Vec<RecordId> = self.seen.difference(expected).copied().collect();
        if more.is_empty() {
            Ok(())
        } else {
            Err(format!("records are read that must not be: {}", list(more)))
        }
    }
}
