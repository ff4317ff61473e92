use super::*;
use crate::test_support::{Feed, Harness, context, one};
use flott_api::UserResult;
use flott_env::sim::{SimRng, Simulation};
use flott_env::sync::oneshot;
use flott_types::{NO_TIMESTAMP, SubtaskIndex};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A record says how long its call takes.
type Record = (u32, u64);

enum Step {
    Feed(Feed<Record>),
    Sleep(u64),
}
use Step::Sleep;

fn records(records: &[Record]) -> Step {
    Step::Feed(Feed::Batch1(records.iter().map(|record| (*record, i64::from(record.0))).collect()))
}

fn watermark(at: i64) -> Step {
    Step::Feed(Feed::Watermark(at))
}

const END: Step = Step::Feed(Feed::EndOfData);

fn config(output_mode: AsyncOutputMode) -> AsyncWaitConfig {
    AsyncWaitConfig { output_mode, capacity: 100, timeout: None, retry: AsyncRetryStrategy::NoRetry }
}

const ORDERED: AsyncOutputMode = AsyncOutputMode::Ordered;
const UNORDERED: AsyncOutputMode = AsyncOutputMode::Unordered;

/// Calls that take as long as their record says; notes the records in the order of the calls.
#[derive(Clone)]
struct Wait {
    env: Env,
    calls: Arc<Mutex<Vec<u32>>>,
    n_running: Arc<AtomicU64>,
    n_running_max: Arc<AtomicU64>,
}

impl Wait {
    fn new(env: &Env) -> Self {
        let (n_running, n_running_max) = (Arc::default(), Arc::default());
        Self { env: env.clone(), calls: Arc::default(), n_running, n_running_max }
    }
}

impl AsyncFunction<Record, u32> for Wait {
    fn async_invoke(
        &self,
        (id, millis): Record,
    ) -> impl Future<Output = UserResult<Vec<u32>>> + Send + 'static {
        let this = self.clone();
        this.calls.lock().unwrap().push(id);
        async move {
            let n_running = this.n_running.fetch_add(1, Ordering::Relaxed) + 1;
            this.n_running_max.fetch_max(n_running, Ordering::Relaxed);
            this.env.sleep(Duration::from_millis(millis)).await;
            this.n_running.fetch_sub(1, Ordering::Relaxed);
            Ok(vec![id])
        }
    }
}

type Driver = Harness<Record, (), u32>;

fn open<F: AsyncFunction<Record, u32>>(env: &Env, function: &F, config: AsyncWaitConfig) -> Driver {
    Harness::at(one(AsyncWaitOperator::new(function.clone(), config)), &context(env.clone(), 0, 1))
}

/// Feeds the operator as a task does: only while it is ready, and it goes on while the input pauses.
async fn drive(env: &Env, harness: &mut Driver, steps: &[Step]) -> Result<()> {
    for step in steps {
        match step {
            Step::Feed(element) => {
                poll_fn(|cx| harness.poll_ready(cx)).await?;
                harness.feed(element)?;
            }
            Sleep(millis) => {
                let mut pause = env.sleep(Duration::from_millis(*millis));
                poll_fn(|cx| match harness.poll_ready(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => pause.as_mut().poll(cx).map(Ok),
                })
                .await?;
            }
        }
    }
    poll_fn(|cx| harness.poll_ready(cx)).await
}

/// Runs the steps in a simulated world; what came out, or the error, and how many milliseconds it took.
fn simulate<F: AsyncFunction<Record, u32>>(
    make: impl FnOnce(&Env) -> F,
    config: AsyncWaitConfig,
    steps: Vec<Step>,
) -> (String, u128) {
    let simulation = Simulation::new(7);
    let env = simulation.env();
    let mut harness = open(&env, &make(&env), config);
    let ended = simulation.run(async move {
        match drive(&env, &mut harness, &steps).await {
            Ok(()) => harness.take().join(" "),
            Err(error) => error.report(),
        }
    });
    (ended.expect("no deadlock"), simulation.elapsed().as_millis())
}

