//! One table whose values are rings of slices: a record costs one look-up, a window one pass.

use super::{SLICES_PER_WINDOW, SLIDE, WindowClock};
use crate::exchange::{self, Operator};
use crate::records::{Record, record, split_by_time_unit};
use crate::scenario::{Checksum, Outcome};
use crate::table::{FlatTable, SlotValue};

/// Slices in the ring: a window, and some ahead of it for generators that drift apart. With the
/// key a slot is one cache line.
const RING_LEN: usize = 13;

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        exchange::run(records, parallelism, |index| record(index, n_keys), || Count {
            clock: WindowClock::default(),
            rings: FlatTable::with_capacity((n_keys as usize).div_ceil(parallelism)),
            checksum: Checksum::default(),
        })
    })
}

/// The counts of a key by slice; a key without records in the window keeps its slot.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    is_used: u32,
    counts: [u32; RING_LEN],
}

impl SlotValue for Ring {
    #[inline(always)]
    fn is_vacant(&self) -> bool {
        self.is_used == 0
    }
}

struct Count {
    clock: WindowClock,
    rings: FlatTable<Ring>,
    checksum: Checksum,
}

fn ring_idx(slice: i64) -> usize {
    slice.rem_euclid(RING_LEN as i64) as usize
}

impl Operator for Count {
    fn on_records(&mut self, _sender: usize, records: &[Record]) {
        split_by_time_unit(records, SLIDE, |slice, run| {
            let n_ahead = slice - self.clock.next_slice;
            assert!(n_ahead <= RING_LEN as i64 - SLICES_PER_WINDOW, "slice {slice} does not fit into the ring");
            self.clock.on_slice(slice);
            let idx = ring_idx(slice);
            self.rings.upsert_each(run, |_, ring, _| {
                ring.is_used = 1;
                ring.counts[idx] += 1;
            });
        });
    }

    fn on_watermark(&mut self, watermark: i64) {
        while let Some(slice) = self.clock.next_passed(watermark) {
            let window_end = (slice + 1) * SLIDE;
            let mut masks = [0_u32; RING_LEN];
            for in_window in slice + 1 - SLICES_PER_WINDOW..=slice {
                masks[ring_idx(in_window)] = u32::MAX;
            }
            let leaving = ring_idx(slice + 1 - SLICES_PER_WINDOW);
            let mut checksum = self.checksum;
            for (key, ring) in self.rings.slots_mut() {
                let count: u32 = ring.counts.iter().zip(&masks).map(|(count, mask)| count & mask).sum();
                ring.counts[leaving] = 0;
                checksum.add_if(count > 0, *key, window_end, u64::from(count));
            }
            self.checksum = checksum;
        }
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}
