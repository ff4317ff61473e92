//! Region failover: only what is connected with a failed subtask goes back.

use crate::checkpoints::{COUNT, Kills, N_SPLITS, configure, finished, numbers, source};
use crate::support::{real, simulated};
use crate::transactional::{Numbered, Transactions};
use flott_datastream::{JobExecutionResult, StreamExecutionEnvironment};
use flott_env::Instant;
use flott_types::{FailoverStrategy, options};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Records go straight from each reader into a writer.
fn straight(env: &StreamExecutionEnvironment, kills: &Kills, sink: &Transactions<Numbered>, name: &str) {
    let kills = kills.clone();
    let records = source(env, N_SPLITS, COUNT, name).map(move |record| kills.pass(record));
    records.sink_to(sink.clone()).uid(format!("{name} sink"));
}

/// The split whose record killed, when, and when the next of it was processed.
type Times = (u32, Instant, Option<Instant>);

/// The writers that were made, but for those of the first attempt.
fn n_writers_again(sink: &Transactions<Numbered>, parallelism: u32) -> u64 {
    sink.attempts().len() as u64 - u64::from(parallelism)
}

fn only_regions(result: &JobExecutionResult) -> bool {
    u64::from(result.restarts) == result.counts.region_restarts
}

#[test]
fn only_the_region_of_a_failed_subtask_goes_back() {
    let expected: Vec<_> = numbers(N_SPLITS, COUNT).collect();
    let (mut n_regions, mut n_restored) = (0, 0);
    for seed in 0..30 {
        let mut env = simulated(N_SPLITS, seed);
        configure(&mut env, 10 + seed % 7);
        if seed % 3 == 0 {
            env.disable_operator_chaining();
        }
        let kills = Kills::at(&[20 * seed, 300 + 20 * seed, 1_000]);
        let sink = Transactions::failing((seed % 3) as u32);
        straight(&env, &kills, &sink, "numbers");
        let result = finished(env.execute("straight"));
        assert_eq!(sink.committed(), expected, "seed {seed}");
        if only_regions(&result) {
            assert_eq!(n_writers_again(&sink, N_SPLITS), result.counts.region_restarts, "seed {seed}");
        }
        n_regions += result.counts.region_restarts;
        n_restored += sink.attempts().iter().filter(|attempt| !attempt.contains("nothing")).count();
    }
    assert!(n_regions > 60, "{n_regions}");
    assert!(n_restored > 50, "{n_restored}");
}

#[test]
fn only_the_region_of_a_failed_subtask_goes_back_in_the_real_world() {
    let expected: Vec<_> = numbers(N_SPLITS, COUNT).collect();
    let mut env = real(N_SPLITS);
    configure(&mut env, 10);
    let sink = Transactions::new();
    straight(&env, &Kills::at(&[100, 700]), &sink, "numbers");
    let result = finished(env.execute("straight"));
    assert_eq!(sink.committed(), expected);
    assert_eq!((result.counts.region_restarts, n_writers_again(&sink, N_SPLITS)), (2, 2));
}

#[test]
fn a_pipeline_that_has_nothing_to_do_with_a_failed_one_goes_on() {
    let expected: Vec<_> = numbers(N_SPLITS, COUNT).collect();
    for seed in 0..10 {
        let mut env = simulated(1, seed);
        configure(&mut env, 10);
        let (fails, goes_on) = (Transactions::new(), Transactions::new());
        straight(&env, &Kills::at(&[100, 150, 400]), &fails, "first");
        straight(&env, &Kills::at(&[]), &goes_on, "second");
        let result = finished(env.execute("two"));
        assert_eq!((fails.committed(), goes_on.committed()), (expected.clone(), expected.clone()));
        assert!(only_regions(&result), "seed {seed}");
        assert_eq!((n_writers_again(&fails, 1), n_writers_again(&goes_on, 1)), (3, 0), "seed {seed}");
    }
}

#[test]
fn a_job_that_is_to_start_again_as_a_whole_does() {
    let mut env = simulated(N_SPLITS, 3);
    configure(&mut env, 10);
    env.set(options::FAILOVER_STRATEGY, FailoverStrategy::Full);
    let sink = Transactions::new();
    straight(&env, &Kills::at(&[500]), &sink, "numbers");
    let result = finished(env.execute("straight"));
    assert_eq!((result.restarts, result.counts.region_restarts), (1, 0));
    assert_eq!(n_writers_again(&sink, N_SPLITS), u64::from(N_SPLITS));
    assert_eq!(sink.committed().len() as u64, u64::from(N_SPLITS) * COUNT);
}

#[test]
fn the_restart_strategy_counts_restarts_of_regions() {
    let mut env = simulated(N_SPLITS, 4);
    configure(&mut env, 10);
    env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 2);
    let sink = Transactions::new();
    straight(&env, &Kills::at(&[100, 200, 300]), &sink, "numbers");
    let error = env.execute("straight").expect_err("two restarts are allowed");
    assert!(error.report().contains("killed at record 300"), "{}", error.report());
}

/// Virtual time passes only where somebody waits: nobody does between a failure and the first record that is processed again.
#[test]
fn no_time_passes_between_a_failure_and_the_first_record_that_is_processed_again() {
    for (is_keyed, n_region_restarts) in [(false, 1), (true, 0)] {
        for seed in 0..10 {
            let mut env = simulated(N_SPLITS, seed);
            configure(&mut env, 10);
            env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::ZERO);
            let sink = Transactions::new();
            let times: Arc<Mutex<Option<Times>>> = Arc::default();
            let (kills, known, world) = (Kills::at(&[600]), Arc::clone(&times), env.env().clone());
            let failing = source(&env, N_SPLITS, COUNT, "numbers").map(move |record: Numbered| {
                let is_killed = kills.is_next();
                let mut times = known.lock().unwrap_or_else(PoisonError::into_inner);
                if is_killed {
                    *times = Some((record.0, world.now(), None));
                } else if let Some((split, _, again @ None)) = &mut *times
                    && *split == record.0
                {
                    *again = Some(world.now());
                }
                drop(times);
                kills.pass(record)
            });
            if is_keyed {
                failing.key_by(|record| record.1 % 7).reduce(|_, _| {}).sink_to(sink.clone());
            } else {
                failing.sink_to(sink.clone());
            }
            let result = finished(env.execute("straight"));
            assert_eq!((result.restarts, result.counts.region_restarts), (1, n_region_restarts));
            let times = times.lock().unwrap_or_else(PoisonError::into_inner).expect("it failed");
            let took = times.2.map(|again| again - times.1);
            // Each step of a task takes some nanoseconds there.
            let is_at_once = took.is_some_and(|took| took < Duration::from_millis(1));
            assert!(is_at_once, "seed {seed}, keyed {is_keyed}: {took:?}");
        }
    }
}
