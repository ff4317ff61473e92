//! The same in Flott: the steps fuse into one operator, chained to source and sink.

use super::{add, finish, is_kept, is_part_kept, scramble, split};
use crate::engine::{self, BlockSource};
use crate::scenario::Outcome;

pub(super) fn run(records: u64, parallelism: usize) -> Outcome {
    Outcome::measure(|| {
        let env = engine::environment(parallelism);
        let values = BlockSource::untimed(records, |index| (index, 0))
            .stream(&env)
            .map(scramble)
            .filter(is_kept)
            .flat_map(split)
            .filter(is_part_kept)
            .map(finish);
        engine::run(&env, &values.seal(), |sum, value| add(sum, *value))
    })
}
