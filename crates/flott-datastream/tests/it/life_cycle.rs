//! How jobs start, stop, fail and push back.

use crate::support::{real, simulated};
use flott_api::sinks::{FnSink, collect_sink};
use flott_api::sources::GeneratorSource;
use flott_api::{InputStatus, SourceReaderContext, SourceSplit, SplitReader, SplitSource};
use flott_api::{OnError, OutputTag, SplitOutput, WatermarkStrategy};
use flott_coordinator::JobStatus;
use flott_datastream::StreamExecutionEnvironment;
use flott_types::{ErrorKind, Result, SplitId, options};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

fn endless(env: &StreamExecutionEnvironment) -> flott_datastream::SourceStream<u64> {
    env.from_source(GeneratorSource::new(|n| n, None), WatermarkStrategy::no_watermarks(), "endless")
}

#[test]
fn an_endless_job_runs_until_it_is_canceled() {
    for env in [real(2), simulated(2, 9)] {
        let seen = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&seen);
        let canceler: Arc<std::sync::OnceLock<flott_datastream::JobCanceler>> = Arc::default();
        let from_inside = Arc::clone(&canceler);
        endless(&env).key_by(|n| n % 10).reduce(|a, b| *a = b).sink_to(FnSink::new(move |_: u64| {
            if counter.fetch_add(1, Ordering::Relaxed) > 100_000
                && let Some(canceler) = from_inside.get()
            {
                canceler.try_cancel();
            }
        }));
        let client = env.execute_async("endless").unwrap();
        canceler.set(client.canceler()).unwrap();
        let result = client.wait().unwrap();
        assert_eq!(result.status, JobStatus::Canceled);
        assert!(seen.load(Ordering::Relaxed) > 100_000);
    }
}

/// The source makes records as fast as it can, the sink takes a few and then none: what is in flight must be bounded.
#[test]
fn a_stalled_sink_stops_the_source() {
    let mut env = simulated(1, 4);
    env.set(options::CHANNEL_MEMORY, flott_types::MemorySize(64 << 10)).disable_operator_chaining();
    let (made, taken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count_made, count_taken) = (Arc::clone(&made), Arc::clone(&taken));
    let source = GeneratorSource::new(
        move |n| {
            count_made.fetch_add(1, Ordering::Relaxed);
            [n; 4]
        },
        None,
    );
    let world = env.env().clone();
    let stall = move |record: [u64; 4]| {
        let (world, taken) = (world.clone(), Arc::clone(&count_taken));
        async move {
            taken.fetch_add(1, Ordering::Relaxed);
            world.sleep(std::time::Duration::from_secs(3600)).await;
            Ok(vec![record])
        }
    };
    let config = flott_operators::AsyncWaitConfig {
        output_mode: flott_operators::AsyncOutputMode::Ordered,
        capacity: 5,
        timeout: None,
        retry: flott_api::AsyncRetryStrategy::NoRetry,
    };
    env.from_source(source, WatermarkStrategy::no_watermarks(), "fast")
        .async_wait(stall, config)
        .sink_to(collect_sink().0);
    let client = env.execute_async("stalled").unwrap();
    let (canceler, sleeper) = (client.canceler(), env.env().clone());
    env.env().spawn("stop it", async move {
        sleeper.sleep(std::time::Duration::from_secs(60)).await;
        canceler.cancel().await;
    });
    assert_eq!(client.wait().unwrap().status, JobStatus::Canceled);
    assert_eq!(taken.load(Ordering::Relaxed), 5);
    // 64 KiB in the channel and as much taken out of it at once, plus a few batches of 32 KiB under way.
    let bytes = made.load(Ordering::Relaxed) * 32;
    assert!(bytes < 512 << 10, "{bytes} bytes were made for a sink that takes none");
}

/// Numbers from a list that has letters in it.
#[derive(Clone)]
struct Dirty;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct From(usize);

impl SourceSplit for From {
    fn split_id(&self) -> SplitId {
        SplitId("list".to_owned())
    }
}

struct DirtyReader(usize);

impl SplitSource for Dirty {
    type Record = u64;
    type Split = From;
    type Reader = DirtyReader;
    fn boundedness(&self) -> flott_api::Boundedness {
        flott_api::Boundedness::Bounded
    }
    fn splits(&self, _: u32) -> Result<Vec<From>> {
        Ok(vec![From(0)])
    }
    fn open(&self, split: From, _: &SourceReaderContext) -> Result<DirtyReader> {
        Ok(DirtyReader(split.0))
    }
}

impl SplitReader for DirtyReader {
    type Record = u64;
    type Split = From;
    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        out: &mut SplitOutput<u64>,
    ) -> Poll<Result<InputStatus>> {
        for (line, text) in ["1", "two", "3"].iter().enumerate().skip(self.0) {
            match text.parse() {
                Ok(n) => out.collect(n),
                Err(_) => out.bad_record(
                    format!("line {}", line + 1),
                    text.as_bytes(),
                    format!("'{text}' is no number"),
                ),
            }
        }
        self.0 = 3;
        Poll::Ready(Ok(InputStatus::EndOfInput))
    }
    fn split(&self) -> From {
        From(self.0)
    }
}

