//! The contract of sinks, by the kit for connectors.

use super::{Row, database, sink};
use crate::SqliteSink;
use flott_api::UserResult;
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{Budget, RecordId, SinkContract, SinkPromise, SinkSubject};
use flott_types::CheckpointId;
use rusqlite::Connection;

struct SqliteSinkSubject {
    world: Simulation,
    _directory: tempfile::TempDir,
    sink: SqliteSink<Row>,
    reader: Connection,
    view: &'static str,
    promise: SinkPromise,
}

impl SinkSubject for SqliteSinkSubject {
    type Record = Row;
    type Sink = SqliteSink<Row>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn sink(&mut self) -> UserResult<SqliteSink<Row>> {
        Ok(self.sink.clone())
    }
    fn promise(&self) -> SinkPromise {
        self.promise
    }
    fn record(&self, id: RecordId) -> Row {
        (i64::from(id.partition), id.number as i64)
    }
    fn bad_record(&self) -> Option<Row> {
        Some((0, -1))
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let has_view = "SELECT count(*) FROM sqlite_master WHERE name = ?";
        if self.reader.query_row(has_view, [self.view], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(Vec::new());
        }
        let mut statement = self.reader.prepare_cached(&format!("SELECT source, n FROM {}", self.view))?;
        let id = |row: &rusqlite::Row<'_>| {
            Ok(RecordId { partition: row.get(0)?, number: row.get::<_, i64>(1)? as u64 })
        };
        Ok(statement.query_map([], id)?.collect::<Result<_, _>>()?)
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        let mut statement = self.reader.prepare("SELECT id FROM flott_batches")?;
        let batches = statement.query_map([], |row| row.get::<_, i64>(0))?;
        Ok(batches.map(|batch| batch.map(|batch| format!("batch {batch}"))).collect::<Result<_, _>>()?)
    }
}

fn check(promise: SinkPromise, view: &'static str, configure: fn(SqliteSink<Row>) -> SqliteSink<Row>) {
    let subject = || {
        let (directory, path) = database();
        let (sink, reader) = (configure(sink(&path)), Connection::open(&path)?);
        Ok(SqliteSinkSubject {
            world: Simulation::new(1),
            _directory: directory,
            sink,
            reader,
            view,
            promise,
        })
    };
    let budget = Budget::Sample { cases: 120, seed: 7 };
    let report = SinkContract::new().budget(budget).run(subject);
    assert_eq!(report.unwrap_or_else(|failure| panic!("{failure}")).cases.len(), 121);
}

#[test]
fn transactional_it_keeps_the_contract_of_sinks() {
    // Rows have no key: a job that goes back writes them again.
    check(SinkPromise::Transactional, "results", |sink| {
        sink.create_table(
            "CREATE TABLE IF NOT EXISTS results(source INTEGER, n INTEGER CHECK(n >= 0), text TEXT)",
        )
    });
}

#[test]
fn eager_it_keeps_the_contract_of_sinks() {
    check(SinkPromise::Eager, "results_committed", SqliteSink::eager);
}

#[test]
fn with_keys_it_keeps_the_contract_of_sinks() {
    check(SinkPromise::InTheEnd, "results", |sink| sink.upsert_by(["source", "n"]));
}
