use super::{
    CollectionSource, FnSource, GeneratorSource, IteratorSource, SendError, TrySendError, channel_source,
};
use crate::source::{InputStatus, Source, SourceReaderContext, SplitOutput};
use crate::split_source::{SplitReader, SplitSource};
use crate::testing::SourceDriver;
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::{Error, ErrorKind, NO_TIMESTAMP, SubtaskIndex};
use std::future::poll_fn;
use std::time::Duration;

fn sorted(mut records: Vec<u64>) -> Vec<u64> {
    records.sort_unstable();
    records
}

/// Reads `source` to its end, in one go and with a snapshot and restore after every call.
fn check_replay<S: Source<Record = u64>>(source: &S, expected: &[u64]) {
    let env = Simulation::new(1).env();
    for parallelism in 1..=3 {
        for records_max in [1, 3, 1_000] {
            let mut driver = SourceDriver::start(source, &env, parallelism).expect("starts");
            let read = driver.read_available(records_max).expect("reads");
            assert!(driver.has_ended());
            assert_eq!(
                sorted(read.into_records()),
                expected,
                "parallelism {parallelism}, {records_max} at once"
            );
        }
        for n_calls in 0..expected.len() + 2 {
            let mut driver = SourceDriver::start(source, &env, parallelism).expect("starts");
            let mut records = Vec::new();
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            for call in 0..n_calls {
                let subtask = SubtaskIndex(call as u32 % parallelism);
                if let std::task::Poll::Ready(read) = driver.poll_one(&mut cx, subtask, 2) {
                    records.extend(read.expect("reads").into_records());
                }
            }
            let snapshot = driver.snapshot().expect("a snapshot");
            let other = parallelism % 3 + 1;
            let mut driver = SourceDriver::restore(source, &env, other, snapshot).expect("restores");
            records.extend(driver.read_available(5).expect("reads").into_records());
            assert_eq!(sorted(records), expected, "restored after {n_calls} calls, {parallelism} to {other}");
        }
    }
}

/// The numbers below `n_records` in three splits; each starts at its first number, and is asked once more at its end. Reads one or two at once.
fn ranges(n_records: u64) -> FnSource<u64, u64> {
    let third = n_records.div_ceil(3);
    let splits = (0..3).map(|idx| (format!("{idx}"), idx * third));
    FnSource::new(splits, move |name: &str, _: &u64| {
        let end = (name.parse::<u64>()? + 1) * third;
        Ok(move |next: &mut u64, out: &mut SplitOutput<u64>| {
            for _ in 0..=*next % 2 {
                if *next == end.min(n_records) || *next > n_records {
                    return Ok(InputStatus::EndOfInput);
                }
                out.collect(*next);
                *next += 1;
            }
            Ok(InputStatus::MoreAvailable)
        })
    })
}

#[test]
fn every_record_is_read_once_whatever_the_parallelism_and_wherever_it_restarts() {
    for n_records in [0, 1, 2, 7, 12] {
        let expected: Vec<u64> = (0..n_records).collect();
        check_replay(&CollectionSource::new(0..n_records), &expected);
        check_replay(&IteratorSource::new(move || 0..n_records), &expected);
        check_replay(&GeneratorSource::new(|index| index, Some(n_records)), &expected);
        check_replay(&ranges(n_records), &expected);
    }
}

#[test]
fn a_collection_larger_than_a_chunk_keeps_records_and_timestamps() {
    let records: Vec<(u64, i64)> = (0..10_000).map(|i| (i, i as i64 * 10)).collect();
    let source = CollectionSource::with_timestamps(records.clone());
    let mut driver = SourceDriver::start(&source, &Simulation::new(1).env(), 1).expect("starts");
    let read = driver.read_available(777).expect("reads").records;
    assert_eq!(read.into_iter().map(|(_, record, at)| (record, at)).collect::<Vec<_>>(), records);
}

