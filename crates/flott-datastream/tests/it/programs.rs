//! What the streams of a program can do with each other, in both worlds and at several parallelisms.

use crate::support::{directory, real, simulated, sorted};
use flott_api::sinks::{FnSink, collect_sink};
use flott_api::sources::CollectionSource;
use flott_api::{
    AsyncRetryStrategy, BoxError, BroadcastContext, BroadcastProcessFunction, CoProcessFunction, Collector,
    KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, OutputTag, ProcessContext, ProcessFunction,
    StartingPosition, UserResult, WatermarkStrategy,
};
use flott_datastream::{DataStream, DataStreamSink, SourceStream, StreamExecutionEnvironment};
use flott_operators::{AsyncOutputMode, AsyncWaitConfig};
use flott_state::{BroadcastState, ListState, OperatorStateBackend, ValueState};
use flott_types::{ErrorKind, MemorySize, StateBackendType, options};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn everywhere(run: impl Fn(StreamExecutionEnvironment)) {
    for parallelism in [1, 2, 3] {
        run(real(parallelism));
        run(simulated(parallelism, u64::from(parallelism)));
    }
}

#[test]
fn every_exchange_delivers_every_record_once_and_broadcast_to_all() {
    for (upstream, downstream) in [(1, 3), (3, 1), (2, 2), (3, 2)] {
        for world in [real, |parallelism| simulated(parallelism, 5)] {
            let env = world(upstream);
            let source = || env.from_sequence(0, 999).set_parallelism(upstream);
            let mut outputs = Vec::new();
            for stream in [source().rebalance(), source().rescale(), source().shuffle(), source().global()] {
                let (sink, results) = collect_sink();
                stream
                    .map(|n| n)
                    .seal()
                    .set_parallelism(downstream)
                    .sink_to(sink)
                    .set_parallelism(downstream);
                outputs.push((results, 1));
            }
            let (sink, results) = collect_sink();
            let custom = source().partition_custom(|key: &u64, n| *key as usize % n, |n| n / 10);
            custom.map(|n| n).seal().set_parallelism(downstream).sink_to(sink);
            outputs.push((results, 1));
            let (sink, results) = collect_sink();
            source().broadcast().map(|n| n).seal().set_parallelism(downstream).sink_to(sink);
            outputs.push((results, downstream));
            env.execute("exchanges").unwrap();
            for (idx, (results, copies)) in outputs.into_iter().enumerate() {
                let expected: Vec<u64> = (0..1000).flat_map(|n| (0..copies).map(move |_| n)).collect();
                assert_eq!(
                    sorted(results.take()),
                    expected,
                    "exchange {idx} from {upstream} to {downstream}"
                );
            }
        }
    }
}

#[test]
fn a_stream_with_several_readers_and_a_union_of_streams() {
    everywhere(|env| {
        let numbers = env.from_sequence(0, 99);
        let (even, odd) = (numbers.filter(|n| n % 2 == 0), numbers.filter(|n| n % 2 == 1));
        let (sink, results) = collect_sink();
        even.map(|n| n * 10).union(&odd).union(&numbers).sink_to(sink);
        env.execute("union").unwrap();
        let expected = (0..100).map(|n| if n % 2 == 0 { n * 10 } else { n }).chain(0..100).collect();
        assert_eq!(sorted(results.take()), sorted(expected));
    });
}

#[derive(Clone)]
struct Router(OutputTag<String>);

impl ProcessFunction<u64, u64> for Router {
    fn process_element(
        &mut self,
        record: u64,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        if record.is_multiple_of(3) {
            out.output(&self.0, format!("three times {}", record / 3));
        } else {
            out.collect(record);
        }
        Ok(())
    }
}

