//! The reference: a table of open sessions, and a time wheel that closes them.
//!
//! Each open session has one entry in the wheel, in the bucket of the time at which it would end
//! as of when the entry was made. When the watermark passes a bucket, sessions that got records
//! since move on to a later bucket and the others are emitted. So a session ends at most one bucket
//! late, and its records cost the wheel nothing.

use super::{add_session, session_gap, session_record};
use crate::exchange::{self, DRIFT_MAX, Operator};
use crate::in_order::InOrder;
use crate::records::{BLOCK_LEN, Record};
use crate::scenario::{Checksum, Outcome};
use crate::table::{FlatTable, SlotValue};

/// The wheel has about this many buckets per gap.
const BUCKETS_PER_GAP: i64 = 64;

/// How far, in time units, records may lie ahead of the watermark that the wheel has seen.
const AHEAD_MAX: i64 = 2 * DRIFT_MAX;

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        let n_keys_per_thread = (n_keys as usize).div_ceil(parallelism);
        exchange::run(
            records,
            parallelism,
            |index| session_record(index, n_keys),
            || InOrder::new(Sessions::new(n_keys_per_thread, session_gap(n_keys)), parallelism),
        )
    })
}

/// The open session of a key; between sessions the key keeps its slot, with a count of zero.
#[derive(Debug, Clone, Copy, Default)]
struct Session {
    first: i64,
    last: i64,
    count: u32,
    is_used: bool,
}

impl SlotValue for Session {
    #[inline(always)]
    fn is_vacant(&self) -> bool {
        !self.is_used
    }
}

struct Sessions {
    table: FlatTable<Session>,
    table_generation: u32,
    wheel: Wheel,
    gap: i64,
    checksum: Checksum,
}

impl Sessions {
    fn new(n_keys: usize, gap: i64) -> Self {
        Self {
            table: FlatTable::with_capacity(n_keys),
            table_generation: 0,
            wheel: Wheel::new(gap),
            gap,
            checksum: Checksum::default(),
        }
    }

    /// Slots moved when the table grew: makes all entries of the wheel anew.
    #[cold]
    fn rebuild_wheel(&mut self) {
        self.table_generation = self.table.generation();
        self.wheel.clear();
        for (slot_idx, (_, session)) in self.table.slots_mut().iter().enumerate() {
            if session.count > 0 {
                self.wheel.insert(session.last + self.gap, slot_idx as u32);
            }
        }
    }

    fn close_passed(&mut self, watermark: i64) {
        while let Some(mut bucket) = self.wheel.take_passed(watermark) {
            let slots = self.table.slots_mut();
            for slot_idx in bucket.drain(..) {
                let (key, session) = &mut slots[slot_idx as usize];
                let end = session.last + self.gap;
                if end <= watermark {
                    let count = u64::from(session.count);
                    add_session(&mut self.checksum, *key, session.first, session.last, count);
                    session.count = 0;
                } else {
                    self.wheel.insert(end, slot_idx);
                }
            }
            self.wheel.give_back(bucket);
        }
    }

    fn close_all(&mut self) {
        for (key, session) in self.table.slots_mut() {
            if session.count > 0 {
                let count = u64::from(session.count);
                add_session(&mut self.checksum, *key, session.first, session.last, count);
                session.count = 0;
            }
        }
        self.wheel.clear();
    }
}

impl Operator for Sessions {
    fn on_records(&mut self, _sender: usize, records: &[Record]) {
        let Self { table, wheel, gap, checksum, .. } = self;
        table.upsert_each(records, |slot_idx, session, &(key, timestamp)| {
            if session.count == 0 {
                session.first = timestamp;
                wheel.insert(timestamp + *gap, slot_idx);
            } else if timestamp - session.last > *gap {
                // It has ended, but the watermark has not yet passed its bucket.
                add_session(checksum, key, session.first, session.last, u64::from(session.count));
                session.first = timestamp;
                session.count = 0;
            }
            session.last = timestamp;
            session.count += 1;
            session.is_used = true;
        });
        if self.table.generation() != self.table_generation {
            self.rebuild_wheel();
        }
    }

    fn on_watermark(&mut self, watermark: i64) {
        if watermark == i64::MAX {
            self.close_all();
        } else {
            self.close_passed(watermark);
        }
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}

/// Slots by the time at which to look at them, rounded up to a bucket.
struct Wheel {
    buckets: Vec<Vec<u32>>,
    bucket_bits: u32,
    /// The first bucket, counted from time zero, that the watermark has not passed.
    next_bucket: i64,
}

impl Wheel {
    fn new(gap: i64) -> Self {
        let bucket_bits = (gap / BUCKETS_PER_GAP).max(BLOCK_LEN as i64).ilog2();
        let n_buckets = ((gap + AHEAD_MAX) >> bucket_bits) as usize + 2;
        Self { buckets: vec![Vec::new(); n_buckets.next_power_of_two()], bucket_bits, next_bucket: 0 }
    }

    #[inline]
    fn insert(&mut self, time: i64, slot_idx: u32) {
        let bucket = time >> self.bucket_bits;
        assert!(bucket >= self.next_bucket && bucket - self.next_bucket < self.buckets.len() as i64);
        let mask = self.buckets.len() - 1;
        self.buckets[bucket as usize & mask].push(slot_idx);
    }

    /// The next bucket all of whose times the watermark has passed, emptied out of the wheel.
    fn take_passed(&mut self, watermark: i64) -> Option<Vec<u32>> {
        let bucket_end = (self.next_bucket + 1) << self.bucket_bits;
        (watermark >= bucket_end - 1).then(|| {
            let idx = self.next_bucket as usize & (self.buckets.len() - 1);
            self.next_bucket += 1;
            std::mem::take(&mut self.buckets[idx])
        })
    }

    /// Returns the allocation of a bucket that was worked off.
    fn give_back(&mut self, bucket: Vec<u32>) {
        let idx = (self.next_bucket - 1) as usize & (self.buckets.len() - 1);
        if self.buckets[idx].is_empty() {
            self.buckets[idx] = bucket;
        }
    }

    fn clear(&mut self) {
        for bucket in &mut self.buckets {
            bucket.clear();
        }
    }
}
