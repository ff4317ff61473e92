use super::{BlackholeSink, ChannelReceiver, FnSink, PrintSink, TryRecvError, channel_sink, collect_sink};
use crate::BoxError;
use crate::sink::{Sink, SinkContext, SinkWriter};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::{RecordBatch, SubtaskIndex};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn writer<T, S: Sink<T>>(sink: &S, env: &Env, subtask: u32, parallelism: u32) -> S::Writer {
    let ctx = SinkContext::new(env.clone(), SubtaskIndex(subtask), parallelism, 1);
    sink.create_writer(ctx).expect("a writer")
}

fn batch(records: impl IntoIterator<Item = u64>) -> RecordBatch<u64> {
    RecordBatch::untimed(records.into_iter().collect())
}

fn printed(sink: &PrintSink<u64>, subtask: u32, parallelism: u32) -> String {
    let simulation = Simulation::new(1);
    let mut writer = writer(sink, &simulation.env(), subtask, parallelism);
    writer.write(batch([7, 8])).expect("written");
    writer.write(batch([9])).expect("written");
    simulation.printed()
}

#[test]
fn printed_lines_begin_with_prefix_and_subtask_as_in_flink() {
    let plain = PrintSink::<u64>::new();
    let marked = PrintSink::new().with_prefix("late");
    assert_eq!(printed(&plain, 0, 1), "7\n8\n9\n");
    assert_eq!(printed(&plain, 1, 2), "2> 7\n2> 8\n2> 9\n");
    assert_eq!(printed(&marked, 0, 1), "late> 7\nlate> 8\nlate> 9\n");
    assert_eq!(printed(&marked, 0, 2), "late:1> 7\nlate:1> 8\nlate:1> 9\n");
}

#[test]
fn records_print_as_display_debug_or_a_closure_says() {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let batch = || RecordBatch::untimed(vec!["a".to_owned()]);
    writer(&PrintSink::new(), &env, 0, 1).write(batch()).expect("written");
    writer(&PrintSink::debug(), &env, 0, 1).write(batch()).expect("written");
    let closure = PrintSink::with_format(|record: &String, line| {
        line.push_str(&record.repeat(3));
        Ok(())
    });
    writer(&closure, &env, 0, 1).write(batch()).expect("written");
    assert_eq!(simulation.printed(), "a\n\"a\"\naaa\n");
}

#[test]
fn collected_records_and_timestamps_are_seen_live() {
    let env = Simulation::new(1).env();
    let (sink, handle) = collect_sink();
    let (mut one, mut two) = (writer(&sink, &env, 0, 2), writer(&sink, &env, 1, 2));
    assert!(handle.is_empty());
    one.write(batch([1, 2])).expect("written");
    assert_eq!(handle.records(), [1, 2]);
    two.write(RecordBatch::from_columns(vec![3], vec![30])).expect("written");
    assert_eq!(handle.take_with_timestamps(), [(1, i64::MIN), (2, i64::MIN), (3, 30)]);
    one.write(batch([4])).expect("written");
    assert_eq!(handle.take(), [4]);
}

#[test]
fn a_black_hole_counts_over_all_subtasks() {
    let env = Simulation::new(1).env();
    let sink = BlackholeSink::new();
    let counter = sink.counter();
    for subtask in 0..3 {
        let mut writer = writer::<u64, _>(&sink, &env, subtask, 3);
        writer.write(batch(0..10)).expect("written");
    }
    assert_eq!(counter.get(), 30);
}

#[test]
fn a_closure_sees_records_timestamps_or_batches_and_may_fail() {
    let env = Simulation::new(1).env();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (a, b, c) = (seen.clone(), seen.clone(), seen.clone());
    let push = |seen: &Mutex<Vec<String>>, text: String| seen.lock().expect("not poisoned").push(text);
    let per_record = FnSink::new(move |record: u64| push(&a, format!("{record}")));
    let timed = FnSink::for_timestamped(move |record: u64, at| push(&b, format!("{record}@{at}")));
    let per_batch =
        FnSink::for_batches(move |batch: RecordBatch<u64>| push(&c, format!("{:?}", batch.records())));
    for sink in [per_record, timed, per_batch] {
        let input = RecordBatch::from_columns(vec![1, 2], vec![10, 20]);
        writer(&sink, &env, 0, 1).write(input).expect("written");
    }
    assert_eq!(*seen.lock().expect("not poisoned"), ["1", "2", "1@10", "2@20", "[1, 2]"]);

    let mut n_before = 0;
    let failing = FnSink::new(move |record: u64| {
        n_before += 1;
        if n_before < 3 { Ok(()) } else { Err(BoxError::from(format!("no room for {record}"))) }
    });
    // Each subtask has a closure, and so a count, of its own.
    let (mut one, mut two) = (writer(&failing, &env, 0, 2), writer(&failing, &env, 1, 2));
    one.write(batch([1, 2])).expect("written");
    two.write(batch([3, 4])).expect("written");
    assert_eq!(one.write(batch([5])).expect_err("the closure failed").to_string(), "no room for 5");
}

