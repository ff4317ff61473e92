//! Each program's results are those of its oracle, whatever the parallelism, the order and the world.

use flott_api::sinks::collect_sink;
use flott_connector_nexmark::{Event, NexmarkConfig, Sequence, oracle};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_env::sim::Simulation;
use flott_nexmark::{Query, SinkKind, programs, run};
use flott_types::{Configuration, Data, Result};
use std::collections::BTreeMap;
use std::fmt::Debug;

type Program<T> = fn(&StreamExecutionEnvironment, &NexmarkConfig) -> Result<DataStream<T>>;

fn real(parallelism: u32) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.set_parallelism(parallelism);
    env
}

fn simulated(parallelism: u32, seed: u64) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::with_env(Simulation::new(seed).env(), Configuration::default());
    env.set_parallelism(parallelism);
    env
}

fn config(events: u64, out_of_order_group_size: u64) -> NexmarkConfig {
    // Event time passes ten times as fast as by default, so that many windows and sessions end.
    NexmarkConfig { out_of_order_group_size, events_per_second: 1_000, ..NexmarkConfig::bounded(events) }
}

fn events(config: &NexmarkConfig) -> Vec<Event> {
    Sequence::new(config).unwrap().iter().collect()
}

fn results<T: Data + Ord>(
    env: &StreamExecutionEnvironment,
    program: Program<T>,
    config: &NexmarkConfig,
) -> Vec<T> {
    let (sink, results) = collect_sink();
    program(env, config).unwrap().sink_to(sink);
    let job = env.execute("nexmark").unwrap();
    assert!(job.operators.iter().all(|operator| operator.late_records_dropped == 0), "{:?}", job.operators);
    let mut results = results.take();
    results.sort_unstable();
    results
}

fn check<T: Data + Ord + Debug>(n_events: u64, program: Program<T>, oracle: fn(&[Event]) -> Vec<T>) {
    for group in [1, 1_000] {
        let config = config(n_events, group);
        let expected = oracle(&events(&config));
        assert!(!expected.is_empty());
        for parallelism in [1, 2, 3] {
            let found = results(&real(parallelism), program, &config);
            assert!(found == expected, "{} of {} at parallelism {parallelism}", found.len(), expected.len());
        }
    }
    let config = config(5_000, 100);
    let expected = oracle(&events(&config));
    for seed in 0..3 {
        assert_eq!(results(&simulated(2, seed), program, &config), expected, "seed {seed}");
    }
}

#[test]
fn q0_passes_bids_through() {
    check(100_000, programs::q0, oracle::q0);
}

#[test]
fn q1_converts_prices() {
    check(100_000, programs::q1, oracle::q1);
}

#[test]
fn q2_selects_auctions() {
    check(200_000, programs::q2, oracle::q2);
}

#[test]
fn q3_finds_local_items() {
    check(200_000, programs::q3, oracle::q3);
}

#[test]
fn q4_averages_winning_bids() {
    check(100_000, programs::q4, oracle::q4);
}

#[test]
fn q5_finds_hot_items() {
    check(100_000, programs::q5, oracle::q5);
}

#[test]
fn q7_finds_the_highest_bids() {
    check(200_000, programs::q7, oracle::q7);
}

#[test]
fn q8_monitors_new_users() {
    check(200_000, programs::q8, oracle::q8);
}

#[test]
fn q11_counts_bids_by_session() {
    check(100_000, programs::q11, oracle::q11);
}

#[test]
fn q12_counts_each_bid_once() {
    let total = |counts: Vec<flott_connector_nexmark::queries::BidderCount>| {
        let mut totals = BTreeMap::new();
        counts.iter().for_each(|count| *totals.entry(count.bidder).or_insert(0) += count.bids);
        totals
    };
    for group in [1, 1_000] {
        let config = config(100_000, group);
        let expected = total(oracle::q12(&events(&config)));
        for parallelism in [1, 2, 3] {
            assert_eq!(total(results(&real(parallelism), programs::q12, &config)), expected);
        }
        let config = NexmarkConfig { rate_per_second: Some(100), ..self::config(5_000, group) };
        let found = results(&simulated(2, 1), programs::q12, &config);
        assert!(found.iter().map(|count| count.bids).max() > Some(1));
        assert_eq!(total(found), total(oracle::q12(&events(&config))));
    }
}

#[test]
fn fingerprints_are_those_of_the_oracles_and_records_are_counted() {
    let config = config(50_000, 1);
    let all = events(&config);
    let expected = [
        (Query::Q0, oracle::Fingerprint::of(oracle::q0(&all)), 46_000),
        (Query::Q3, oracle::Fingerprint::of(oracle::q3(&all)), 4_000),
        (Query::Q4, oracle::Fingerprint::of(oracle::q4(&all)), 50_000),
        (Query::Q5, oracle::Fingerprint::of(oracle::q5(&all)), 46_000),
    ];
    for (query, fingerprint, records_in) in expected {
        let done = run(query, &config, &real(2), SinkKind::Fingerprint).unwrap();
        assert_eq!(done.fingerprint, Some(fingerprint), "{query}");
        assert_eq!((done.records_in, done.records_out), (records_in, fingerprint.records), "{query}");
        let counted = run(query, &config, &real(1), SinkKind::Blackhole).unwrap();
        assert_eq!((counted.fingerprint, counted.records_out), (None, fingerprint.records), "{query}");
    }
}

#[test]
fn every_query_runs_by_its_name() {
    for query in Query::ALL {
        let done = run(query, &config(20_000, 1), &real(2), SinkKind::Fingerprint).unwrap();
        assert!(done.records_out > 0, "{query}");
    }
}
