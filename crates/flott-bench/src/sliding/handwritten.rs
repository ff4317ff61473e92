//! The reference: keys get dense indices, a slice is a column of counts by that index, and a window
//! is the sum of its columns.
//!
//! A record costs one look-up and one increment in a column; a window costs one pass over ten
//! columns and the keys, in order, which the compiler vectorizes. It needs no inverse of the
//! aggregate. A key keeps its index for ever: that is the state an engine would have to clean up.

use super::{SLICES_PER_WINDOW, SLIDE, WindowClock};
use crate::exchange::{self, Operator};
use crate::records::{Record, record, split_by_time_unit};
use crate::scenario::{Checksum, Outcome};
use crate::table::{FlatTable, SlotValue};

/// Columns: those of a window, and some ahead of it for generators that drift apart.
const N_COLUMNS: usize = 12;

/// Counts are summed for this many keys at a time, so that the sums stay in the first-level cache.
const KEYS_PER_PASS: usize = 1024;

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        exchange::run(
            records,
            parallelism,
            |index| record(index, n_keys),
            || Count::new((n_keys as usize).div_ceil(parallelism) * 17 / 16),
        )
    })
}

/// The dense index of a key, plus one: zero is vacant.
#[derive(Debug, Clone, Copy, Default)]
struct KeyIdx(u32);

impl SlotValue for KeyIdx {
    #[inline(always)]
    fn is_vacant(&self) -> bool {
        self.0 == 0
    }
}

struct Count {
    clock: WindowClock,
    indices: FlatTable<KeyIdx>,
    keys: Vec<u64>,
    columns: [Vec<u32>; N_COLUMNS],
    checksum: Checksum,
}

impl Count {
    fn new(n_keys: usize) -> Self {
        Self {
            clock: WindowClock::default(),
            indices: FlatTable::with_capacity(n_keys),
            keys: Vec::with_capacity(n_keys),
            columns: std::array::from_fn(|_| vec![0; n_keys.max(1)]),
            checksum: Checksum::default(),
        }
    }

    fn add(&mut self, slice: i64, run: &[Record]) {
        let n_ahead = slice - self.clock.next_slice;
        assert!(n_ahead <= N_COLUMNS as i64 - SLICES_PER_WINDOW, "slice {slice} has no column yet");
        self.clock.on_slice(slice);
        let column_idx = column_idx(slice);
        let mut column = std::mem::take(&mut self.columns[column_idx]);
        let keys = &mut self.keys;
        self.indices.upsert_each(run, |_, key_idx, &(key, _)| {
            if key_idx.is_vacant() {
                *key_idx = add_key(keys, &mut column, key);
            }
            column[key_idx.0 as usize - 1] += 1;
        });
        let column_len = column.len();
        self.columns[column_idx] = column;
        for column in &mut self.columns {
            column.resize(column_len, 0);
        }
    }

    /// Emits the window that ends with `slice`.
    fn emit(&mut self, slice: i64) {
        let window_end = (slice + 1) * SLIDE;
        let mut checksum = self.checksum;
        let mut counts = [0_u32; KEYS_PER_PASS];
        for (pass, keys) in self.keys.chunks(KEYS_PER_PASS).enumerate() {
            let first = pass * KEYS_PER_PASS;
            let counts = &mut counts[..keys.len()];
            counts.fill(0);
            for in_window in slice + 1 - SLICES_PER_WINDOW..=slice {
                let column = &self.columns[column_idx(in_window)][first..first + keys.len()];
                counts.iter_mut().zip(column).for_each(|(count, part)| *count += part);
            }
            for (&key, &count) in keys.iter().zip(&*counts) {
                checksum.add_if(count > 0, key, window_end, u64::from(count));
            }
        }
        self.checksum = checksum;
        self.columns[column_idx(slice + 1 - SLICES_PER_WINDOW)].fill(0);
    }
}

#[cold]
fn add_key(keys: &mut Vec<u64>, column: &mut Vec<u32>, key: u64) -> KeyIdx {
    if keys.len() == column.len() {
        column.resize(column.len() * 2, 0);
    }
    keys.push(key);
    KeyIdx(keys.len() as u32)
}

fn column_idx(slice: i64) -> usize {
    slice.rem_euclid(N_COLUMNS as i64) as usize
}

impl Operator for Count {
    fn on_records(&mut self, _sender: usize, records: &[Record]) {
        split_by_time_unit(records, SLIDE, |slice, run| self.add(slice, run));
    }

    fn on_watermark(&mut self, watermark: i64) {
        while let Some(slice) = self.clock.next_passed(watermark) {
            self.emit(slice);
        }
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}