#[test]
fn calls_do_not_time_out_because_the_output_is_full() {
    for output_mode in [ORDERED, UNORDERED] {
        let simulation = Simulation::new(7);
        let env = simulation.env();
        let timeout = Some(Duration::from_millis(50));
        let mut harness = open(&env, &Wait::new(&env), AsyncWaitConfig { timeout, ..config(output_mode) });
        let ended = simulation.run(async move {
            drive(&env, &mut harness, &[records(&[(1, 30), (2, 10)]), watermark(2)]).await?;
            let mut pushed_back = env.sleep(Duration::from_millis(100));
            poll_fn(|cx| {
                harness.poll_pushed_back(cx);
                pushed_back.as_mut().poll(cx)
            })
            .await;
            assert_eq!(harness.take(), [""; 0], "nothing is emitted");
            assert_eq!(harness.snapshot().list[RECORDS].len(), 2, "and nothing is forgotten");
            drive(&env, &mut harness, &[END]).await?;
            Ok::<_, Error>(harness.take().join(" "))
        });
        let seen = ended.expect("no deadlock").expect("no time-out");
        let expected = if output_mode == ORDERED { "+1@1 +2@2 W2 end" } else { "+2@2 +1@1 W2 end" };
        assert_eq!(seen, expected);
    }
}

#[test]
fn ordered_results_keep_the_order_of_the_records() {
    let steps =
        vec![records(&[(1, 30), (2, 10)]), watermark(2), records(&[(3, 5), (4, 20)]), watermark(4), END];
    let (seen, millis) = simulate(Wait::new, config(ORDERED), steps);
    assert_eq!((seen.as_str(), millis), ("+1@1 +2@2 W2 +3@3 +4@4 W4 end", 30));
}

#[test]
fn unordered_results_come_as_they_are_ready_but_do_not_pass_a_watermark() {
    let steps =
        vec![records(&[(1, 30), (2, 10)]), watermark(2), records(&[(3, 25), (4, 15)]), watermark(4), END];
    let (seen, millis) = simulate(Wait::new, config(UNORDERED), steps);
    assert_eq!((seen.as_str(), millis), ("+2@2 +1@1 W2 +3@3 +4@4 W4 end", 30));
    let steps = vec![records(&[(1, 30), (2, 10)]), watermark(2), records(&[(3, 50), (4, 40)]), END];
    assert_eq!(simulate(Wait::new, config(UNORDERED), steps).0, "+2@2 +1@1 W2 +4@4 +3@3 end");
}

#[test]
fn results_come_out_while_the_input_pauses() {
    let simulation = Simulation::new(7);
    let env = simulation.env();
    let mut harness = open(&env, &Wait::new(&env), config(ORDERED));
    let seen = simulation.run(async move {
        drive(&env, &mut harness, &[records(&[(1, 10), (2, 50)]), watermark(2), Sleep(20)]).await.unwrap();
        harness.take()
    });
    assert_eq!(seen.unwrap(), ["+1@1"]);
}

#[test]
fn without_running_calls_everything_is_forwarded_at_once() {
    let simulation = Simulation::new(7);
    let env = simulation.env();
    let mut harness = open(&env, &Wait::new(&env), config(UNORDERED));
    let elements = [
        Feed::Watermark(1),
        Feed::Status(StreamStatus::Idle),
        Feed::Status(StreamStatus::Active),
        Feed::EndOfData,
    ];
    assert_eq!(harness.run(&elements), ["W1", "idle", "active", "end"]);
}

#[test]
fn status_keeps_its_place_among_records() {
    let status = |status| Step::Feed(Feed::Status(status));
    let steps = || {
        vec![
            records(&[(1, 9)]),
            status(StreamStatus::Idle),
            status(StreamStatus::Active),
            records(&[(2, 1)]),
            END,
        ]
    };
    for mode in [ORDERED, UNORDERED] {
        assert_eq!(simulate(Wait::new, config(mode), steps()).0, "+1@1 idle active +2@2 end");
    }
}

