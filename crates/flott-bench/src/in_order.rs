//! Puts the records of several senders back into event-time order before an operator sees them.
//!
//! Each sender is in order, so this is a merge; it releases what lies at or before the watermark.
//! A session operator is simpler and faster on ordered input than on merged sessions.

use crate::exchange::Operator;
use crate::records::Record;
use crate::scenario::Checksum;

/// Taken records are dropped from the front of a waiting list when there are this many.
const TAKEN_LEN_MAX: usize = 64 * 1024;

/// Records of one sender that wait for the watermark.
#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    n_taken: usize,
}

impl Waiting {
    fn rest(&self) -> &[Record] {
        &self.records[self.n_taken..]
    }
}

/// An operator behind a merge of its senders.
#[derive(Debug)]
pub(crate) struct InOrder<O> {
    operator: O,
    waiting: Vec<Waiting>,
}

impl<O: Operator> InOrder<O> {
    pub(crate) fn new(operator: O, n_senders: usize) -> Self {
        Self { operator, waiting: (0..n_senders).map(|_| Waiting::default()).collect() }
    }

    /// The sender with the earliest record, and where the run ends that it may release: before the
    /// earliest record of the others and at the watermark.
    fn next_run(&self, watermark: i64) -> Option<(usize, i64)> {
        let earliest = |sender: usize| self.waiting[sender].rest().first().map(|record| record.1);
        let (first, sender) =
            (0..self.waiting.len()).filter_map(|sender| Some((earliest(sender)?, sender))).min()?;
        let others = (0..self.waiting.len()).filter(|&other| other != sender).filter_map(earliest).min();
        let last = others.map_or(watermark, |other| watermark.min(other - 1));
        (first <= last).then_some((sender, last))
    }
}

impl<O: Operator> Operator for InOrder<O> {
    fn on_records(&mut self, sender: usize, records: &[Record]) {
        if self.waiting.len() == 1 {
            self.operator.on_records(sender, records);
            return;
        }
        let waiting = &mut self.waiting[sender];
        if waiting.rest().is_empty() || waiting.n_taken > TAKEN_LEN_MAX {
            waiting.records.drain(..waiting.n_taken);
            waiting.n_taken = 0;
        }
        waiting.records.extend_from_slice(records);
    }

    fn on_watermark(&mut self, watermark: i64) {
        while let Some((sender, last)) = self.next_run(watermark) {
            let waiting = &mut self.waiting[sender];
            let run_len = waiting.rest().partition_point(|record| record.1 <= last);
            self.operator.on_records(sender, &waiting.rest()[..run_len]);
            waiting.n_taken += run_len;
            // All later records of the merge lie behind this run.
            self.operator.on_watermark(self.waiting[sender].records[self.waiting[sender].n_taken - 1].1);
        }
        self.operator.on_watermark(watermark);
    }

    fn checksum(&self) -> Checksum {
        self.operator.checksum()
    }
}
