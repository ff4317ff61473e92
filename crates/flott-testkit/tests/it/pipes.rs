//! Runs of maps and filters, which have no state.

use crate::support::{LENGTH, SEEDS};
use flott_operators::FusedOperator;
use flott_operators::pipe::{Filter, FlatMap, Identity, Map};
use flott_testkit::{SnapshotCheck, TestDriver, random_stream};

#[test]
fn pipes_have_no_state_and_may_run_anywhere() {
    let make = || {
        TestDriver::new(|| {
            let odd = Filter::new(Identity::<i64>::new(), |record: &i64| record % 2 == 1);
            let twice = FlatMap::new(odd, |record: i64| [record, record + 1]);
            FusedOperator::new(Map::new(twice, |record: i64| record * 10))
        })
    };
    for seed in SEEDS {
        let input = random_stream(seed, LENGTH, |rng| rng.range(0..=9));
        TestDriver::check_snapshots(make, &input, &SnapshotCheck::default());
    }
}
