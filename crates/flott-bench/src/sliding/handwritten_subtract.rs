//! A table per slice, and a table of totals over the slices of the current window.
//!
//! Closing a slice adds its counts to the totals, emits them all, and subtracts the slice that
//! leaves the window: work per record does not grow with size / slide.

use std::collections::VecDeque;

use super::{SLICES_PER_WINDOW, SLIDE, WindowClock};
use crate::exchange::{self, Operator};
use crate::records::{Record, record, split_by_time_unit};
use crate::scenario::{Checksum, Outcome};
use crate::table::{FlatTable, SlotValue};

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        exchange::run(
            records,
            parallelism,
            |index| record(index, n_keys),
            || Count::new((n_keys as usize).div_ceil(parallelism)),
        )
    })
}

/// A running total; a key whose total falls to zero keeps its slot.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    count: u32,
    is_used: bool,
}

impl SlotValue for Total {
    #[inline(always)]
    fn is_vacant(&self) -> bool {
        !self.is_used
    }
}

struct Count {
    clock: WindowClock,
    /// Slices that still get records, oldest first.
    open: VecDeque<(i64, FlatTable<u64>)>,
    emptied: Vec<FlatTable<u64>>,
    /// The key and count of each key of the slices in the totals, oldest first.
    closed: VecDeque<(i64, Vec<Record>)>,
    totals: FlatTable<Total>,
    keys_per_slice: usize,
    checksum: Checksum,
}

impl Count {
    fn new(n_keys: usize) -> Self {
        Self {
            clock: WindowClock::default(),
            open: VecDeque::new(),
            emptied: Vec::new(),
            closed: VecDeque::new(),
            totals: FlatTable::with_capacity(n_keys),
            keys_per_slice: n_keys.min(SLIDE as usize),
            checksum: Checksum::default(),
        }
    }

    fn slice_table(&mut self, slice: i64) -> &mut FlatTable<u64> {
        let position = match self.open.binary_search_by_key(&slice, |open| open.0) {
            Ok(position) => position,
            Err(position) => {
                let table =
                    self.emptied.pop().unwrap_or_else(|| FlatTable::with_capacity(self.keys_per_slice));
                self.open.insert(position, (slice, table));
                position
            }
        };
        &mut self.open[position].1
    }

    /// Moves a slice from its table into the totals.
    fn add_slice(&mut self, slice: i64) {
        if self.open.front().is_none_or(|open| open.0 != slice) {
            return;
        }
        let Some((_, mut table)) = self.open.pop_front() else {
            return;
        };
        let mut counts = Vec::with_capacity(self.keys_per_slice);
        table.reset_each(|key, count| {
            if count > 0 {
                counts.push((key, count as i64));
            }
        });
        self.emptied.push(table);
        self.totals.upsert_each(&counts, |_, total, &(_, count)| {
            total.count += count as u32;
            total.is_used = true;
        });
        self.closed.push_back((slice, counts));
    }

    /// Takes the slice that leaves the window out of the totals.
    fn subtract_slice(&mut self, slice: i64) {
        if self.closed.front().is_some_and(|closed| closed.0 == slice)
            && let Some((_, counts)) = self.closed.pop_front()
        {
            self.totals.upsert_each(&counts, |_, total, &(_, count)| total.count -= count as u32);
        }
    }
}

impl Operator for Count {
    fn on_records(&mut self, _sender: usize, records: &[Record]) {
        split_by_time_unit(records, SLIDE, |slice, run| {
            self.clock.on_slice(slice);
            self.slice_table(slice).upsert_each(run, |_, count, _| *count += 1);
        });
    }

    fn on_watermark(&mut self, watermark: i64) {
        while let Some(slice) = self.clock.next_passed(watermark) {
            self.add_slice(slice);
            let window_end = (slice + 1) * SLIDE;
            let mut checksum = self.checksum;
            for (key, total) in self.totals.slots_mut() {
                checksum.add_if(total.count > 0, *key, window_end, u64::from(total.count));
            }
            self.checksum = checksum;
            self.subtract_slice(slice + 1 - SLICES_PER_WINDOW);
        }
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}