#[test]
fn no_more_calls_run_than_the_capacity_allows() {
    for mode in [ORDERED, UNORDERED] {
        let simulation = Simulation::new(7);
        let env = simulation.env();
        let function = Wait::new(&env);
        let mut harness = open(&env, &function, AsyncWaitConfig { capacity: 2, ..config(mode) });
        let seen = simulation.run(async move {
            let batch: Vec<_> = (0..7).map(|id| (id, 10)).collect();
            poll_fn(|cx| harness.poll_ready(cx)).await.unwrap();
            harness.feed(&Feed::Batch1(batch.iter().map(|record| (*record, 0)).collect())).unwrap();
            // Five records wait: the operator takes no input until the last of them has been started.
            poll_fn(|cx| harness.poll_ready(cx)).await.unwrap();
            let n_out = harness.take().len();
            let started = env.now().0.as_millis();
            drive(&env, &mut harness, &[END]).await.unwrap();
            (n_out, started, harness.take().len())
        });
        assert_eq!(seen.unwrap(), (6, 30, 2), "{mode:?}");
        assert_eq!(function.n_running_max.load(Ordering::Relaxed), 2);
        assert_eq!(simulation.elapsed().as_millis(), 40);
    }
}

#[test]
fn an_operator_that_could_make_no_call_is_refused() {
    let env = Simulation::new(1).env();
    let mut operator =
        AsyncWaitOperator::new(Wait::new(&env), AsyncWaitConfig { capacity: 0, ..config(ORDERED) });
    assert!(operator.open(&context(env, 0, 1)).unwrap_err().to_string().contains("capacity"));
}

#[test]
fn a_call_that_takes_too_long_fails_the_job_unless_the_function_says_otherwise() {
    /// Emits the negative of a record's place for a call that took too long.
    #[derive(Clone)]
    struct Patient(Wait);
    impl AsyncFunction<Record, u32> for Patient {
        fn async_invoke(
            &self,
            record: Record,
        ) -> impl Future<Output = UserResult<Vec<u32>>> + Send + 'static {
            self.0.async_invoke(record)
        }
        fn timeout(&self, (id, _): &Record, timeout: Duration) -> UserResult<Vec<u32>> {
            Ok(vec![id * 100, timeout.as_millis() as u32])
        }
    }
    let timeout = AsyncWaitConfig { timeout: Some(Duration::from_millis(20)), ..config(ORDERED) };
    let steps = || vec![records(&[(1, 10), (2, 30)]), Sleep(5), records(&[(3, 19)]), END];
    let (seen, millis) = simulate(Wait::new, timeout, steps());
    let expected = "the asynchronous function failed: the asynchronous call took longer than 20ms";
    assert_eq!((seen.as_str(), millis), (expected, 20));
    let (seen, millis) = simulate(|env| Patient(Wait::new(env)), timeout, steps());
    assert_eq!((seen.as_str(), millis), ("+1@1 +200@2 +20@2 +3@3 end", 24));
}

/// Fails `failures` times for each record before it answers; each call takes 1 ms.
fn flaky(env: &Env, failures: u32) -> impl AsyncFunction<Record, u32> + use<> {
    let (env, calls) = (env.clone(), Arc::new(Mutex::new(Vec::new())));
    move |(id, _): Record| {
        let (env, calls) = (env.clone(), Arc::clone(&calls));
        async move {
            env.sleep(Duration::from_millis(1)).await;
            let mut calls = calls.lock().unwrap();
            calls.push(id);
            let n_calls = calls.iter().filter(|called| **called == id).count();
            if n_calls > failures as usize { Ok(vec![id]) } else { Err(format!("failure {n_calls}").into()) }
        }
    }
}

#[test]
fn failed_calls_are_made_again_as_the_strategy_says() {
    let fixed = AsyncRetryStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(10) };
    let backoff = AsyncRetryStrategy::ExponentialBackoff {
        attempts: 3,
        initial: Duration::from_millis(10),
        max: Duration::from_millis(25),
        multiplier: 2.0,
    };
    let run = |failures, retry, timeout: Option<u64>| {
        let timeout = timeout.map(Duration::from_millis);
        let config = AsyncWaitConfig { retry, timeout, ..config(ORDERED) };
        let (seen, millis) =
            simulate(|env| flaky(env, failures), config, vec![records(&[(1, 0), (2, 0)]), END]);
        format!("{seen} after {millis} ms")
    };
    assert_eq!(run(0, AsyncRetryStrategy::NoRetry, None), "+1@1 +2@2 end after 1 ms");
    let failed = "the asynchronous function failed: failure";
    assert_eq!(run(1, AsyncRetryStrategy::NoRetry, None), format!("{failed} 1 after 1 ms"));
    assert_eq!(run(3, fixed, None), "+1@1 +2@2 end after 34 ms");
    assert_eq!(run(4, fixed, None), format!("{failed} 4 after 34 ms"));
    assert_eq!(run(3, backoff, None), "+1@1 +2@2 end after 59 ms");
    // The time-out is over all tries.
    let too_long =
        "the asynchronous function failed: the asynchronous call took longer than 20ms after 20 ms";
    assert_eq!(run(3, fixed, Some(20)), too_long);
    assert_eq!(run(3, fixed, Some(40)), "+1@1 +2@2 end after 34 ms");
}

