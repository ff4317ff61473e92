//! Not incremental: keys of a window wait in partitions by hash, and each partition is counted
//! in a table small enough for the second-level cache when the window closes.
//!
//! It shows what cache misses cost the incremental count. No engine may do this: a window's state
//! is all its records, and closing it takes as long as counting them.

use std::collections::VecDeque;

use super::{WINDOW_SIZE, keys_per_window};
use crate::exchange::{self, Operator};
use crate::hash::key_hash;
use crate::records::{Record, record, split_by_time_unit};
use crate::scenario::{Checksum, Outcome};
use crate::table::FlatTable;

const N_PARTITIONS: usize = 256;

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        exchange::run(
            records,
            parallelism,
            |index| record(index, n_keys),
            || Count {
                open: VecDeque::new(),
                emptied: Vec::new(),
                table: FlatTable::with_capacity(keys_per_window(n_keys, parallelism) / N_PARTITIONS * 5 / 4),
                records_per_partition: WINDOW_SIZE as usize / parallelism / N_PARTITIONS * 5 / 4,
                checksum: Checksum::default(),
            },
        )
    })
}

type Partitions = Vec<Vec<Record>>;

struct Count {
    open: VecDeque<(i64, Partitions)>,
    emptied: Vec<Partitions>,
    table: FlatTable<u64>,
    records_per_partition: usize,
    checksum: Checksum,
}

impl Count {
    fn partitions(&mut self, window_idx: i64) -> &mut Partitions {
        let position = match self.open.binary_search_by_key(&window_idx, |window| window.0) {
            Ok(position) => position,
            Err(position) => {
                let capacity = self.records_per_partition;
                let new_partitions = || (0..N_PARTITIONS).map(|_| Vec::with_capacity(capacity)).collect();
                let partitions = self.emptied.pop().unwrap_or_else(new_partitions);
                self.open.insert(position, (window_idx, partitions));
                position
            }
        };
        &mut self.open[position].1
    }
}

impl Operator for Count {
    fn on_records(&mut self, _sender: usize, records: &[Record]) {
        split_by_time_unit(records, WINDOW_SIZE, |window_idx, run| {
            let partitions = self.partitions(window_idx);
            for &record in run {
                partitions[key_hash(record.0) as usize % N_PARTITIONS].push(record);
            }
        });
    }

    fn on_watermark(&mut self, watermark: i64) {
        while let Some((window_idx, _)) = self.open.front()
            && watermark >= (window_idx + 1) * WINDOW_SIZE - 1
            && let Some((window_idx, mut partitions)) = self.open.pop_front()
        {
            let window_end = (window_idx + 1) * WINDOW_SIZE;
            let mut checksum = self.checksum;
            for partition in &mut partitions {
                self.table.upsert_each(partition, |_, count, _| *count += 1);
                partition.clear();
                self.table.reset_each(|key, count| checksum.add_if(count > 0, key, window_end, count));
            }
            self.checksum = checksum;
            self.emptied.push(partitions);
        }
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}
