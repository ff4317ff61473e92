//! The same with `hashbrown::HashMap`: what one writes before measuring.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use super::{WINDOW_SIZE, keys_per_window};
use crate::exchange::{self, Operator};
use crate::hash::key_hash;
use crate::records::{Record, record, split_by_time_unit};
use crate::scenario::{Checksum, Outcome};

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        exchange::run(
            records,
            parallelism,
            |index| record(index, n_keys),
            || Count {
                open: VecDeque::new(),
                emptied: Vec::new(),
                keys_per_window: keys_per_window(n_keys, parallelism),
                checksum: Checksum::default(),
            },
        )
    })
}

type Counts = HashMap<u64, u64, BuildHasherDefault<KeyHasher>>;

#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline(always)]
    fn write_u64(&mut self, key: u64) {
        self.0 = key_hash(self.0 ^ key);
    }
}

struct Count {
    open: VecDeque<(i64, Counts)>,
    emptied: Vec<Counts>,
    keys_per_window: usize,
    checksum: Checksum,
}

impl Count {
    fn counts(&mut self, window_idx: i64) -> &mut Counts {
        let position = match self.open.binary_search_by_key(&window_idx, |window| window.0) {
            Ok(position) => position,
            Err(position) => {
                let capacity = self.keys_per_window;
                let counts = self
                    .emptied
                    .pop()
                    .unwrap_or_else(|| HashMap::with_capacity_and_hasher(capacity, Default::default()));
                self.open.insert(position, (window_idx, counts));
                position
            }
        };
        &mut self.open[position].1
    }
}

impl Operator for Count {
    fn on_records(&mut self, _sender: usize, records: &[Record]) {
        split_by_time_unit(records, WINDOW_SIZE, |window_idx, run| {
            let counts = self.counts(window_idx);
            for &(key, _) in run {
                *counts.entry(key).or_insert(0) += 1;
            }
        });
    }

    fn on_watermark(&mut self, watermark: i64) {
        while let Some((window_idx, _)) = self.open.front()
            && watermark >= (window_idx + 1) * WINDOW_SIZE - 1
            && let Some((window_idx, mut counts)) = self.open.pop_front()
        {
            for (key, count) in counts.drain() {
                self.checksum.add(key, (window_idx + 1) * WINDOW_SIZE, count);
            }
            self.emptied.push(counts);
        }
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}