#[test]
fn a_restored_operator_calls_again_before_it_takes_new_records() {
    let simulation = Simulation::new(7);
    let env = simulation.env();
    let config = AsyncWaitConfig { capacity: 2, ..config(ORDERED) };
    let mut before = open(&env, &Wait::new(&env), config);
    let function = Wait::new(&env);
    let mut after = open(&env, &function, config);
    let seen = simulation.run(async move {
        let steps =
            [records(&[(1, 1), (2, 50)]), watermark(2), records(&[(3, 5), (4, 5), (5, 5)]), Sleep(10)];
        drive(&env, &mut before, &steps[..1]).await.unwrap();
        drive(&env, &mut before, &steps[3..]).await.unwrap();
        before.feed(&Feed::Watermark(2)).unwrap();
        before.feed(&Feed::Batch1(vec![((3, 5), 3), ((4, 5), 4), ((5, 5), 5)])).unwrap();
        after.restore(&before.snapshot());
        drive(&env, &mut after, &[records(&[(6, 1)]), END]).await.unwrap();
        (before.take().join(" "), after.take().join(" "))
    });
    assert_eq!(seen.unwrap(), ("+1@1".to_owned(), "+2@2 W2 +3@3 +4@4 +5@5 +6@6 end".to_owned()));
    assert_eq!(*function.calls.lock().unwrap(), [2, 3, 4, 5, 6]);
}

/// Random steps; the timestamps are numbers, some records are late.
fn random_steps(rng: &mut SimRng) -> Vec<Step> {
    let mut id = 0;
    let mut steps = Vec::new();
    for _ in 0..rng.range(1..=12) {
        steps.push(match rng.below(4) {
            0 => watermark(i64::from(id) - rng.range(0..=2)),
            1 => Sleep(rng.below(20)),
            _ => {
                let batch: Vec<_> = (0..rng.range(1..=6))
                    .map(|_| {
                        id += 1;
                        (id, rng.below(30))
                    })
                    .collect();
                records(&batch)
            }
        });
    }
    steps.push(END);
    steps
}

/// What must come out, in the order of the input: records and the watermarks that advance.
fn in_order(steps: &[Step]) -> Vec<String> {
    let mut watermark = i64::MIN;
    let mut expected = Vec::new();
    for step in steps {
        match step {
            Step::Feed(Feed::Batch1(records)) => {
                expected.extend(records.iter().map(|((id, _), at)| format!("+{id}@{at}")));
            }
            Step::Feed(Feed::Watermark(at)) if *at > watermark => {
                watermark = *at;
                expected.push(format!("W{at}"));
            }
            Step::Feed(Feed::EndOfData) => expected.push("end".to_owned()),
            Step::Feed(_) | Sleep(_) => {}
        }
    }
    expected
}

/// Sorts the records between watermarks.
fn sort_segments(lines: &mut [String]) {
    lines.split_mut(|line| !line.starts_with('+')).for_each(<[String]>::sort);
}

/// A restored operator emits the last of the watermarks between two records.
fn skip_watermarks(lines: &mut Vec<String>) {
    let lines_after = lines.split_off(0);
    let is_watermark = |line: &String| line.starts_with('W');
    let next = lines_after.iter().skip(1).map(is_watermark).chain([false]).collect::<Vec<_>>();
    lines.extend(
        lines_after
            .into_iter()
            .zip(next)
            .filter(|(line, next)| !(is_watermark(line) && *next))
            .map(|(l, _)| l),
    );
}

