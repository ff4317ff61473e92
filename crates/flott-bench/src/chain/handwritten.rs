//! The reference: one iterator per thread, which the compiler fuses into one loop.

use super::{add, finish, is_kept, is_part_kept, scramble, split};
use crate::records::generator_blocks;
use crate::scenario::{Checksum, Outcome};
use crate::threads::run_on_threads;

pub(super) fn run(records: u64, parallelism: usize) -> Outcome {
    Outcome::measure(|| {
        if parallelism == 1 {
            return run_generator(records, 0, 1);
        }
        run_on_threads(0..parallelism, move |generator| run_generator(records, generator, parallelism))
    })
}

fn run_generator(records: u64, generator: usize, parallelism: usize) -> Checksum {
    generator_blocks(records, generator, parallelism).fold(Checksum::default(), |checksum, block| {
        block.map(scramble).filter(is_kept).flat_map(split).filter(is_part_kept).map(finish).fold(
            checksum,
            |mut checksum, value| {
                add(&mut checksum, value);
                checksum
            },
        )
    })
}