/// When each record of a rate-limited generator came out, in microseconds after it was due.
fn delays(
    env: &Env,
    parallelism: u32,
    rate: f64,
    n_records: u64,
) -> impl Future<Output = Vec<Duration>> + use<> {
    let source = GeneratorSource::new(|index| index, Some(n_records)).rate_per_second(rate);
    let mut driver = SourceDriver::start(&source, env, parallelism).expect("starts");
    let (env, started) = (env.clone(), env.now());
    async move {
        let mut delays = Vec::new();
        while !driver.has_ended() {
            let read = poll_fn(|cx| driver.poll_all(cx, 1_000)).await.expect("reads");
            let now = env.now() - started;
            for record in read.into_records() {
                let due = Duration::from_secs_f64(record as f64 / rate);
                // Readers start a little after the clock was read here.
                assert!(now + Duration::from_millis(1) >= due, "record {record} came before it was due");
                delays.push(now.saturating_sub(due));
            }
        }
        delays
    }
}

#[test]
fn a_rate_is_kept_by_every_parallelism_and_no_record_waits_a_millisecond() {
    for parallelism in [1, 2, 3] {
        for rate in [0.5, 7.0, 10_000.0, 3_000_000.0] {
            let simulation = Simulation::new(7);
            let n_records = ((rate * 2.0) as u64).clamp(3, 20_000);
            let delays =
                simulation.run(delays(&simulation.env(), parallelism, rate, n_records)).expect("ends");
            assert_eq!(delays.len() as u64, n_records);
            let worst = delays.into_iter().max().expect("there are records");
            assert!(
                worst < Duration::from_millis(1),
                "{worst:?} late at {rate}/s with {parallelism} readers"
            );
        }
    }
}

#[test]
fn a_rate_is_kept_on_the_clock_of_the_system() {
    let env = Env::real().expect("an environment");
    let mut delays = env.block_on(delays(&env, 2, 10_000.0, 3_000));
    delays.sort_unstable();
    let median = delays[delays.len() / 2];
    assert!(median < Duration::from_millis(20), "the median record came {median:?} late");
}

#[test]
fn a_restored_generator_goes_on_at_its_rate_and_does_not_catch_up_what_it_had_emitted() {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let n = simulation.run(async move {
        let source = GeneratorSource::new(|index| index, None).rate_per_second(1_000.0);
        let mut driver = SourceDriver::start(&source, &env, 1).expect("starts");
        env.sleep(Duration::from_millis(100)).await;
        let before = poll_fn(|cx| driver.poll_all(cx, 50)).await.expect("reads").records.len();
        let snapshot = driver.snapshot().expect("a snapshot");
        let mut driver = SourceDriver::restore(&source, &env, 1, snapshot).expect("restores");
        env.sleep(Duration::from_millis(20)).await;
        (before, poll_fn(|cx| driver.poll_all(cx, 1_000)).await.expect("reads").into_records())
    });
    let (before, after) = n.expect("ends");
    assert_eq!((before, after.first()), (50, Some(&50)));
    assert!((20..=22).contains(&after.len()), "{} records in 20 ms", after.len());
}

#[test]
fn a_channel_delivers_in_order_and_ends_with_its_last_sender() {
    let simulation = Simulation::new(3);
    let env = simulation.env();
    let read = simulation.run(async move {
        let (sender, source) = channel_source::<u64>(4);
        let mut driver = SourceDriver::start(&source, &env, 2).expect("starts");
        env.spawn("host", async move {
            let other = sender.clone();
            for record in 0..100 {
                let sender = if record % 2 == 0 { &sender } else { &other };
                sender.send(record).await.expect("the job lives");
            }
            other.send_with_timestamp(100, 7).await.expect("the job lives");
        });
        let mut read = Vec::new();
        while !driver.has_ended() {
            read.extend(poll_fn(|cx| driver.poll_all(cx, 3)).await.expect("reads").records);
        }
        read
    });
    let read = read.expect("ends");
    assert_eq!(read.iter().map(|(_, record, _)| *record).collect::<Vec<_>>(), (0..=100).collect::<Vec<_>>());
    assert_eq!((read[0].2, read[100].2), (NO_TIMESTAMP, 7));
}

#[test]
fn a_sender_learns_that_the_job_is_gone_also_while_it_waits() {
    let simulation = Simulation::new(3);
    let env = simulation.env();
    let ended = simulation.run(async move {
        let (sender, source) = channel_source::<u64>(1);
        let driver = SourceDriver::start(&source, &env, 1).expect("starts");
        drop(source);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        let env2 = env.clone();
        env.spawn("job", async move {
            env2.sleep(Duration::from_secs(1)).await;
            drop(driver);
        });
        assert_eq!(sender.send(3).await, Err(SendError(3)));
        sender.closed().await;
        assert!(sender.is_closed());
        assert_eq!(sender.blocking_send(4), Err(SendError(4)));
        assert_eq!(sender.try_send(5), Err(TrySendError::Closed(5)));
    });
    ended.expect("no deadlock");
}