#[test]
fn random_runs_give_what_the_order_allows_also_when_restored_at_any_point() {
    for seed in 0..300 {
        let mut rng = SimRng::new(seed);
        let steps = random_steps(&mut rng);
        let mode = if rng.one_in(2) { ORDERED } else { UNORDERED };
        let config = AsyncWaitConfig { capacity: rng.range(1..=5) as usize, ..config(mode) };
        let restore_at = rng.one_in(2).then(|| rng.below(steps.len() as u64) as usize);
        let mut expected = in_order(&steps);
        let simulation = Simulation::new(seed);
        let env = simulation.env();
        let function = Wait::new(&env);
        let seen = simulation.run(async move {
            let mut harness = open(&env, &function, config);
            let Some(at) = restore_at else {
                drive(&env, &mut harness, &steps).await.unwrap();
                return harness.take();
            };
            for step in &steps[..at] {
                drive_step(&env, &mut harness, step).await;
            }
            let mut seen = harness.take();
            let snapshot = harness.snapshot();
            harness = open(&env, &function, config);
            harness.restore(&snapshot);
            drive(&env, &mut harness, &steps[at..]).await.unwrap();
            seen.extend(harness.take());
            seen
        });
        let mut seen = seen.expect("no deadlock");
        skip_watermarks(&mut seen);
        skip_watermarks(&mut expected);
        if mode == UNORDERED {
            sort_segments(&mut seen);
            sort_segments(&mut expected);
        }
        assert_eq!(seen, expected, "seed {seed}, {config:?}, restored at {restore_at:?}");
    }
}

/// One step, after which the operator need not be ready.
async fn drive_step(env: &Env, harness: &mut Driver, step: &Step) {
    match step {
        Step::Feed(element) => {
            poll_fn(|cx| harness.poll_ready(cx)).await.unwrap();
            harness.feed(element).unwrap();
        }
        Sleep(_) => drive(env, harness, std::slice::from_ref(step)).await.unwrap(),
    }
}

#[test]
fn held_records_are_dealt_out_to_new_subtasks() {
    let simulation = Simulation::new(3);
    let env = simulation.env();
    let function = Wait::new(&env);
    let seen = simulation.run(async move {
        let open_at = |subtask, parallelism| -> Driver {
            let operator = AsyncWaitOperator::new(function.clone(), config(ORDERED));
            Harness::at(one(operator), &context(env.clone(), subtask, parallelism))
        };
        let mut parts = Vec::new();
        for (subtask, first) in [(0, 1), (1, 11)] {
            let mut old = open_at(subtask, 2);
            old.feed(&Feed::Batch1((first..first + 3).map(|id| ((id, 5), i64::from(id))).collect())).unwrap();
            old.feed(&Feed::Watermark(i64::from(first))).unwrap();
            old.feed(&Feed::Batch1(vec![((first + 5, 5), NO_TIMESTAMP)])).unwrap();
            assert_eq!(old.take(), Vec::<String>::new());
            parts.push(old.snapshot());
        }
        let mut seen = Vec::new();
        for subtask in 0..3 {
            let mut new = open_at(subtask, 3);
            new.restore(&OperatorSnapshot::reassign(&parts, SubtaskIndex(subtask), 3).unwrap());
            drive(&env, &mut new, &[END]).await.unwrap();
            seen.push(new.take().join(" "));
        }
        seen
    });
    assert_eq!(seen.unwrap(), ["+1@1 +6 +13@13 W1 end", "+2@2 +11@11 W1 +16 end", "+3@3 +12@12 W1 end"]);
}

#[test]
fn a_call_may_be_completed_by_another_thread() {
    let env = Env::real().unwrap();
    let (sender, receiver) = oneshot::channel();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let function = move |(id, _): Record| {
        let receiver = receiver.lock().unwrap().take();
        async move {
            match receiver {
                Some(receiver) => Ok(vec![id, receiver.await?]),
                None => Ok(vec![id]),
            }
        }
    };
    let seen = env.block_on({
        let env = env.clone();
        async move {
            let mut harness = open(&env, &function, config(ORDERED));
            let other = env.clone();
            let handle = env.spawn_subtask("other", async move {
                other.sleep(Duration::from_millis(5)).await;
                sender.send(77).unwrap();
            });
            drive(&env, &mut harness, &[records(&[(1, 0), (2, 0)]), END]).await.unwrap();
            handle.await.unwrap();
            harness.take().join(" ")
        }
    });
    assert_eq!(seen, "+1@1 +77@1 +2@2 end");
}
