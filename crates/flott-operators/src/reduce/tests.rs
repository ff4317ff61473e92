use super::*;
use crate::test_support::{Feed, Harness, check_everywhere, check_rescaling, context, one, route};
use flott_env::sim::Simulation;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Record = (u8, String);

fn join() -> impl Operator<Record, Record> {
    ReduceOperator::new(
        |record: &Record| record.0,
        |sum: &mut Record, added: Record| sum.1.push_str(&added.1),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_record_is_answered_by_the_reduction_so_far(
        batches in prop::collection::vec(prop::collection::vec((0_u8..5, "[a-z]", 0_i64..99), 1..5), 1..5),
    ) {
        let mut sums = BTreeMap::<u8, String>::new();
        let mut expected = Vec::new();
        let mut elements = Vec::new();
        for batch in batches {
            for (key, added, at) in &batch {
                let sum = sums.entry(*key).or_default();
                sum.push_str(added);
                expected.push(format!("+{:?}@{at}", (key, sum)));
            }
            elements.push(Feed::Batch1(batch.into_iter().map(|(key, added, at)| ((key, added), at)).collect()));
        }
        prop_assert_eq!(check_everywhere(|| Harness::new(one(join())), &elements), expected);
        let route = |record: &Record, parallelism| Some(route(&record.0, parallelism));
        check_rescaling(|ctx| Harness::at(one(join()), ctx), &elements, route, |(), _| None);
    }
}

#[test]
fn a_snapshot_with_another_number_of_key_groups_is_refused() {
    let mut snapshot = Harness::new(one(join())).snapshot();
    snapshot.max_parallelism *= 2;
    let mut operator = join();
    operator.open(&context(Simulation::new(1).env(), 0, 1)).unwrap();
    let error = operator.restore(&snapshot).unwrap_err();
    assert!(error.to_string().ends_with("set pipeline.max-parallelism to 32"), "{error}");
}
