//! The reference: a flat table per open window, updated batch by batch.

use super::OpenWindows;
use crate::exchange::{self, Operator};
use crate::records::{Record, record};
use crate::scenario::{Checksum, Outcome};

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        exchange::run(
            records,
            parallelism,
            |index| record(index, n_keys),
            || Count { windows: OpenWindows::new(n_keys, parallelism), checksum: Checksum::default() },
        )
    })
}

struct Count {
    windows: OpenWindows,
    checksum: Checksum,
}

impl Operator for Count {
    fn on_records(&mut self, _sender: usize, records: &[Record]) {
        self.windows.add(records);
    }

    fn on_watermark(&mut self, watermark: i64) {
        self.windows.close_into(watermark, &mut self.checksum);
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}
