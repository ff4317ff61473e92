//! Errors name table, statement and remedy.

use super::{CREATE, Row, database, sink, start};
use crate::database::Database;
use crate::{SqliteSink, SqliteValue};
use flott_api::{Committable, CommittableId, OnError, Sink, SinkWriter};
use flott_env::sim::Simulation;
use flott_testkit::sink_steps::context;
use flott_types::{CheckpointId, ErrorKind, RecordBatch};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

fn refused(sink: &SqliteSink<Row>) -> String {
    let ctx = context(&Simulation::new(1).env(), 0, 1, 1, None);
    sink.create_writer(ctx).expect_err("it is refused").report()
}

fn plain(path: &Path, table: &str, columns: &[&str]) -> SqliteSink<Row> {
    let n = columns.len();
    SqliteSink::with_row(path, table, columns.iter().copied(), move |_: &Row| vec![SqliteValue::Null; n])
}

#[test]
#[expect(clippy::disallowed_methods, reason = "SQLite's locks are those of real threads")]
fn many_that_open_a_new_database_at_once_all_get_it() {
    for _ in 0..30 {
        let (_directory, path) = database();
        let open = || Database::open(&path, "results", Duration::from_secs(60)).map(drop);
        std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(open));
            for opened in threads.map(|thread| thread.join().expect("it does not panic")) {
                opened.expect("it waits for the others");
            }
        });
    }
}

#[test]
fn what_cannot_work_is_refused_before_the_first_record() {
    let (directory, path) = database();
    for mode in 0..3 {
        let sink = match mode {
            0 => plain(&path, "nowhere", &["a"]),
            1 => plain(&path, "nowhere", &["a"]).eager(),
            _ => plain(&path, "nowhere", &["a"]).upsert_by(["a"]),
        };
        let error = refused(&sink);
        assert!(
            error.contains("for table 'nowhere'") && error.contains("SqliteSink::create_table"),
            "{error}"
        );
    }
    for mode in 0..3 {
        let sink = plain(&path, "results", &["source", "missing"]).create_table(CREATE);
        let sink = match mode {
            0 => sink,
            1 => sink.eager(),
            _ => sink.upsert_by(["source"]),
        };
        let error = refused(&sink);
        assert!(error.contains("missing") && error.contains("name columns that the table has"), "{error}");
    }
    let error = refused(&sink(&path).upsert_by(["text"]));
    assert!(
        error.contains("ON CONFLICT") && error.contains("declare the key as PRIMARY KEY or UNIQUE"),
        "{error}"
    );
    let error = refused(&sink(&path).upsert_by(["other"]));
    assert!(error.contains("column 'other' of the key of table 'results' is not written"), "{error}");
    assert!(refused(&plain(&path, "results", &[])).contains("no columns"));
    let error = refused(&sink(&directory.path().join("no/such/results.db")));
    assert!(error.contains("create the directory"), "{error}");
    let error = refused(&sink(&path).create_table("CREATE TABEL results(a)"));
    assert!(error.contains("[CREATE TABEL results(a)]"), "{error}");
    let text = directory.path().join("text");
    Connection::open(&text).and_then(|it| it.execute_batch("CREATE TABLE a(b)")).expect("a database");
    let mut bytes = std::io::Cursor::new(vec![b'x'; 4096]);
    let mut file = flott_env::Env::real().expect("an environment").fs().create(&text).expect("a file");
    std::io::copy(&mut bytes, &mut file).expect("written");
    file.sync().expect("written");
    assert!(refused(&sink(&text)).contains("no SQLite database"));
}

#[test]
fn a_row_that_the_table_does_not_accept_is_an_error_and_nothing_is_written_in_part() {
    let (_directory, path) = database();
    let sink = sink(&path);
    let mut attempt = start(&sink, 1, 1, None).expect("starts");
    attempt.write().expect("written");
    Connection::open(&path)
        .and_then(|it| it.execute_batch("INSERT INTO results VALUES(2, 4, '')"))
        .expect("in the way");
    attempt.barrier(1, false).expect("prepared");
    let error = attempt.commit().expect_err("not accepted").to_string();
    assert!(error.contains("the table does not accept the row"), "{error}");
    assert_eq!(super::count(&path, "results"), 1);
    // With the remedy it goes on.
    Connection::open(&path).and_then(|it| it.execute_batch("DELETE FROM results")).expect("out of the way");
    attempt.commit().expect("committed");
    assert_eq!(super::rows(&path, "results"), super::records(1));
}

#[test]
fn somebody_who_holds_a_lock_for_too_long_is_an_error_to_try_again() {
    let (_directory, path) = database();
    let sink = sink(&path).busy_timeout(Duration::from_millis(50));
    let mut attempt = start(&sink, 1, 1, None).expect("starts");
    let other = Connection::open(&path).expect("a database");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let error =
        attempt.write().expect_err("locked").downcast::<flott_types::Error>().expect("an error of the sink");
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(
        error.to_string().contains("BEGIN IMMEDIATE") && error.to_string().contains("busy_timeout"),
        "{error}"
    );
    other.execute_batch("COMMIT").expect("unlocked");
    let mut attempt = start(&sink, 1, 2, None).expect("starts");
    attempt.write().expect("written");
}