#[test]
fn a_bad_record_fails_the_job_is_skipped_or_comes_out_at_the_side_and_is_counted() {
    let run = |on_error: OnError| {
        let env = real(1);
        let ((sink, results), (bad_sink, bad)) = (collect_sink(), collect_sink());
        let source = env.from_source_with(Dirty, WatermarkStrategy::no_watermarks(), "dirty", on_error);
        source.sink_to(sink);
        source.bad_records().map(|bad| (bad.position, bad.raw)).sink_to(bad_sink);
        let done = env.execute("dirty");
        (done.map(|done| done.operators[0].records_in_errors), results.take(), bad.take())
    };
    let (done, ..) = run(OnError::Fail);
    let error = done.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError);
    assert!(
        error.report().contains("bad record in list at line 2: 'two' is no number"),
        "{}",
        error.report()
    );
    let (done, results, bad) = run(OnError::Skip);
    assert_eq!((done.unwrap(), results, bad), (1, vec![1, 3], vec![]));
    let (done, results, bad) = run(OnError::SideOutput);
    assert_eq!((done.unwrap(), results, bad), (1, vec![1, 3], vec![("line 2".to_owned(), b"two".to_vec())]));
}

#[test]
fn programs_that_cannot_run_are_refused_before_they_do() {
    let env = real(1);
    let refused = |env: &StreamExecutionEnvironment| env.execute("wrong").unwrap_err().report();
    assert!(refused(&env).contains("the program has no operator"));
    let env = real(1);
    env.from_sequence(0, 1).uid("a").map(|n| n).uid("a").sink_to(collect_sink().0);
    assert!(refused(&env).contains("two operators have the uid 'a'"));
    let env = real(2);
    env.from_sequence(0, 1).forward().map(|n| n).seal().set_parallelism(1).sink_to(collect_sink().0);
    assert!(refused(&env).contains("use rescale or rebalance"));
    let env = real(1);
    env.from_sequence(0, 9)
        .partition_custom(|_: &u64, _| 7, |n| *n)
        .map(|n| n)
        .seal()
        .set_parallelism(2)
        .sink_to(collect_sink().0);
    assert!(refused(&env).contains("the custom partitioner chose channel 7 of 2"));
}

#[test]
fn an_environment_is_empty_after_execution_and_old_streams_are_refused() {
    let env = real(1);
    let numbers = env.from_sequence(0, 9);
    numbers.sink_to(collect_sink().0);
    env.execute("first").unwrap();
    assert!(env.execute("again").unwrap_err().report().contains("the program has no operator"));
    numbers.name("old").map(|n| n + 1).sink_to(collect_sink().0);
    assert!(env.execute("old").is_err());
}

#[test]
fn the_receiver_of_a_channel_sink_ends_with_the_job_though_the_environment_lives() {
    let env = real(2);
    let (sink, receiver) = flott_api::sinks::channel_sink(10);
    env.from_sequence(0, 999).sink_to(sink);
    let client = env.execute_async("channel").unwrap();
    assert_eq!(receiver.count(), 1000);
    assert_eq!(client.wait().unwrap().status, JobStatus::Finished);
}

#[test]
fn a_side_output_read_as_another_type_is_an_error_and_no_panic_of_the_process() {
    let env = real(1);
    let written = OutputTag::<u64>::new("side");
    let read = OutputTag::<String>::new("side");
    #[derive(Clone)]
    struct Writes(OutputTag<u64>);
    impl flott_api::ProcessFunction<u64, u64> for Writes {
        fn process_element(
            &mut self,
            record: u64,
            _: &mut flott_api::ProcessContext<'_>,
            out: &mut flott_api::Collector<'_, u64>,
        ) -> flott_api::UserResult {
            out.output(&self.0, record);
            Ok(())
        }
    }
    env.from_sequence(0, 9).process(Writes(written)).side_output(&read).sink_to(collect_sink().0);
    let report = env.execute("types").unwrap_err().report();
    assert!(
        report.contains("a side output is read as another record type than it is written with"),
        "{report}"
    );
}

