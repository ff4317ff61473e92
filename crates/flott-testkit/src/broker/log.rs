//! A partition: records, and the marks of where transactions have ended.

use super::BrokerError;
use std::collections::{BTreeMap, BTreeSet};

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Sees everything.
    ReadUncommitted,
    /// Sees what is committed, up to the first record of an open transaction.
    ReadCommitted,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// In milliseconds since the epoch; when it was appended, if there is none.
    pub timestamp: Option<i64>,
    /// Headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Debug)]
enum Entry {
    Record {
        record: BrokerRecord,
        /// The first offset of its transaction in this partition.
        transaction: Option<i64>,
    },
    /// A transaction has ended here.
    Marker,
}

/// The offset of an entry is its place, counted from `start`.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    start: i64,
    entries: Vec<Entry>,
    /// The first offset of each producer's open transaction.
    open: BTreeMap<i64, i64>,
    /// First offsets of transactions that were aborted.
    aborted: BTreeSet<i64>,
}

impl PartitionLog {
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    fn high_watermark(&self) -> i64 {
        self.start + self.entries.len() as i64
    }

    /// The offset behind what such a reader can see.
    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        let first_open = self.open.values().min().copied();
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => first_open.unwrap_or(self.high_watermark()),
        }
    }

    pub(super) fn append(&mut self, mut record: BrokerRecord, producer_id: Option<i64>, now_ms: i64) {
        let offset = self.high_watermark();
        record.timestamp.get_or_insert(now_ms);
        let transaction = producer_id.map(|producer| *self.open.entry(producer).or_insert(offset));
        self.entries.push(Entry::Record { record, transaction });
    }

    /// The transaction of a producer has ended; also if it has written nothing here.
    pub(super) fn end_transaction(&mut self, producer_id: i64, is_commit: bool) {
        if let Some(first) = self.open.remove(&producer_id)
            && !is_commit
        {
            self.aborted.insert(first);
        }
        self.entries.push(Entry::Marker);
    }

    pub(super) fn delete_below(&mut self, below: i64) {
        let n = (below.min(self.high_watermark()) - self.start).max(0);
        self.entries.drain(..n as usize);
        self.start += n;
    }

    fn sees(&self, entry: &Entry, isolation: Isolation) -> bool {
        match (entry, isolation) {
            (Entry::Marker, _) => false,
            (Entry::Record { .. }, Isolation::ReadUncommitted) => true,
            (Entry::Record { transaction, .. }, Isolation::ReadCommitted) => {
                transaction.is_none_or(|first| !self.aborted.contains(&first))
            }
        }
    }

    fn seen(&self, isolation: Isolation) -> impl Iterator<Item = (i64, &BrokerRecord)> {
        let n = (self.end(isolation) - self.start).max(0) as usize;
        let entries = self.entries.iter().take(n).enumerate();
        entries.filter(move |(_, entry)| self.sees(entry, isolation)).filter_map(|(idx, entry)| match entry {
            Entry::Record { record, .. } => Some((self.start + idx as i64, record)),
            Entry::Marker => None,
        })
    }

    pub(super) fn visible(&self, isolation: Isolation) -> impl Iterator<Item = &BrokerRecord> {
        self.seen(isolation).map(|(_, record)| record)
    }

    pub(super) fn offset_for_time(&self, ms: i64) -> Option<i64> {
        let mut seen = self.seen(Isolation::ReadUncommitted);
        seen.find(|(_, record)| record.timestamp.is_some_and(|at| at >= ms)).map(|(offset, _)| offset)
    }

    pub(super) fn fetch(
        &self,
        offset: i64,
        isolation: Isolation,
    ) -> Result<(Option<(i64, BrokerRecord)>, i64), BrokerError> {
        if offset < self.start || offset > self.high_watermark() {
            return Err(BrokerError::OffsetOutOfRange);
        }
        let found = self.seen(isolation).find(|(at, _)| *at >= offset);
        Ok(match found {
            Some((at, record)) => (Some((at, record.clone())), at + 1),
            None => (None, self.end(isolation).max(offset)),
        })
    }
}