#[test]
fn side_outputs_of_another_type() {
    everywhere(|env| {
        let tag = OutputTag::new("thirds");
        let routed = env.from_sequence(0, 29).process(Router(tag.clone()));
        let ((sink, results), (side_sink, side_results)) = (collect_sink(), collect_sink());
        routed.sink_to(sink);
        routed.side_output(&tag).sink_to(side_sink);
        env.execute("sides").unwrap();
        assert_eq!(sorted(results.take()), (0..30).filter(|n| n % 3 != 0).collect::<Vec<u64>>());
        let expected = (0..10).map(|n| format!("three times {n}")).collect();
        assert_eq!(sorted(side_results.take()), sorted(expected));
    });
}

/// Emits, when its event-time timer fires, the records of the key since the last time.
#[derive(Clone)]
struct Gather {
    records: ListState<u64>,
    first: ValueState<i64>,
}

impl KeyedProcessFunction<u64, (u64, i64), Vec<u64>> for Gather {
    fn process_element(
        &mut self,
        (record, _): (u64, i64),
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, Vec<u64>>,
    ) -> UserResult {
        self.records.add(ctx, record)?;
        if self.first.get(ctx)?.is_none() {
            let at = ctx.timestamp();
            self.first.set(ctx, at)?;
            ctx.register_event_time_timer(at + 899);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Vec<u64>>,
    ) -> UserResult {
        let records = self.records.take(ctx)?;
        self.first.clear(ctx)?;
        out.collect(records);
        Ok(())
    }
}

#[test]
fn keyed_state_and_event_time_timers() {
    everywhere(|env| {
        use flott_api::{WatermarkStrategy, sources::CollectionSource};
        let records: Vec<(u64, i64)> = (0..200).map(|n| (n, n as i64 * 100)).collect();
        let strategy =
            WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|r: &(u64, i64), _| r.1);
        let (sink, results) = collect_sink();
        env.from_source(CollectionSource::new(records), strategy, "records")
            .set_parallelism(1)
            .key_by(|(n, _)| n % 2)
            .process(Gather { records: ListState::new("records"), first: ValueState::new("first") })
            .sink_to(sink);
        env.execute("timers").unwrap();
        // Ten records a second, five of each key.
        let expected: Vec<Vec<u64>> =
            (0..40).map(|group| (0..5).map(|i| group / 2 * 10 + i * 2 + group % 2).collect()).collect();
        assert_eq!(sorted(results.take()), sorted(expected));
    });
}

#[derive(Clone)]
struct Tag2;

impl CoProcessFunction<u64, String, String> for Tag2 {
    fn process_element1(
        &mut self,
        n: u64,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        out.collect(format!("number {n}"));
        Ok(())
    }
    fn process_element2(
        &mut self,
        s: String,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        out.collect(format!("text {s}"));
        Ok(())
    }
}

/// Pairs up records of both streams as they come.
#[derive(Clone)]
struct Pair {
    left: ListState<u64>,
    right: ListState<u64>,
}

impl KeyedCoProcessFunction<u64, u64, u64, (u64, u64)> for Pair {
    fn process_element1(
        &mut self,
        n: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        self.left.add(ctx, n)?;
        self.right.get(ctx)?.for_each(|right| out.collect((n, *right)));
        Ok(())
    }
    fn process_element2(
        &mut self,
        n: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        self.right.add(ctx, n)?;
        self.left.get(ctx)?.for_each(|left| out.collect((*left, n)));
        Ok(())
    }
}

#[test]
fn two_streams_into_one_function_without_and_with_keys() {
    everywhere(|env| {
        let (sink, results) = collect_sink();
        let texts = env.from_collection(vec!["a".to_owned(), "b".to_owned()]);
        env.from_sequence(1, 3).connect(&texts).process(Tag2).sink_to(sink);
        let (left, right) =
            (env.from_sequence(0, 19).key_by(|n| n % 5), env.from_sequence(100, 119).key_by(|n| n % 5));
        let (pairs_sink, pairs) = collect_sink();
        let pair = Pair { left: ListState::new("left"), right: ListState::new("right") };
        left.connect(&right).process(pair).sink_to(pairs_sink);
        env.execute("two streams").unwrap();
        assert_eq!(sorted(results.take()), ["number 1", "number 2", "number 3", "text a", "text b"]);
        let expected: Vec<(u64, u64)> =
            (0..20).flat_map(|l| (100..120).map(move |r| (l, r))).filter(|(l, r)| l % 5 == r % 5).collect();
        assert_eq!(sorted(pairs.take()), expected);
    });
}

