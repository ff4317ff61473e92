//! Asynchronous functions.

use crate::support::{LENGTH, SEEDS};
use expect_test::expect;
use flott_api::{AsyncFunction, AsyncRetryStrategy, UserResult};
use flott_env::Env;
use flott_operators::{AsyncOutputMode, AsyncWaitConfig, AsyncWaitOperator};
use flott_testkit::{OutputOrder, SnapshotCheck, TestDriver, parse_stream, random_stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Takes as many milliseconds as the record says; records over 90 fail at first.
#[derive(Clone)]
struct Wait {
    env: Env,
    n_failures: Arc<AtomicU32>,
}

impl AsyncFunction<u64, u64> for Wait {
    fn async_invoke(&self, record: u64) -> impl Future<Output = UserResult<Vec<u64>>> + Send + 'static {
        let Self { env, n_failures } = self.clone();
        async move {
            env.sleep(Duration::from_millis(record % 100)).await;
            if record > 90 && n_failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Err("not now".into());
            }
            Ok(if record == 0 { vec![] } else { vec![record; 1 + usize::from(record.is_multiple_of(5))] })
        }
    }

    fn timeout(&self, record: &u64, timeout: Duration) -> UserResult<Vec<u64>> {
        Ok(vec![record * 1_000 + timeout.as_millis() as u64])
    }
}

fn config(output_mode: AsyncOutputMode, capacity: usize) -> AsyncWaitConfig {
    let retry = AsyncRetryStrategy::FixedDelay { attempts: 20, delay: Duration::from_millis(3) };
    AsyncWaitConfig { output_mode, capacity, timeout: None, retry }
}

fn driver(config: AsyncWaitConfig) -> TestDriver<u64, u64> {
    TestDriver::try_new(move |ctx| {
        let function = Wait { env: ctx.env.clone(), n_failures: Arc::default() };
        Ok(AsyncWaitOperator::new(function, config))
    })
}

#[test]
fn results_come_in_virtual_time() {
    let mut ordered = driver(config(AsyncOutputMode::Ordered, 10));
    expect![[""]].assert_eq(&ordered.run("+30@1 +10@2 W2 +20@3 P15").unwrap());
    expect!["+30@1 +30@1 +10@2 +10@2 W2 +20@3 +20@3"].assert_eq(&ordered.run("P30").unwrap());
    let mut unordered = driver(config(AsyncOutputMode::Unordered, 10));
    expect!["+10@2 +10@2"].assert_eq(&unordered.run("+30@1 +10@2 W2 +20@3 P15").unwrap());
    expect!["+30@1 +30@1 W2 +20@3 +20@3"].assert_eq(&unordered.run("P30").unwrap());
    assert_eq!(unordered.processing_time(), 30);
}

#[test]
fn run_async_waits_for_all_calls() {
    let mut driver = driver(config(AsyncOutputMode::Unordered, 10));
    driver.push_text("+30@1 +10@2 +95@3").unwrap();
    driver.run_async().unwrap();
    expect!["+10@2 +10@2 +30@1 +30@1 +95@3 +95@3"].assert_eq(&driver.take_text());
    assert_eq!(driver.processing_time(), 95 + 3 + 95);
}

#[test]
fn input_waits_for_room() {
    let mut driver = driver(config(AsyncOutputMode::Ordered, 1));
    driver.push(30, 1).unwrap();
    driver.push(10, 2).unwrap();
    assert_eq!(driver.processing_time(), 0);
    driver.push(20, 3).unwrap();
    assert_eq!((driver.processing_time(), driver.take_text().as_str()), (30, "+30@1 +30@1"));
    driver.end_of_input().unwrap();
    driver.run_async().unwrap();
    assert!(driver.has_ended());
}

#[test]
fn time_outs_take_virtual_time() {
    let mut driver = driver(AsyncWaitConfig {
        timeout: Some(Duration::from_millis(20)),
        ..config(AsyncOutputMode::Ordered, 4)
    });
    driver.push_text("+30@1 +11@2").unwrap();
    expect![[""]].assert_eq(&driver.run("P19").unwrap());
    expect!["+30020@1 +11@2"].assert_eq(&driver.run("P20").unwrap());
}

#[test]
fn a_call_that_never_ends_holds_up_the_end_only() {
    let function = |_: u64| std::future::pending::<UserResult<Vec<u64>>>();
    let mut driver = TestDriver::async_wait(function, config(AsyncOutputMode::Ordered, 1));
    driver.push(1, 1).unwrap();
    driver.run_async().unwrap();
    driver.push(2, 2).unwrap();
    let error = driver.push(3, 3).unwrap_err();
    expect!["the operator does not get on: deadlock: waiting are main"].assert_eq(&error.report());
}

#[test]
fn ordered_results_survive_restarts() {
    let check = SnapshotCheck::default().with_order(OutputOrder::Sequence);
    let make = || driver(config(AsyncOutputMode::Ordered, 4));
    let input = parse_stream("+30@1 +10@2 W2 +20@3 P15 +95@4 +0@5 W4 P40 +5@6 W+inf E").unwrap();
    expect![[r#"
        +30@1
        +10@2
        W2
        +20@3
        P15
        +95@4
        +0@5
        W4 => +30@1 +30@1 +10@2 +10@2 W2 +20@3 +20@3
        P40
        +5@6
        W+inf
        E => +95@4 +95@4 W4 +5@6 +5@6 W+inf E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &check));
    for seed in SEEDS {
        for capacity in [1, 3, 50] {
            let make = || driver(config(AsyncOutputMode::Ordered, capacity));
            TestDriver::check_snapshots(make, &random_stream(seed, LENGTH, |rng| rng.below(100)), &check);
        }
    }
}

#[test]
fn unordered_results_survive_restarts() {
    let check = SnapshotCheck::default().with_order(OutputOrder::BetweenWatermarks);
    for seed in SEEDS {
        for capacity in [1, 3, 50] {
            let make = || driver(config(AsyncOutputMode::Unordered, capacity));
            TestDriver::check_snapshots(make, &random_stream(seed, LENGTH, |rng| rng.below(100)), &check);
        }
    }
}
