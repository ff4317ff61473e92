//! The contracts of sinks and sources, by the kit for connectors, with the real server.

use flott::UserResult;
use flott::env::Env;
use flott_connector_postgres::{PostgresCdcSource, PostgresSink, PostgresSource, PostgresValue};
use flott_services::Postgres as Server;
use flott_testkit::contract::{
    Budget, RecordId, SinkContract, SinkFault, SinkPromise, SinkSubject, SourceContract, SourceSubject,
};
use flott_types::{CheckpointId, RowChange};
use serde::{Deserialize, Serialize};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS results(source bigint, n bigint CHECK(n >= 0))";

struct Sink<'a> {
    server: &'a Server,
    database: String,
    view: &'static str,
    promise: SinkPromise,
    env: Env,
}

impl SinkSubject for Sink<'_> {
    type Record = (i64, i64);
    type Sink = PostgresSink<(i64, i64)>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn sink(&mut self) -> UserResult<Self::Sink> {
        let row = |(source, n): &(i64, i64)| vec![PostgresValue::from(*source), PostgresValue::from(*n)];
        let sink = PostgresSink::with_row(self.server.url(&self.database), "results", ["source", "n"], row);
        Ok(match self.promise {
            SinkPromise::Transactional => {
                sink.create_table(CREATE)
            }
            SinkPromise::Eager => {
                sink.create_table(CREATE).eager()
            }
            _ => sink
                .create_table(
                    "CREATE TABLE IF NOT EXISTS results(source bigint, n bigint CHECK(n >= 0), PRIMARY KEY(source, n))",
                )
                .upsert_by(["source", "n"]),
        })
    }
    fn promise(&self) -> SinkPromise {
        self.promise
    }
    fn record(&self, id: RecordId) -> (i64, i64) {
        (i64::from(id.partition), id.number as i64)
    }
    fn bad_record(&self) -> Option<(i64, i64)> {
        Some((0, -1))
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let rows = self.server.try_sql(&self.database, &format!("SELECT source, n FROM {}", self.view));
        // Before the first attempt there is no table.
        Ok(rows.unwrap_or_default().lines().map(id).collect())
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        let sql = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
        Ok(self.server.sql(&self.database, sql).lines().map(str::to_owned).collect())
    }
    fn faults(&self) -> Vec<SinkFault> {
        vec![SinkFault::Disconnect]
    }
    fn inject(&mut self, _: SinkFault, _: u64) -> UserResult {
        let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.server.sql(&self.database, sql);
        Ok(())
    }
}

fn id(line: &str) -> RecordId {
    let (partition, number) = line.split_once('|').unwrap();
    RecordId { partition: partition.parse().unwrap(), number: number.parse().unwrap() }
}

pub(crate) fn sinks_keep_their_contract(server: &Server) {
    for (promise, view) in [
        (SinkPromise::Transactional, "results"),
        (SinkPromise::Eager, "results_committed"),
        (SinkPromise::InTheEnd, "results"),
    ] {
        let subject =
            || Ok(Sink { server, database: server.database(), view, promise, env: Env::real().unwrap() });
        let report = SinkContract::new().budget(Budget::Sample { cases: 5, seed: 3 }).run(subject);
        report.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    id: i64,
}

struct Scan<'a> {
    server: &'a Server,
    database: String,
    env: Env,
}

impl SourceSubject for Scan<'_> {
    type Source = PostgresSource<Item>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn source(&mut self) -> UserResult<Self::Source> {
        Ok(PostgresSource::new(self.server.url(&self.database), "items")
            .scan_partition_num(3)
            .scan_fetch_size(4))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let sql = format!(
            "CREATE TABLE items(id bigint PRIMARY KEY); INSERT INTO items SELECT i FROM generate_series(0, {n} - 1) AS i"
        );
        self.server.sql(&self.database, &sql);
        Ok((0..n).map(|number| RecordId { partition: 0, number }).collect())
    }
    fn identify(&self, record: &Item) -> RecordId {
        RecordId { partition: 0, number: record.id as u64 }
    }
    fn is_ordered(&self) -> bool {
        // Within a part of the table, but the kit does not know of those.
        false
    }
}

struct Capture<'a> {
    server: &'a Server,
    database: String,
    n: u64,
    env: Env,
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        // Whoever reads it ends with the kit's last attempt.
        let sql = "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = current_database() AND active";
        drop(self.server.try_sql(&self.database, sql));
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
        drop(self.server.try_sql(&self.database, sql));
    }
}

impl SourceSubject for Capture<'_> {
    type Source = PostgresCdcSource<Item>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn source(&mut self) -> UserResult<Self::Source> {
        let slot = format!("slot_{}", self.database);
        Ok(PostgresCdcSource::new(self.server.url(&self.database), "items", slot).chunk_size(5))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let (from, upto) = (self.n, self.n + n);
        self.n = upto;
        let sql = "CREATE TABLE IF NOT EXISTS items(id bigint PRIMARY KEY); ALTER TABLE items REPLICA IDENTITY FULL; SET client_min_messages = error";
        self.server.sql(&self.database, sql);
        self.server.sql(
            &self.database,
            &format!("INSERT INTO items SELECT i FROM generate_series({from}, {upto} - 1) AS i"),
        );
        Ok((from..upto).map(|number| RecordId { partition: 0, number }).collect())
    }
    fn identify(&self, record: &RowChange<Item>) -> RecordId {
        RecordId { partition: 0, number: record.row.id as u64 }
    }
}

pub(crate) fn sources_keep_their_contract(server: &Server) {
    let scan = || Ok(Scan { server, database: server.database(), env: Env::real().unwrap() });
    let report = SourceContract::new().budget(Budget::Sample { cases: 12, seed: 5 }).run(scan);
    report.unwrap_or_else(|failure| panic!("{failure}"));
    let capture = || Ok(Capture { server, database: server.database(), n: 0, env: Env::real().unwrap() });
    let report = SourceContract::new().budget(Budget::Sample { cases: 12, seed: 5 }).run(capture);
    report.unwrap_or_else(|failure| panic!("{failure}"));
}
