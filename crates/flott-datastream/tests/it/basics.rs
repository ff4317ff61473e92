//! The shortest programs.

use crate::support::{real, simulated};
use flott_api::sinks::collect_sink;
use flott_datastream::StreamExecutionEnvironment;
use flott_types::ErrorKind;

fn running_sums(env: &StreamExecutionEnvironment) -> Vec<(u64, u64)> {
    let (sink, results) = collect_sink();
    env.from_sequence(1, 10_000)
        .map(|n| (n % 7, n))
        .key_by(|(key, _)| *key)
        .reduce(|sum, record| sum.1 += record.1)
        .sink_to(sink);
    env.execute("sums").unwrap();
    let mut last = std::collections::BTreeMap::new();
    for (key, sum) in results.take() {
        let largest: &mut u64 = last.entry(key).or_default();
        *largest = sum.max(*largest);
    }
    last.into_iter().collect()
}

#[test]
fn keyed_sums_are_the_same_at_any_parallelism_and_in_any_world() {
    let expected: Vec<(u64, u64)> =
        (0..7).map(|key| (key, (1..=10_000_u64).filter(|n| n % 7 == key).sum())).collect();
    for parallelism in [1, 2, 3] {
        assert_eq!(running_sums(&real(parallelism)), expected);
        assert_eq!(running_sums(&simulated(parallelism, 42)), expected);
    }
}

#[test]
fn a_panic_in_user_code_fails_the_job_and_names_operator_subtask_and_record() {
    let env = real(1);
    let stream =
        env.from_sequence(0, 99).map(|n| if n == 41 { panic!("no 41 please") } else { n }).name("picky");
    stream.sink_to(collect_sink().0);
    let error = env.execute("fails").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailSubtask);
    assert_eq!(error.location(), Some("operator 'picky' subtask 1/1, record 42"));
    assert!(error.report().contains("user code panicked: no 41 please"), "{}", error.report());
}
