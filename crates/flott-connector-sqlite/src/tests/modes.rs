use super::{count, database, records, rows, sink, start};
use crate::{SqliteSink, SqliteValue};
use flott_api::{Sink, SinkContext, SinkGeneration, SinkWriter};
use flott_env::sim::Simulation;
use flott_testkit::sink_steps::{CHUNK, PARTITIONS, context};
use flott_types::{ErrorKind, RecordBatch, SubtaskIndex};
use rusqlite::Connection;
use serde::Serialize;
use std::time::Duration;

#[test]
fn transactional_rows_are_seen_when_they_are_committed_and_committing_twice_is_once() {
    let (_directory, path) = database();
    let sink = sink(&path);
    let mut attempt = start(&sink, 2, 1, None).expect("starts");
    attempt.write().expect("written");
    let checkpoint = attempt.barrier(1, false).expect("prepared");
    assert_eq!(
        (count(&path, "results"), count(&path, "flott_staged_results")),
        (0, (PARTITIONS * CHUNK) as i64)
    );
    attempt.commit().expect("committed");
    assert_eq!((rows(&path, "results"), count(&path, "flott_staged_results")), (records(1), 0));
    let committer = attempt.subtasks[1].committer.as_mut().expect("it has one");
    committer.commit(&checkpoint.committables).expect("committed again");
    start(&sink, 3, 2, Some(&checkpoint)).expect("committed again");
    assert_eq!((rows(&path, "results"), count(&path, "flott_commits")), (records(1), 2));
}

#[test]
fn what_is_neither_committed_nor_waiting_is_an_error() {
    for sql in ["DELETE FROM flott_batches", "DELETE FROM flott_staged_results WHERE n = 3"] {
        let (_directory, path) = database();
        let sink = sink(&path);
        let mut attempt = start(&sink, 1, 1, None).expect("starts");
        attempt.write().expect("written");
        let checkpoint = attempt.barrier(1, false).expect("prepared");
        Connection::open(&path).expect("a database").execute_batch(sql).expect("lost");
        let error = attempt.commit().expect_err("rows are lost").to_string();
        assert!(error.contains("rows of checkpoint 1 for table 'results' are lost"), "{error}");
        let error = start(&sink, 1, 2, Some(&checkpoint)).expect_err("they are still lost").to_string();
        assert!(error.contains("are lost"), "{error}");
        assert_eq!(count(&path, "results"), 0, "nothing in part");
    }
}

#[test]
fn a_writer_whose_subtask_is_taken_over_writes_nothing_any_more() {
    for mode in 0..3 {
        let (_directory, path) = database();
        let sink = match mode {
            0 => sink(&path).transactional(),
            1 => sink(&path).eager(),
            _ => sink(&path).upsert_by(["source", "n"]),
        };
        let mut zombie = start(&sink, 2, 1, None).expect("starts");
        zombie.write().expect("written");
        let checkpoint = zombie.barrier(1, false).expect("prepared");
        let mut successor = start(&sink, 3, 2, Some(&checkpoint)).expect("starts");
        zombie.commit().expect("what is committed may be committed again");
        let error = zombie.write().expect_err("it is fenced");
        let error = error.downcast::<flott_types::Error>().expect("an error of the sink");
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        successor.write().expect("written");
        successor.barrier(2, true).expect("prepared");
        successor.commit().expect("committed");
        assert_eq!(rows(&path, "results"), records(2));
    }
}

