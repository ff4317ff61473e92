//! The same in Flott: the steps fuse into one operator, chained to the source.

use super::{add, finish, is_kept, is_part_kept, scramble, split};
use crate::engine::{self, BlockSource, SharedChecksum};
use crate::scenario::{Checksum, Outcome};

pub(super) fn run(records: u64, parallelism: usize) -> Outcome {
    Outcome::measure(|| {
        let env = engine::environment(parallelism);
        let total = SharedChecksum::default();
        let mut sum = SubtaskSum { sum: Checksum::default(), total: total.clone() };
        BlockSource::untimed(records, |index| (index, 0))
            .stream(&env)
            .map(scramble)
            .filter(is_kept)
            .flat_map(split)
            .filter(is_part_kept)
            .map(finish)
            .for_each(move |value| sum.add(value));
        engine::execute(&env);
        total.get_when_alone()
    })
}

/// The sum of one subtask, which goes into the total when the subtask is dropped.
#[derive(Clone)]
struct SubtaskSum {
    sum: Checksum,
    total: SharedChecksum,
}

impl SubtaskSum {
    #[inline(always)]
    fn add(&mut self, value: u64) {
        add(&mut self.sum, value);
    }
}

impl Drop for SubtaskSum {
    fn drop(&mut self) {
        self.total.add(self.sum);
    }
}
