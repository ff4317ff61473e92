//! How jobs start, stop, fail and push back.

use crate::support::{real, simulated};
use flott_api::sinks::{FnSink, collect_sink};
use flott_api::sources::GeneratorSource;
use flott_api::{OnError, OutputTag, SplitOutput, WatermarkStrategy};
use flott_api::{InputStatus, SourceReaderContext, SourceSplit, SplitReader, SplitSource};
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
    env.from_source(source, WatermarkStrategy::no_watermarks(), "fast").async_wait(stall, config).sink_to(collect_sink().0);
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
    fn poll_read(&mut self, _: &mut Context<'_>, _: usize, out: &mut SplitOutput<u64>) -> Poll<Result<InputStatus>> {
        for (line, text) in ["1", "two", "3"].iter().enumerate().skip(self.0) {
            match text.parse() {
                Ok(n) => out.collect(n),
                Err(_) => out.bad_record(format!("line {}", line + 1), text.as_bytes(), format!("'{text}' is no number")),
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
    assert!(error.report().contains("bad record in list at line 2: 'two' is no number"), "{}", error.report());
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
    env.from_sequence(0, 9).partition_custom(|_: &u64, _| 7, |n| *n).map(|n| n).seal().set_parallelism(2).sink_to(collect_sink().0);
    assert!(refused(&env).contains("the custom partitioner chose channel 7 of 2"));
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
    assert!(report.contains("a side output is read as another record type than it is written with"), "{report}");
}
