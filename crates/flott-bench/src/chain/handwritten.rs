//! The reference: one iterator per thread, which the compiler fuses into one loop.

use std::thread;

use super::{add, finish, is_kept, is_part_kept, scramble, split};
use crate::records::generator_blocks;
use crate::scenario::{Checksum, Outcome};

pub(super) fn run(records: u64, parallelism: usize) -> Outcome {
    Outcome::measure(|| {
        if parallelism == 1 {
            return run_generator(records, 0, 1);
        }
        thread::scope(|scope| {
            let threads: Vec<_> = (0..parallelism)
                .map(|generator| scope.spawn(move || run_generator(records, generator, parallelism)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a bench thread panicked")).sum()
        })
    })
}

fn run_generator(records: u64, generator: usize, parallelism: usize) -> Checksum {
    generator_blocks(records, generator, parallelism).fold(Checksum::default(), |checksum, block| {
        block
            .map(scramble)
            .filter(is_kept)
            .flat_map(split)
            .filter(is_part_kept)
            .map(finish)
            .fold(checksum, |mut checksum, value| {
                add(&mut checksum, value);
                checksum
            })
    })
}
