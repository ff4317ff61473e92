//! The same in `renoir`, which compiles the chain into one pull loop.

use renoir::{RuntimeConfig, StreamContext};

use super::{add, finish, is_kept, is_part_kept, scramble, split};
use crate::records::GeneratorIndices;
use crate::scenario::{Checksum, Outcome};

pub(super) fn run(records: u64, parallelism: usize) -> Outcome {
    Outcome::measure(|| {
        let config = RuntimeConfig::local(parallelism as u64).expect("a local configuration is valid");
        let context = StreamContext::new(config);
        let output = context
            .stream_par_iter(move |generator: u64, parallelism: u64| {
                GeneratorIndices::new(records, generator as usize, parallelism as usize)
            })
            .map(scramble)
            .filter(is_kept)
            .flat_map(split)
            .filter(is_part_kept)
            .map(finish)
            .fold_assoc(
                (0, 0),
                |sum: &mut (u64, u64), value| {
                    let mut checksum = Checksum { sum: sum.0, n_results: sum.1 };
                    add(&mut checksum, value);
                    *sum = (checksum.sum, checksum.n_results);
                },
                |sum, part| *sum = (sum.0.wrapping_add(part.0), sum.1 + part.1),
            )
            .collect_vec();
        context.execute_blocking();
        let sums = output.get().expect("renoir collects the output in this process");
        sums.into_iter().map(|(sum, n_results)| Checksum { sum, n_results }).sum()
    })
}