#[test]
fn a_row_that_the_table_does_not_take_is_left_out_and_the_others_are_there() {
    const NUMBERS: &str =
        "CREATE TABLE IF NOT EXISTS numbers(n INTEGER PRIMARY KEY CHECK(n <> 3), name TEXT NOT NULL)";
    type Number = (i64, Option<String>);
    let numbered = |n: i64| (n, Some(n.to_string()));
    let batch =
        || vec![numbered(3), numbered(1), (2, None), numbered(3), numbered(4), numbered(1), numbered(5)];
    for mode in 0..3 {
        let (_directory, path) = database();
        let row = |(n, name): &Number| vec![SqliteValue::from(*n), SqliteValue::from(name.clone())];
        let sink = SqliteSink::with_row(&path, "numbers", ["n", "name"], row).create_table(NUMBERS);
        let (sink, expected_bad) = match mode {
            0 => (sink, vec![3, 2, 3, 1]),
            1 => (sink.eager(), vec![3, 2, 3, 1]),
            _ => (sink.upsert_by(["n"]), vec![3, 2, 3]),
        };
        let ctx =
            context(&Simulation::new(1).env(), 0, 1, 1, None).with_on_error::<Number>(OnError::SideOutput);
        let mut writer = sink.create_writer(ctx.clone()).expect("a writer");
        writer.restore(Vec::new(), None).expect("restored");
        writer.write(RecordBatch::untimed(batch())).expect("written");
        let prepared = writer.prepare_commit(CheckpointId(1), true).expect("prepared");
        let committables = prepared.into_iter().enumerate().map(|(id, payload)| Committable {
            id: CommittableId(id as u128),
            checkpoint_id: CheckpointId(1),
            subtask: ctx.subtask,
            payload,
        });
        if let Some(mut committer) = sink.create_committer(ctx.clone()).expect("a committer") {
            committer.commit(&committables.collect::<Vec<_>>()).expect("committed");
        }
        assert_eq!(super::count(&path, "numbers"), 3, "mode {mode}");
        let rejected = ctx.bad_records.take();
        let bad: Vec<Number> =
            rejected.dead_letters.iter().map(|it| serde_json::from_slice(&it.raw).expect("JSON")).collect();
        assert_eq!(bad.iter().map(|(n, _)| *n).collect::<Vec<_>>(), expected_bad, "mode {mode}");
        let first = &rejected.dead_letters[0];
        assert_eq!(first.split.0, "table 'numbers'");
        assert!(first.message.contains("CHECK constraint failed"), "{}", first.message);
        // Nothing but bad rows.
        writer.write(RecordBatch::untimed(vec![numbered(3)])).expect("written");
        writer.prepare_commit(CheckpointId(2), true).expect("prepared");
        assert_eq!(ctx.bad_records.take().n_records, 1);
        // If nobody has said that bad rows may be left out, they fail the job.
        let mut writer =
            sink.create_writer(context(&Simulation::new(1).env(), 0, 1, 1, None)).expect("a writer");
        let written = writer.write(RecordBatch::untimed(batch())).and_then(|()| writer.finish());
        assert!(mode == 0 || written.expect_err("it fails").to_string().contains("on_error of the sink"));
    }
}

#[test]
fn a_table_whose_conflicts_roll_back_the_transaction_fails_the_job() {
    let (_directory, path) = database();
    let sink = plain(&path, "numbers", &["n"])
        .create_table("CREATE TABLE IF NOT EXISTS numbers(n INTEGER NOT NULL ON CONFLICT ROLLBACK)")
        .eager();
    let ctx = context(&Simulation::new(1).env(), 0, 1, 1, None).with_on_error::<Row>(OnError::Skip);
    let mut writer = sink.create_writer(ctx).expect("a writer");
    writer.restore(Vec::new(), None).expect("restored");
    let written = writer.write(RecordBatch::untimed(vec![(1, 1)])).and_then(|()| writer.finish());
    assert!(written.expect_err("it fails").to_string().contains("the table does not accept the row"));
}

#[test]
fn records_that_make_no_row_are_errors() {
    let (_directory, path) = database();
    let write = |sink: &SqliteSink<u64>| {
        let ctx = context(&Simulation::new(1).env(), 0, 1, 1, None);
        let mut writer = sink.create_writer(ctx).expect("a writer");
        writer.write(RecordBatch::untimed(vec![1])).expect_err("no row").to_string()
    };
    let error = write(&SqliteSink::new(&path, "results", ["source"]).create_table(CREATE));
    assert!(error.contains("bad record for table 'results'") && error.contains("with_row"), "{error}");
    let error = write(&SqliteSink::with_row(&path, "results", ["source"], |_| Vec::new()));
    assert!(error.contains("the row has 0 values for 1 columns"), "{error}");
}