#[test]
fn a_channel_that_was_read_is_not_silently_read_again() {
    let env = Simulation::new(1).env();
    let (_sender, source) = channel_source::<u64>(1);
    let driver = SourceDriver::start(&source, &env, 1).expect("starts");
    drop(driver);
    let error = SourceDriver::start(&source, &env, 1).expect_err("the records are gone");
    assert!(error.report().contains("cannot be read again"), "{}", error.report());
}

#[test]
fn an_iterator_skips_to_its_position_in_steps() {
    let source = IteratorSource::new(|| 0..1_000_000_u64);
    let env = Simulation::new(1).env();
    let ctx = SourceReaderContext { env, subtask: SubtaskIndex(0), parallelism: 1 };
    let split = serde_split(200_000);
    let mut reader = SplitSource::open(&source, split.clone(), &ctx).expect("opens");
    let mut output = crate::source::SourceOutput::default();
    let out = output.split(&crate::source::SourceSplit::split_id(&split));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut n_calls = 0;
    while out.batch.is_empty() {
        assert_eq!(reader.split(), split, "the position stands while records are skipped");
        let polled = reader.poll_read(&mut cx, 10, out);
        assert!(matches!(polled, std::task::Poll::Ready(Ok(InputStatus::MoreAvailable))));
        n_calls += 1;
    }
    assert_eq!(out.batch.records(), (200_000..200_010).collect::<Vec<_>>());
    assert_eq!(n_calls, 5);
}

fn serde_split(next: u64) -> super::IteratorSplit {
    let bytes = flott_state::encode("a split", &next).expect("encodes");
    flott_state::decode("a split", &bytes).expect("decodes")
}

#[test]
fn a_function_that_has_nothing_now_is_asked_again_an_interval_later() {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    // Something at every third call.
    let source = FnSource::new([("ticks", 0_u64)], |_: &str, _: &u64| {
        let mut n_calls = 0;
        Ok(move |next: &mut u64, out: &mut SplitOutput<u64>| {
            n_calls += 1;
            if n_calls % 3 == 0 {
                out.collect(*next);
                *next += 1;
            }
            Ok(InputStatus::MoreAvailable)
        })
    });
    let source = source.unbounded().poll_interval(Duration::from_secs(10));
    let mut driver = SourceDriver::start(&source, &env, 1).expect("starts");
    let started = env.now();
    let read = simulation.run(async move {
        let mut read = Vec::new();
        while read.len() < 3 {
            let some = poll_fn(|cx| driver.poll_all(cx, 10)).await.expect("reads");
            read.extend(
                some.into_records().into_iter().map(|record| (record, (env.now() - started).as_secs())),
            );
        }
        read
    });
    assert_eq!(read.expect("ends"), [(0, 20), (1, 40), (2, 60)], "seconds");
}

#[test]
fn a_function_that_fails_says_where_and_keeps_the_kind_of_its_error() {
    let env = Simulation::new(1).env();
    let fails = |error: fn() -> crate::BoxError| {
        let source = FnSource::new([("orders", 7_u64)], move |_: &str, _: &u64| {
            Ok(move |_: &mut u64, _: &mut SplitOutput<u64>| Err(error()))
        });
        let mut driver = SourceDriver::start(&source, &env, 1).expect("starts");
        driver.read_available(10).expect_err("the function fails").error
    };
    let error = fails(|| "connection refused".into());
    assert_eq!(error.kind(), ErrorKind::FailSubtask);
    assert!(error.report().contains("reading split orders"), "{}", error.report());
    assert!(error.report().contains("connection refused"), "{}", error.report());
    assert_eq!(fails(|| Error::user("no such topic").into()).kind(), ErrorKind::UserError);

    let twice = FnSource::new([("a", 0_u64), ("a", 1)], |_: &str, _: &u64| {
        Ok(|_: &mut u64, _: &mut SplitOutput<u64>| Ok(InputStatus::EndOfInput))
    });
    let error = SourceDriver::start(&twice, &env, 1).expect_err("the same name twice");
    assert!(error.to_string().contains("two splits of a source are called 'a'"), "{error}");
}