/// Two splits: one has a record of each second, a second apart; the other has one record, and then none for
/// `silence_s` seconds, and then those of the last ten seconds.
#[derive(Clone)]
struct OneSilent {
    env: flott_env::Env,
    silence_s: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Numbered(u64);

impl SourceSplit for Numbered {
    fn split_id(&self) -> SplitId {
        SplitId(format!("split {}", self.0))
    }
}

struct Ticking {
    split: u64,
    at_s: u64,
    /// Seconds at which there are records.
    due: std::collections::VecDeque<u64>,
    started: flott_env::Instant,
    env: flott_env::Env,
    sleep: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl SplitSource for OneSilent {
    type Record = (u64, u64);
    type Split = Numbered;
    type Reader = Ticking;
    fn boundedness(&self) -> flott_api::Boundedness {
        flott_api::Boundedness::ContinuousUnbounded
    }
    fn splits(&self, _: u32) -> Result<Vec<Numbered>> {
        Ok(vec![Numbered(0), Numbered(1)])
    }
    fn open(&self, split: Numbered, _: &SourceReaderContext) -> Result<Ticking> {
        let due = if split.0 == 0 {
            (0..100).collect()
        } else {
            std::iter::once(0).chain(self.silence_s..100).collect()
        };
        let (env, started) = (self.env.clone(), self.env.now());
        Ok(Ticking { split: split.0, at_s: 0, due, started, env, sleep: None })
    }
}

impl SplitReader for Ticking {
    type Record = (u64, u64);
    type Split = Numbered;
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _: usize,
        out: &mut SplitOutput<(u64, u64)>,
    ) -> Poll<Result<InputStatus>> {
        let Some(next) = self.due.front().copied() else { return Poll::Ready(Ok(InputStatus::EndOfInput)) };
        let at = self.started + std::time::Duration::from_secs(next);
        if self.env.now() < at {
            let sleep = self.sleep.insert(self.env.sleep_until(at));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.due.pop_front();
        self.at_s = next;
        out.collect((self.split, next));
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }
    fn split(&self) -> Numbered {
        Numbered(self.split)
    }
}

#[test]
fn a_silent_split_holds_windows_back_until_it_is_idle_and_counts_again_when_it_speaks() {
    use flott_api::windowing::TumblingEventTimeWindows;
    use std::time::Duration;
    for seed in 0..20 {
        let env = simulated(1, seed);
        let source = OneSilent { env: env.env().clone(), silence_s: 50 };
        let strategy = WatermarkStrategy::for_monotonous_timestamps()
            .with_timestamp_assigner(|record: &(u64, u64), _| record.1 as i64 * 1_000)
            .with_idleness(Duration::from_secs(20));
        let fired = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (log, world) = (Arc::clone(&fired), env.env().clone());
        env.from_source(source, strategy, "two splits")
            .window_all(TumblingEventTimeWindows::of(Duration::from_secs(10)))
            .reduce_with(|last, next| *last = next, |(), ctx, _| ctx.window.start / 1_000)
            .sink_to(FnSink::new(move |start: i64| {
                log.lock().unwrap().push((start, world.now().0.as_secs()))
            }));
        let done = env.execute("idle").unwrap();
        assert!(done.operators.iter().all(|operator| operator.late_records_dropped == 0), "seed {seed}");
        let fired = fired.lock().unwrap().clone();
        let starts: Vec<i64> = fired.iter().map(|(start, _)| *start).collect();
        assert_eq!(starts, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90], "seed {seed}");
        // The first window waits for the silent split to be idle, at 20 s; from then on the other split decides.
        let times: Vec<u64> = fired.iter().map(|(_, at)| *at).collect();
        assert_eq!(times, [20, 20, 30, 40, 50, 60, 70, 80, 90, 99], "seed {seed}");
    }
}

#[test]
fn splits_of_an_alignment_group_keep_together() {
    use flott_api::sources::GeneratorSource;
    use std::time::Duration;
    for seed in 0..10 {
        let mut env = simulated(1, seed);
        // A source may be ahead by the batch that it was reading when it had to pause.
        env.set(options::WATERMARK_ALIGNMENT_UPDATE_INTERVAL, Duration::from_millis(10))
            .set(options::BATCH_SIZE, 10);
        let now = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let ahead = Arc::new(AtomicU64::new(0));
        // A record is a second of event time; the second source would be a hundred times as fast.
        for (idx, rate, count) in [(0_usize, 100.0, 1_000), (1, 10_000.0, 3_000)] {
            let source = GeneratorSource::new(|n| n, Some(count)).rate_per_second(rate);
            let strategy = WatermarkStrategy::for_monotonous_timestamps()
                .with_timestamp_assigner(|n: &u64, _| *n as i64 * 1_000)
                .with_watermark_alignment("group", Duration::from_secs(20));
            let (now, ahead) = (Arc::clone(&now), Arc::clone(&ahead));
            env.from_source(source, strategy, "aligned").sink_to(FnSink::new(move |n: u64| {
                now[idx].store(n, Ordering::Relaxed);
                if idx == 1 && now[0].load(Ordering::Relaxed) < 990 {
                    ahead.fetch_max(n.saturating_sub(now[0].load(Ordering::Relaxed)), Ordering::Relaxed);
                }
            }));
        }
        env.execute("aligned").unwrap();
        let ahead = ahead.load(Ordering::Relaxed);
        // Twenty seconds of drift; before the first report and between two, the fast source makes some 100 records each.
        assert!((20..400).contains(&ahead), "seed {seed}: {ahead} seconds ahead");
    }
}