#[test]
fn an_attempt_that_wakes_up_after_its_successor_began_takes_nothing_over() {
    let generation = |job, subtask| SinkGeneration { history: 1, job, subtask };
    let start = |sink: &SqliteSink<super::Row>, of: SinkGeneration, subtask, parallelism| {
        let env = Simulation::new(of.subtask).env();
        let mut ctx = context(&env, subtask, parallelism, of.subtask + 10 * of.job, None);
        ctx.generation = Some(of);
        sink.create_writer(ctx).expect("a writer")
    };
    // Before, and at another parallelism, where subtasks stand for others; and only a region of the same job was started again.
    for (old, new) in [
        ((generation(1, 1), 1, 2), (generation(2, 2), 1, 2)),
        ((generation(1, 1), 1, 2), (generation(2, 2), 0, 1)),
        ((generation(1, 1), 0, 1), (generation(2, 2), 2, 3)),
        ((generation(1, 1), 1, 2), (generation(1, 2), 1, 2)),
    ] {
        let (_directory, path) = database();
        let sink = sink(&path).eager();
        // It stops between two steps of its start.
        let mut zombie = start(&sink, old.0, old.1, old.2);
        let mut successor = start(&sink, new.0, new.1, new.2);
        successor.restore(Vec::new(), None).expect("taken over");
        successor.write(RecordBatch::untimed(vec![(1, 1)])).expect("written");
        successor.finish().expect("written");
        let error = zombie.restore(Vec::new(), None).expect_err("it is too late");
        let error = error.downcast::<flott_types::Error>().expect("an error of the sink");
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        assert_eq!(rows(&path, "results"), [(1, 1)], "nothing is taken back");
        successor.write(RecordBatch::untimed(vec![(1, 2)])).expect("it is not fenced either");
        successor.finish().expect("written");
        assert_eq!(count(&path, "results"), 2);
    }
    // Its neighbour's region was started again before the first of this one came here.
    let (_directory, path) = database();
    let sink = sink(&path).eager();
    let mut slow = start(&sink, generation(1, 1), 1, 2);
    start(&sink, generation(1, 2), 0, 2).restore(Vec::new(), None).expect("taken over");
    slow.restore(Vec::new(), None).expect("it is the newest of its subtask");
    // Somebody has deleted the checkpoints: numbers start again.
    let anew = SinkGeneration { history: 2, job: 1, subtask: 1 };
    start(&sink, anew, 0, 1).restore(Vec::new(), None).expect("another history");
}

#[test]
fn going_back_to_an_older_checkpoint_takes_eager_rows_back_also_committed_ones() {
    let (_directory, path) = database();
    let sink = sink(&path).eager();
    let mut attempt = start(&sink, 2, 1, None).expect("starts");
    attempt.write().expect("written");
    let older = attempt.barrier(1, false).expect("prepared");
    attempt.commit().expect("committed");
    for id in 2..5 {
        attempt.write().expect("written");
        attempt.barrier(id, false).expect("prepared");
        attempt.commit().expect("committed");
    }
    assert_eq!(rows(&path, "results_committed"), records(4));
    let mut attempt = start(&sink, 3, 2, Some(&older)).expect("starts");
    assert_eq!(rows(&path, "results"), records(1));
    assert_eq!(rows(&path, "results_committed"), records(1));
    // Numbers of checkpoints come again.
    attempt.write().expect("written");
    attempt.finish().expect("finished");
    assert_eq!(
        rows(&path, "results_committed"),
        records(1),
        "not complete yet, though a checkpoint 2 was once"
    );
    attempt.barrier(2, false).expect("prepared");
    attempt.commit().expect("committed");
    assert_eq!(rows(&path, "results_committed"), records(2));
    start(&sink, 1, 3, None).expect("starts from nothing");
    assert_eq!(count(&path, "results"), 0);
}

#[test]
fn going_back_to_an_older_checkpoint_drops_rows_that_wait_and_that_is_said_on_the_way_back() {
    let (_directory, path) = database();
    let sink = sink(&path);
    let mut attempt = start(&sink, 2, 1, None).expect("starts");
    attempt.write().expect("written");
    let older = attempt.barrier(1, false).expect("prepared");
    attempt.write().expect("written");
    let newer = attempt.barrier(2, false).expect("prepared");
    start(&sink, 1, 2, Some(&older)).expect("starts");
    assert_eq!((rows(&path, "results"), count(&path, "flott_staged_results")), (records(1), 0));
    assert!(start(&sink, 1, 3, Some(&newer)).expect_err("dropped").to_string().contains("are lost"));
}