/// Multiplies by the factor that was broadcast last, and counts the rules it has.
#[derive(Clone)]
struct Rules(BroadcastState<String, u64>);

impl BroadcastProcessFunction<u64, (String, u64), u64> for Rules {
    fn process_element(
        &mut self,
        record: u64,
        _: &mut ProcessContext<'_>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        out.collect(record * self.0.get(broadcast, "factor")?.copied().unwrap_or(1));
        Ok(())
    }
    fn process_broadcast_element(
        &mut self,
        (name, value): (String, u64),
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        self.0.put(ctx.state, name, value)?;
        out.collect(1_000_000);
        Ok(())
    }
}

#[test]
fn broadcast_records_reach_every_subtask() {
    everywhere(|env| {
        let rules =
            env.from_collection(vec![("factor".to_owned(), 1), ("other".to_owned(), 7)]).to_broadcast();
        let (sink, results) = collect_sink();
        env.from_sequence(0, 99)
            .connect_broadcast(&rules)
            .process(Rules(BroadcastState::new("rules")))
            .sink_to(sink);
        env.execute("broadcast").unwrap();
        let (from_rules, records): (Vec<u64>, Vec<u64>) =
            results.take().into_iter().partition(|n| *n == 1_000_000);
        assert_eq!(sorted(records), (0..100).collect::<Vec<_>>());
        assert_eq!(from_rules.len() as u32, 2 * env.parallelism());
    });
}

#[test]
fn asynchronous_calls_keep_or_give_up_the_order() {
    for output_mode in [AsyncOutputMode::Ordered, AsyncOutputMode::Unordered] {
        everywhere(|env| {
            let world = env.env().clone();
            let call = move |n: u64| {
                let world = world.clone();
                async move {
                    world.sleep(Duration::from_micros((n * 7_919) % 300)).await;
                    Ok::<_, BoxError>(vec![n, n + 1_000])
                }
            };
            let config = AsyncWaitConfig {
                output_mode,
                capacity: 10,
                timeout: Some(Duration::from_secs(10)),
                retry: AsyncRetryStrategy::NoRetry,
            };
            let (sink, results) = collect_sink();
            env.from_sequence(0, 99)
                .set_parallelism(1)
                .async_wait(call, config)
                .set_parallelism(1)
                .sink_to(sink)
                .set_parallelism(1);
            env.execute("async").unwrap();
            let results = results.take();
            let in_order: Vec<u64> = (0..100).flat_map(|n| [n, n + 1_000]).collect();
            if output_mode == AsyncOutputMode::Ordered {
                assert_eq!(results, in_order);
            } else {
                assert_eq!(sorted(results), sorted(in_order));
            }
        });
    }
}

#[test]
fn interval_joins_pair_what_is_close_in_time() {
    everywhere(|env| {
        use flott_api::{WatermarkStrategy, sources::CollectionSource};
        let stream = |offset: i64, n: i64| {
            let records: Vec<(u64, i64)> = (0..n).map(|i| (i as u64 % 3, i * 10 + offset)).collect();
            let strategy = WatermarkStrategy::for_monotonous_timestamps()
                .with_timestamp_assigner(|r: &(u64, i64), _| r.1);
            env.from_source(CollectionSource::new(records), strategy, "records").key_by(|r| r.0)
        };
        let (sink, results) = collect_sink();
        stream(0, 200)
            .connect(&stream(5, 150))
            .interval_join(-30..=30)
            .unwrap()
            .process(|left: &(u64, i64), right: &(u64, i64), out: &mut Collector<'_, (i64, i64)>| {
                out.collect((left.1, right.1));
                Ok(())
            })
            .sink_to(sink);
        env.execute("interval join").unwrap();
        let expected: Vec<(i64, i64)> = (0..200_i64)
            .flat_map(|l| (0..150_i64).map(move |r| (l, r)))
            .filter(|(l, r)| l % 3 == r % 3 && (-30..=30).contains(&(r * 10 + 5 - l * 10)))
            .map(|(l, r)| (l * 10, r * 10 + 5))
            .collect();
        assert_eq!(sorted(results.take()), sorted(expected));
    });
}

