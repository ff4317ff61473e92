//! An engine in small that dies between any two steps, on a real database each; then what the modes promise one by one.

mod contract;
mod crashes;
mod errors;
mod modes;

use crate::{SqliteSink, SqliteValue, SqliteWriter};
use flott_api::UserResult;
use flott_env::sim::Simulation;
use flott_testkit::sink_steps::{SinkAttempt, SinkCheckpoint, numbers};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// `(partition of the input, number)`
type Row = (i64, i64);

const CREATE: &str = "CREATE TABLE IF NOT EXISTS results(source INTEGER, n INTEGER CHECK(n >= 0), text TEXT, PRIMARY KEY(source, n))";

fn sink(path: &Path) -> SqliteSink<Row> {
    let row = |(source, n): &Row| {
        vec![SqliteValue::from(*source), SqliteValue::from(*n), SqliteValue::from(format!("{source}/{n}"))]
    };
    SqliteSink::with_row(path, "results", ["source", "n", "text"], row)
        .create_table(CREATE)
        .buffer_flush_max_rows(3)
}

fn record(partition: u64, number: u64) -> Row {
    (partition as i64, number as i64)
}

fn records(chunks: u64) -> Vec<Row> {
    numbers(chunks).map(|(partition, number)| record(partition, number)).collect()
}

fn start(
    sink: &SqliteSink<Row>,
    parallelism: u32,
    run: u64,
    from: Option<&SinkCheckpoint>,
) -> UserResult<SinkAttempt<Row, SqliteWriter<Row>>> {
    SinkAttempt::start(sink, &Simulation::new(run).env(), (parallelism, run), from, record)
}

fn rows(path: &Path, table: &str) -> Vec<Row> {
    let connection = Connection::open(path).expect("a database");
    let sql = format!("SELECT source, n FROM {table} ORDER BY source, n");
    let mut statement = connection.prepare(&sql).expect("a table");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

fn count(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).expect("a database");
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a number")
}

/// A directory, and a database in it.
fn database() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    (directory, path)
}