#[test]
fn rows_of_others_are_never_deleted() {
    let (_directory, path) = database();
    let sink = sink(&path).eager();
    let mut attempt = start(&sink, 1, 1, None).expect("starts");
    attempt.write().expect("written");
    attempt.finish().expect("finished");
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch("INSERT INTO results(source, n) VALUES(9, 9)").expect("written");
    connection
        .execute_batch(
            "INSERT INTO results SELECT 8, n, text, flott_job, 'other', 0, 0 FROM results WHERE source = 0",
        )
        .expect("written");
    start(&sink, 1, 2, None).expect("starts");
    assert_eq!(count(&path, "results"), 1 + CHUNK as i64);
    assert_eq!(rows(&path, "results_committed"), [(9, 9)], "what was there without the sink is seen");
}

#[derive(Serialize)]
struct Wide {
    name: String,
    share: f64,
    count: Option<u32>,
    is_open: bool,
    tags: Vec<&'static str>,
}

#[test]
fn fields_become_columns() {
    let (_directory, path) = database();
    let sink = SqliteSink::new(&path, "wide \"table\"", ["count", "name", "share", "is_open", "tags"])
        .create_table("CREATE TABLE IF NOT EXISTS \"wide \"\"table\"\"\"(name TEXT, share REAL, count INTEGER, is_open, tags)");
    let ctx = SinkContext::new(Simulation::new(1).env(), SubtaskIndex(0), 1, 1);
    let mut writer = sink.create_writer(ctx.clone()).expect("a writer");
    let mut committer = sink.create_committer(ctx).expect("a committer").expect("one");
    SinkWriter::<Wide>::restore(&mut writer, Vec::new(), None).expect("restored");
    let record = |name: &str, share, count| Wide {
        name: name.to_owned(),
        share,
        count,
        is_open: true,
        tags: vec!["a", "b"],
    };
    writer
        .write(RecordBatch::untimed(vec![record("it's", 0.5, Some(3)), record("", f64::NAN, None)]))
        .expect("written");
    SinkWriter::<Wide>::finish(&mut writer).expect("finished");
    let last = flott_types::CheckpointId::END_OF_INPUT;
    let payloads = SinkWriter::<Wide>::prepare_commit(&mut writer, last, true).expect("prepared");
    let committable = |payload| flott_api::Committable {
        id: flott_api::CommittableId(1),
        checkpoint_id: last,
        subtask: SubtaskIndex(0),
        payload,
    };
    committer.commit(&payloads.into_iter().map(committable).collect::<Vec<_>>()).expect("committed");
    let connection = Connection::open(&path).expect("a database");
    let sql = "SELECT quote(name) || quote(share) || quote(count) || quote(is_open) || quote(tags) FROM \"wide \"\"table\"\"\"";
    let mut statement = connection.prepare(sql).expect("a query");
    let read: Vec<String> =
        statement.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("rows");
    assert_eq!(read, ["'it''s'0.531'[\"a\",\"b\"]'", "''NULLNULL1'[\"a\",\"b\"]'"]);
    assert_eq!(SqliteValue::from(Some(1_u8)), SqliteValue::Integer(1));
    assert_eq!(SqliteValue::from(None::<String>), SqliteValue::Null);
}

#[test]
fn rows_that_are_shown_at_once_wait_for_others_as_long_as_was_said() {
    let (_directory, path) = database();
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let interval = Duration::from_millis(500);
    let sink =
        sink(&path).upsert_by(["source", "n"]).buffer_flush_max_rows(100).buffer_flush_interval(interval);
    let mut writer =
        sink.create_writer(SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1)).expect("a writer");
    SinkWriter::<super::Row>::restore(&mut writer, Vec::new(), None).expect("restored");
    writer.write(RecordBatch::untimed(vec![(1, 1)])).expect("written");
    SinkWriter::<super::Row>::flush(&mut writer).expect("flushed");
    assert_eq!(count(&path, "results"), 1, "the first does not wait");
    writer.write(RecordBatch::untimed(vec![(1, 2)])).expect("written");
    SinkWriter::<super::Row>::flush(&mut writer).expect("flushed");
    assert_eq!(count(&path, "results"), 1);
    assert_eq!(SinkWriter::<super::Row>::next_timer(&writer), Some(env.processing_time() + 500));
    let world = env.clone();
    simulation.run(async move { world.sleep(interval).await }).expect("ends");
    SinkWriter::<super::Row>::on_processing_time(&mut writer, env.processing_time()).expect("flushed");
    assert_eq!(count(&path, "results"), 2);
}