#[test]
fn chaining_can_be_turned_off_and_nothing_changes_but_the_tasks() {
    let build = |env: &StreamExecutionEnvironment| {
        let (sink, results) = collect_sink();
        env.from_sequence(0, 999)
            .map(|n| n + 1)
            .name("plus one")
            .filter(|n| n % 2 == 0)
            .sink_to(sink)
            .name("out");
        results
    };
    let (chained, mut single) = (real(2), real(2));
    single.disable_operator_chaining();
    let (first, second) = (build(&chained), build(&single));
    assert_eq!(chained.explain().unwrap(), "0: sequence -> plus one -> filter -> out (parallelism 2)\n");
    assert_eq!(single.explain().unwrap().matches("FORWARD").count(), 3);
    chained.execute("chained").unwrap();
    single.execute("single").unwrap();
    assert_eq!(sorted(first.take()), sorted(second.take()));
}

#[test]
fn records_of_a_key_stay_in_order_through_an_exchange() {
    everywhere(|env| {
        let (sink, results) = collect_sink();
        env.from_sequence(0, 9_999)
            .set_parallelism(1)
            .key_by(|n| n % 17)
            .reduce(|last, next| *last = next)
            .sink_to(sink);
        env.execute("order").unwrap();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for n in results.take() {
            if env.parallelism() == 1 {
                let before = last.insert(n % 17, n);
                assert!(before.is_none_or(|before| before < n), "{before:?} before {n}");
            }
        }
    });
}

#[test]
fn an_error_of_a_sink_fails_the_job() {
    let env = real(2);
    let sink = FnSink::new(|n: u64| if n == 77 { Err(BoxError::from("disk full")) } else { Ok(()) });
    env.from_sequence(0, 99).rebalance().sink_to(sink).name("disk");
    let error = env.execute("sink fails").unwrap_err();
    assert!(error.report().contains("operator 'disk' subtask"), "{}", error.report());
    assert!(error.report().ends_with("disk full"), "{}", error.report());
}

#[test]
fn for_each_sees_every_record_behind_fused_steps_and_its_error_names_the_record() {
    let env = real(2);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let numbers = env.from_sequence(0, 99);
    numbers.filter(|n| n % 10 == 0).flat_map(|n| [n, n + 1]).for_each(move |n| sink.lock().unwrap().push(n));
    env.execute("for each").unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..100).filter(|n| n % 10 < 2).collect::<Vec<_>>());

    let env = real(1);
    env.from_sequence(0, 99)
        .map(|n| n * 2)
        .try_for_each(|n| if n == 20 { Err("too much") } else { Ok(()) })
        .name("check");
    let error = env.execute("for each fails").unwrap_err().report();
    assert!(error.contains("check") && error.contains("record 11") && error.ends_with("too much"), "{error}");
}

#[test]
fn state_on_disk_gives_what_state_in_memory_gives() {
    let sums = |backend| {
        let mut env = real(2);
        let local_dir = directory(&env);
        env.set(options::STATE_BACKEND, backend);
        env.set(options::STATE_DISK_MEMORY, MemorySize(16 << 10));
        env.set(options::STATE_LOCAL_DIR, Some(local_dir));
        let (sink, sums) = collect_sink();
        env.from_sequence(0, 19_999)
            .map(|n| (n % 2_000, n))
            .key_by(|(key, _)| *key)
            .reduce(|sum, (_, n)| sum.1 += n)
            .sink_to(sink);
        env.execute("sums").unwrap();
        sorted(sums.take())
    };
    let expected = sums(StateBackendType::Hashmap);
    assert_eq!(expected.len(), 20_000);
    assert_eq!(sums(StateBackendType::Disk), expected);
}