/// Runs `host` while two real threads write `n` records each; they may block.
fn with_real_writers<R: Send + 'static>(
    capacity: usize,
    n: u64,
    host: impl FnOnce(ChannelReceiver<u64>) -> R,
) -> (R, Vec<Result<(), String>>) {
    let env = Env::real().expect("an environment");
    let (sink, receiver) = channel_sink(capacity);
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let mut handles = Vec::new();
    for subtask in 0..2 {
        let (mut writer, outcomes) = (writer(&sink, &env, subtask, 2), outcomes.clone());
        handles.push(env.spawn_subtask("writer", async move {
            let records: Vec<u64> = (0..n).map(|idx| idx * 2 + u64::from(subtask)).collect();
            let written = records.chunks(10).try_for_each(|chunk| writer.write(batch(chunk.to_vec())));
            let ended = written.and_then(|()| writer.finish()).map_err(|error| error.to_string());
            outcomes.lock().expect("not poisoned").push(ended);
        }));
    }
    let result = host(receiver);
    env.block_on(async move {
        for handle in handles {
            handle.await.expect("no panic");
        }
    });
    drop(sink);
    let outcomes = outcomes.lock().expect("not poisoned").clone();
    (result, outcomes)
}

#[test]
fn a_full_channel_holds_writers_back_and_loses_nothing() {
    for capacity in [1, 2, 3, 64, 100_000] {
        let ((mut records, waiting_max), outcomes) = with_real_writers(capacity, 1_000, |mut receiver| {
            let (mut records, mut waiting_max) = (Vec::new(), 0);
            while let Some(record) = receiver.blocking_recv() {
                waiting_max = waiting_max.max(receiver.n_waiting());
                records.push(record);
            }
            (records, waiting_max)
        });
        assert!(waiting_max <= capacity, "{waiting_max} records waited in a channel for {capacity}");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        records.sort_unstable();
        assert_eq!(records, (0..2_000).collect::<Vec<_>>(), "capacity {capacity}");
    }
}

#[test]
fn the_channel_ends_when_all_subtasks_finished_though_the_sink_lives() {
    let (records, _) = with_real_writers(16, 100, |receiver| receiver.collect::<Vec<_>>());
    assert_eq!(records.len(), 200);
}

#[test]
fn writers_whose_receiver_is_dropped_fail_also_while_they_wait() {
    let (_, outcomes) = with_real_writers(5, 1_000, |mut receiver| {
        receiver.blocking_recv();
        drop(receiver);
    });
    let gone = Err("the receiver of the channel sink is gone".to_owned());
    assert_eq!(outcomes, [gone.clone(), gone]);
}

#[test]
fn the_channel_of_a_failed_job_ends_when_its_sink_is_dropped() {
    let env = Simulation::new(1).env();
    let (sink, mut receiver) = channel_sink(4);
    let mut failed = writer(&sink, &env, 0, 1);
    failed.write(batch([1])).expect("written");
    drop(failed);
    assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Err(TryRecvError::Empty)));
    let restarted = writer(&sink, &env, 0, 1);
    drop(sink);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    drop(restarted);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Ended));
}

#[test]
fn a_simulated_job_does_not_block_on_its_receiver() {
    let simulation = Simulation::new(5);
    let env = simulation.env();
    let received = simulation.run(async move {
        let (sink, mut receiver) = channel_sink(1);
        let mut writer = writer(&sink, &env, 0, 1);
        let env2 = env.clone();
        env.spawn("job", async move {
            env2.sleep(Duration::from_secs(1)).await;
            writer.write(RecordBatch::from_columns(vec![1, 2, 3], vec![10, 20, 30])).expect("written");
            writer.finish().expect("finished");
        });
        let mut received = Vec::new();
        while let Some(record) = receiver.recv_with_timestamp().await {
            received.push(record);
        }
        received
    });
    assert_eq!(received, Ok(vec![(1, 10), (2, 20), (3, 30)]));
}
