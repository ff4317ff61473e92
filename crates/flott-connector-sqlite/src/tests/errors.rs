//! Errors name table, statement and remedy.

use super::{Attempt, CREATE, Row, context, database, sink};
use crate::database::Database;
use crate::{SqliteSink, SqliteValue};
use flott_api::{Sink, SinkWriter};
use flott_env::sim::Simulation;
use flott_types::{ErrorKind, RecordBatch};
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
    let mut attempt = Attempt::start(&sink, 1, 1, None).expect("starts");
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
    let mut attempt = Attempt::start(&sink, 1, 1, None).expect("starts");
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
    let mut attempt = Attempt::start(&sink, 1, 2, None).expect("starts");
    attempt.write().expect("written");
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
    assert!(error.contains("no row for table 'results'") && error.contains("with_row"), "{error}");
    let error = write(&SqliteSink::with_row(&path, "results", ["source"], |_| Vec::new()));
    assert!(error.contains("the row has 0 values for 1 columns"), "{error}");
}