/// Says what is wrong with a program that `use_old` makes of a stream of an earlier one and of a new one; the next is none the worse.
#[track_caller]
fn check_old_stream(use_old: impl Fn(&DataStream<u64>, &DataStream<u64>), expected: &str) {
    let env = real(1);
    let old = env.from_sequence(0, 9).name("old numbers");
    let (sink, results) = collect_sink();
    old.sink_to(sink);
    env.execute("first").unwrap();
    assert_eq!(results.take().len(), 10);

    let new = env.from_sequence(100, 109).name("new numbers");
    let (sink, results) = collect_sink();
    new.sink_to(sink).name("new sink");
    use_old(&old, &new);
    let said = env.explain().unwrap_err().to_string();
    assert!(said.contains(expected), "{said}");
    let error = env.execute("second").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError);
    assert_eq!(error.to_string(), said);
    assert_eq!(results.take(), Vec::<u64>::new(), "nothing has run");

    let (sink, results) = collect_sink();
    env.from_sequence(100, 109).sink_to(sink);
    env.execute("third").unwrap();
    assert_eq!(results.take(), (100..=109).collect::<Vec<u64>>());
}

#[test]
fn a_stream_of_an_earlier_program_is_refused_wherever_it_is_used() {
    let discard = || FnSink::new(|_: u64| {});
    let reads = "operator 'late sink' reads 'old numbers', which belongs to an earlier program";
    check_old_stream(|old, _| drop(old.sink_to(discard()).name("late sink")), reads);
    check_old_stream(|old, new| drop(new.union(old).sink_to(discard()).name("late sink")), reads);
    check_old_stream(|old, new| drop(old.union(new).sink_to(discard()).name("late sink")), reads);
    check_old_stream(|old, _| drop(old.broadcast().sink_to(discard()).name("late sink")), reads);
    check_old_stream(
        |old, _| drop(old.side_output(&OutputTag::<u64>::new("side")).sink_to(discard()).name("late sink")),
        reads,
    );
    check_old_stream(
        |old, _| drop(old.key_by(|n| n % 2).reduce(|sum, n| *sum += n)),
        "operator 'reduce' reads 'old numbers'",
    );
    check_old_stream(
        |old, new| {
            let late = new.key_by(|n| n % 2).connect(&old.key_by(|n| n % 2));
            drop(late.process(Pair { left: ListState::new("left"), right: ListState::new("right") }));
        },
        "operator 'keyed co-process' reads 'old numbers'",
    );
    let is_set = "a setting of 'old numbers', which belongs to an earlier program";
    check_old_stream(|old, _| drop(old.name("renamed")), is_set);
    check_old_stream(|old, _| drop(old.uid("identified")), is_set);
    check_old_stream(|old, _| drop(old.set_parallelism(3)), is_set);
}

#[test]
fn a_source_or_sink_of_an_earlier_program_is_refused_too() {
    let check = |set: fn(SourceStream<u64>, DataStreamSink), expected: &str| {
        let env = real(1);
        let records = CollectionSource::new(vec![1_u64, 2]);
        let source = env.from_source(records, WatermarkStrategy::no_watermarks(), "old source");
        let sink = source.sink_to(FnSink::new(|_: u64| {})).name("old sink");
        env.execute("first").unwrap();
        let numbers = env.from_sequence(0, 9);
        numbers.sink_to(FnSink::new(|_: u64| {}));
        set(source, sink);
        let error = env.execute("second").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UserError);
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(|source, _| drop(source.starting_at(StartingPosition::Earliest)), "a setting of 'old source'");
    check(
        |source, _| drop(source.bad_records().sink_to(FnSink::new(|_| {}))),
        "operator 'sink' reads 'old source'",
    );
    check(|_, sink| drop(sink.name("renamed")), "a setting of 'old sink'");
    check(|_, sink| drop(sink.set_parallelism(2)), "a setting of 'old sink'");
    check(
        |_, sink| drop(sink.bad_records().sink_to(FnSink::new(|_| {}))),
        "operator 'sink' reads 'old sink'",
    );
}
