//! The contracts of sinks and sources, by the kit for connectors, with the real server.

use flott::UserResult;
use flott::env::Env;
use flott_connector_postgres::{PostgresCdcSource, PostgresSink, PostgresSource, PostgresValue, StartupMode};
use flott_services::Postgres as Server;
use flott_testkit::contract::{
    Budget, RecordId, SinkContract, SinkFault, SinkPromise, SinkSubject, SourceContract, SourceEvent,
    SourceSubject,
};
use flott_types::{CheckpointId, RowChange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
        disconnect(self.server, &self.database);
        Ok(())
    }
}

/// Breaks all connections, those of replication too.
fn disconnect(server: &Server, database: &str) {
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    server.sql(database, sql);
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
    fn events(&self) -> Vec<SourceEvent> {
        vec![SourceEvent::Disconnect]
    }
    fn happen(&mut self, _: SourceEvent) -> UserResult {
        disconnect(self.server, &self.database);
        Ok(())
    }
}

/// Rows of a transaction.
const TRANSACTION_ROWS: u64 = 3;

struct Capture<'a> {
    server: &'a Server,
    database: String,
    /// With it the table is read first, and then the log. Without it all rows are in the log, and the slot says which are not needed any more.
    has_snapshot: bool,
    n: u64,
    /// Of each transaction, how many rows there are with it, and a place in the log behind it.
    transactions: Vec<(u64, u64)>,
    env: Env,
}

impl<'a> Capture<'a> {
    fn new(server: &'a Server, has_snapshot: bool) -> UserResult<Self> {
        let env = Env::real()?;
        let new =
            Self { server, database: server.database(), has_snapshot, n: 0, transactions: Vec::new(), env };
        let sql = "CREATE TABLE items(id bigint PRIMARY KEY); ALTER TABLE items REPLICA IDENTITY FULL";
        server.sql(&new.database, sql);
        if !has_snapshot {
            let slot = new.slot();
            server.sql(&new.database, &format!("CREATE PUBLICATION {slot} FOR TABLE items"));
            let sql = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
            server.sql(&new.database, &sql);
        }
        Ok(new)
    }

    fn slot(&self) -> String {
        format!("slot_{}", self.database)
    }
}

/// A place in the log, as PostgreSQL writes it.
fn lsn(text: &str) -> UserResult<u64> {
    let (high, low) = text.split_once('/').ok_or_else(|| format!("no place in the log: '{text}'"))?;
    Ok(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?)
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
        let startup = if self.has_snapshot { StartupMode::Initial } else { StartupMode::LatestOffset };
        let url = self.server.url(&self.database);
        Ok(PostgresCdcSource::new(url, "items", self.slot()).startup_mode(startup).chunk_size(5))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let first = self.n;
        while self.n < first + n {
            let (from, upto) = (self.n, first + n.min(self.n - first + TRANSACTION_ROWS));
            let sql = format!("INSERT INTO items SELECT i FROM generate_series({from}, {upto} - 1) AS i");
            self.server.sql(&self.database, &sql);
            let behind = lsn(&self.server.sql(&self.database, "SELECT pg_current_wal_insert_lsn()"))?;
            self.transactions.push((upto, behind));
            self.n = upto;
        }
        Ok((first..self.n).map(|number| RecordId { partition: 0, number }).collect())
    }
    fn acknowledged(&mut self) -> UserResult<Option<BTreeMap<u32, u64>>> {
        // What is in the table stays there, whatever the slot says.
        if self.has_snapshot {
            return Ok(None);
        }
        let sql = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()";
        let confirmed = lsn(&self.server.sql(&self.database, sql))?;
        let forgotten = self.transactions.iter().take_while(|(_, behind)| *behind <= confirmed);
        Ok(Some(BTreeMap::from([(0, forgotten.last().map_or(0, |(n_rows, _)| *n_rows))])))
    }
    /// The log goes on behind the last row, and only a later checkpoint is past that.
    fn acknowledges_late(&self) -> bool {
        true
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![SourceEvent::Disconnect]
    }
    fn happen(&mut self, _: SourceEvent) -> UserResult {
        disconnect(self.server, &self.database);
        Ok(())
    }
    fn identify(&self, record: &RowChange<Item>) -> RecordId {
        RecordId { partition: 0, number: record.row.id as u64 }
    }
}

/// Some of all cases, and some of those in which connections break.
fn check_source<S: SourceSubject>(n_cases: usize, mut subject: impl FnMut() -> UserResult<S>) {
    for (of, cases) in [("", n_cases), ("disconnect", 4)] {
        let contract = SourceContract::new().budget(Budget::Sample { cases, seed: 5 }).of(of);
        let report = contract.run(&mut subject).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(report.cases.len(), cases + 1, "{report:?}");
    }
}

pub(crate) fn sources_keep_their_contract(server: &Server) {
    check_source(12, || Ok(Scan { server, database: server.database(), env: Env::real().unwrap() }));
    check_source(12, || Capture::new(server, true));
    check_source(8, || Capture::new(server, false));
}
