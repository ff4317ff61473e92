//! Change data capture.

use crate::jobs::start;
use crate::program::environment;
use flott::prelude::*;
use flott::{SourceOutput, SourceReaderContext, SplitReader, SplitSource};
use flott_connector_postgres::{
    ChangelogMode, PostgresCdcReader, PostgresCdcSource, PostgresCdcSplit, PostgresSink, PostgresValue,
    StartupMode,
};
use flott_services::{Postgres as Server, wait_for};
use flott_types::{RowChange, RowKind, SplitId, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    id: i64,
    name: String,
    v: i64,
}

type Change = RowChange<Item>;

/// Slots are of the whole server.
fn slot_name() -> String {
    static N: AtomicU64 = AtomicU64::new(0);
    format!("slot_{}", N.fetch_add(1, Ordering::Relaxed))
}

const ITEMS: &str = "CREATE TABLE items(id bigint, name text COLLATE \"C\", v bigint, double bigint GENERATED ALWAYS AS (v * 2) STORED, \
    PRIMARY KEY(name, id)); ALTER TABLE items REPLICA IDENTITY FULL; CREATE SEQUENCE versions; \
    INSERT INTO items(id, name, v) SELECT i, 'name ' || i % 7, nextval('versions') FROM generate_series(0, 1999) AS i";

/// The job to be killed: a row of `changes` for each record.
pub(crate) fn env(url: &str, place: &Path) -> StreamExecutionEnvironment {
    let env = environment(place, 1);
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let source = PostgresCdcSource::<Item>::new(url, "items", format!("slot_{database}")).chunk_size(100);
    let row = |change: &Change| {
        let Item { id, name, v } = &change.row;
        let kind = change.kind.short_string();
        vec![PostgresValue::from(kind), (*id).into(), name.as_str().into(), (*v).into()]
    };
    let sink = PostgresSink::with_row(url, "changes", ["kind", "id", "name", "v"], row).create_table(
        "CREATE TABLE IF NOT EXISTS changes(seq bigserial, kind text, id bigint, name text, v bigint)",
    );
    env.from_source(source, WatermarkStrategy::no_watermarks(), "items")
        .stream()
        .uid("items")
        .sink_to(sink)
        .uid("changes");
    env
}

/// Small transactions of all kinds, one after the other; also such that fail in part.
const WORKLOAD: &str = "DO $$ DECLARE k bigint; BEGIN FOR i IN 1..2500 LOOP
    k := floor(random() * 2000);
    CASE floor(random() * 7)
    WHEN 0 THEN INSERT INTO items(id, name, v) VALUES(k + 2000, 'name ' || k % 9, nextval('versions')) ON CONFLICT DO NOTHING;
    WHEN 1 THEN DELETE FROM items WHERE id = k;
    WHEN 2 THEN UPDATE items SET id = id + 10000, v = nextval('versions') WHERE id = k;
    WHEN 3 THEN UPDATE items SET name = 'moved ' || k % 5, v = nextval('versions') WHERE id = k;
    WHEN 4 THEN UPDATE items SET v = nextval('versions') WHERE id BETWEEN k AND k + 5;
    WHEN 5 THEN BEGIN UPDATE items SET v = nextval('versions') WHERE id = k; UPDATE items SET v = 1 / 0 WHERE id = k;
        EXCEPTION WHEN division_by_zero THEN UPDATE items SET v = nextval('versions') WHERE id = k; END;
    ELSE UPDATE items SET v = nextval('versions') WHERE id = k;
    END CASE;
    COMMIT; PERFORM pg_sleep(0.0005);
    END LOOP; END $$";

/// Plays a changelog: each record has to fit what was before.
fn play(log: &str) -> BTreeMap<(String, String), String> {
    let mut table = BTreeMap::new();
    for (n, line) in log.lines().enumerate() {
        let [kind, id, name, v] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (key, v) = ((name.to_owned(), id.to_owned()), v.to_owned());
        let former = match kind {
            "+I" | "+U" => (table.insert(key, v), None),
            _ => (table.remove(&key), Some(v)),
        };
        let others = || log.lines().filter(|it| it.contains(&format!("|{id}|"))).collect::<Vec<_>>();
        assert_eq!(former.0, former.1, "record {n}: {line} of {:?}", others());
    }
    table
}

fn as_map(rows: &str) -> BTreeMap<(String, String), String> {
    let row = |line: &str| {
        let [name, id, v] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        ((name.to_owned(), id.to_owned()), v.to_owned())
    };
    rows.lines().map(row).collect()
}

const LOG: &str = "SELECT kind, id, name, v FROM changes ORDER BY seq";

pub(crate) fn a_table_that_changes_is_captured_once_wherever_the_job_is_killed(server: &Server) {
    let (database, place) = (server.database(), tempfile::tempdir().unwrap());
    server.sql(&database, ITEMS);
    let url = server.url(&database);
    let count =
        || server.try_sql(&database, "SELECT count(*) FROM changes").map_or(0, |n| n.parse::<u64>().unwrap());
    let kill = |mut child: Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2).map(|_| scope.spawn(|| server.try_sql(&database, WORKLOAD))).collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            let before = count();
            let child = start("cdc", &url, place.path());
            wait_for("more changes", || count() > before || writers.iter().all(|it| it.is_finished()));
            kill(child);
        }
        // Two that meet may lock each other out; what was committed by then counts.
        for writer in writers {
            drop(writer.join().unwrap());
        }
    });
    let child = start("cdc", &url, place.path());
    server.sql(&database, "INSERT INTO items VALUES(-1, 'the end', 0)");
    wait_for("the end", || server.sql(&database, "SELECT count(*) FROM changes WHERE id = -1") == "1");
    kill(child);
    let played = play(&server.sql(&database, LOG));
    assert_eq!(played, as_map(&server.sql(&database, "SELECT name, id, v FROM items")));
    drop_slot(server, &database, &format!("slot_{database}"));
}

pub(crate) fn a_server_that_crashes_loses_no_change_and_doubles_none(_: &Server) {
    let server = Server::start(&[]).unwrap();
    let (database, place) = (server.database(), tempfile::tempdir().unwrap());
    server.sql(&database, ITEMS);
    let mut child = start("cdc", &server.url(&database), place.path());
    let count =
        || server.try_sql(&database, "SELECT count(*) FROM changes").map_or(0, |n| n.parse::<u64>().unwrap());
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let before = count();
            let writer = scope.spawn(|| server.try_sql(&database, WORKLOAD));
            wait_for("more changes", || count() > before);
            server.crash_and_restart().unwrap();
            drop(writer.join().unwrap());
        });
        assert!(child.try_wait().unwrap().is_none(), "the job goes on");
    }
    server.sql(&database, "INSERT INTO items VALUES(-1, 'the end', 0)");
    wait_for("the end", || {
        server.try_sql(&database, "SELECT count(*) FROM changes WHERE id = -1").is_ok_and(|n| n == "1")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let played = play(&server.sql(&database, LOG));
    assert_eq!(played, as_map(&server.sql(&database, "SELECT name, id, v FROM items")));
}

/// The server gives up on a reader that does not answer; one that nobody takes records from answers.
pub(crate) fn a_reader_that_is_held_back_is_not_cut_off(_: &Server) {
    let server = Server::start(&["wal_sender_timeout=3s"]).unwrap();
    server.sql("postgres", "CREATE TABLE items(id bigint PRIMARY KEY, name text, v bigint); ALTER TABLE items REPLICA IDENTITY FULL");
    let source = PostgresCdcSource::<Item>::new(server.url("postgres"), "items", "held_back");
    let mut reading = Reading::open(&source, &source.splits(1).unwrap()[0]);
    reading.drain();
    let walsender = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'held_back'";
    let before = server.sql("postgres", walsender);
    server.sql(
        "postgres",
        "INSERT INTO items SELECT i, repeat('x', 1000), i FROM generate_series(1, 30000) AS i",
    );
    server.sql("postgres", "SELECT pg_sleep(8)");
    reading.until(30_000);
    assert_eq!(server.sql("postgres", walsender), before, "it was not connected again");
}

/// A slot that nobody reads keeps the log of all databases.
fn drop_slot(server: &Server, database: &str, slot: &str) {
    let is_read = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    wait_for("the end of the reader", || server.sql(database, &is_read) == "f");
    server.sql(database, &format!("SELECT pg_drop_replication_slot('{slot}')"));
}

fn context() -> SourceReaderContext {
    SourceReaderContext { env: flott::env::Env::real().unwrap(), subtask: SubtaskIndex(0), parallelism: 1 }
}

struct Reading {
    ctx: SourceReaderContext,
    reader: Option<PostgresCdcReader<Item>>,
    changes: Vec<Change>,
    bad: Vec<String>,
}

impl Reading {
    fn open(source: &PostgresCdcSource<Item>, split: &PostgresCdcSplit) -> Self {
        // As a checkpoint keeps it.
        let split = flott_state::decode("a split", &flott_state::encode("a split", split).unwrap()).unwrap();
        let ctx = context();
        let reader = source.open(split, &ctx).unwrap();
        Self { ctx, reader: Some(reader), changes: Vec::new(), bad: Vec::new() }
    }

    /// Takes one batch, if one comes in a while.
    fn step(&mut self) -> flott::Result<bool> {
        let (mut reader, env) = (self.reader.take().unwrap(), self.ctx.env.clone());
        let (reader, read, output) = self.ctx.env.block_on(async move {
            let mut outputs = SourceOutput::default();
            let mut pause = env.sleep(Duration::from_millis(700));
            let read = poll_fn(|cx| {
                let out = outputs.split(&SplitId("changes".to_owned()));
                match reader.poll_read(cx, 100, out) {
                    Poll::Ready(read) => Poll::Ready(read.map(|_| true)),
                    Poll::Pending => pause.as_mut().poll(cx).map(|()| Ok(false)),
                }
            })
            .await;
            (reader, read, outputs)
        });
        self.reader = Some(reader);
        let mut output = output;
        let out = output.split(&SplitId("changes".to_owned()));
        self.changes.extend(out.batch.records().iter().cloned());
        self.bad.extend(out.bad_records.iter().map(|bad| bad.message.clone()));
        read
    }

    /// Until nothing comes any more.
    fn drain(&mut self) -> &mut Self {
        while self.step().unwrap() {}
        self
    }

    /// Until so many changes have come.
    fn until(&mut self, n: usize) -> &mut Self {
        let mut n_pauses = 0;
        while self.changes.len() + self.bad.len() < n && n_pauses < 30 {
            n_pauses += usize::from(!self.step().unwrap());
        }
        assert_eq!(self.changes.len() + self.bad.len(), n);
        self
    }

    fn split(&self) -> PostgresCdcSplit {
        self.reader.as_ref().unwrap().split()
    }

    fn texts(&self) -> Vec<String> {
        let text =
            |it: &Change| format!("{} {} {} {}", it.kind.short_string(), it.row.id, it.row.name, it.row.v);
        self.changes.iter().map(text).collect()
    }
}

fn confirmed(server: &Server, database: &str, slot: &str) -> String {
    server.sql(
        database,
        &format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'"),
    )
}

pub(crate) fn reading_goes_on_at_every_position_and_the_slot_is_never_ahead(server: &Server) {
    let (database, slot) = (server.database(), slot_name());
    server.sql(&database, "CREATE TABLE items(id bigint PRIMARY KEY, name text, v bigint); ALTER TABLE items REPLICA IDENTITY FULL; \
        INSERT INTO items SELECT i, 'a', i FROM generate_series(1, 25) AS i");
    let source = PostgresCdcSource::<Item>::new(server.url(&database), "items", &slot).chunk_size(10);
    let begin = source.splits(1).unwrap().remove(0);
    let place = confirmed(server, &database, &slot);
    let mut reading = Reading::open(&source, &begin);
    let mut splits = vec![(0, begin.clone())];
    server.sql(&database, "UPDATE items SET v = 100 WHERE id = 3; DELETE FROM items WHERE id = 24; INSERT INTO items VALUES(26, 'b', 26)");
    loop {
        if !reading.step().unwrap() {
            break;
        }
        splits.push((reading.changes.len(), reading.split()));
    }
    server.sql(&database, "UPDATE items SET v = v + 1 WHERE id > 20; DELETE FROM items WHERE id = 1; UPDATE items SET id = 50 WHERE id = 2");
    while reading.step().unwrap() {
        splits.push((reading.changes.len(), reading.split()));
    }
    let all = reading.changes.clone();
    assert!(splits.len() > 6, "{} positions", splits.len());
    assert_eq!(confirmed(server, &database, &slot), place, "no checkpoint was complete");
    drop(reading);
    for (n, split) in &splits[1..] {
        let mut reading = Reading::open(&source, split);
        reading.drain();
        let rest: Vec<Change> = all[*n..].to_vec();
        // Where the rest of the snapshot is read anew, a change that was behind it is part of it now.
        let played = |changes: &[Change]| {
            let lines: Vec<String> = changes
                .iter()
                .map(|it| format!("{}|{}|{}|{}", it.kind.short_string(), it.row.id, it.row.name, it.row.v))
                .collect();
            play(&lines.join("\n"))
        };
        let together: Vec<Change> = all[..*n].iter().chain(&reading.changes).cloned().collect();
        assert_eq!(played(&together), played(&all), "from {split:?}");
        if *n >= 26 {
            assert_eq!(reading.changes, rest, "from {split:?}");
        }
    }
    assert_eq!(confirmed(server, &database, &slot), place, "no checkpoint was complete");
    let (_, last) = splits.last().unwrap();
    let mut reading = Reading::open(&source, last);
    // A checkpoint that is complete while later changes have been read.
    server.sql(&database, "UPDATE items SET v = 0 WHERE id = 50");
    reading.until(2);
    reading.reader.as_mut().unwrap().checkpoint_complete(last).unwrap();
    wait_for("the acknowledgement", || confirmed(server, &database, &slot) != place);
    drop(reading);
    let mut reading = Reading::open(&source, last);
    assert_eq!(reading.until(2).texts(), ["-U 50 a 2", "+U 50 a 0"], "the slot still has what comes behind");
    drop(reading);
    let (_, older) = &splits[1];
    let error = Reading::open(&source, older).step().unwrap_err();
    let text = error.report();
    assert!(text.contains("are lost") && text.contains("a newer checkpoint was complete"), "{text}");
    drop_slot(server, &database, &slot);
}

pub(crate) fn large_transactions_and_large_values_arrive(server: &Server) {
    let (database, slot) = (server.database(), slot_name());
    server.sql(&database, "CREATE TABLE items(id bigint PRIMARY KEY, name text, v bigint); ALTER TABLE items REPLICA IDENTITY FULL; \
        ALTER TABLE items ALTER name SET STORAGE EXTERNAL");
    let source = PostgresCdcSource::<Item>::new(server.url(&database), "items", &slot)
        .startup_mode(StartupMode::LatestOffset);
    let mut reading = Reading::open(&source, &source.splits(1).unwrap()[0]);
    server.sql(
        &database,
        "INSERT INTO items SELECT i, repeat('x', 3000), i FROM generate_series(1, 20000) AS i",
    );
    while reading.changes.len() < 5_000 {
        reading.step().unwrap();
    }
    // In the middle of the transaction.
    let (n, split) = (reading.changes.len(), reading.split());
    assert!(n < 20_000);
    drop(reading);
    let mut reading = Reading::open(&source, &split);
    reading.until(20_000 - n);
    assert!(
        reading
            .changes
            .iter()
            .enumerate()
            .all(|(idx, it)| it.row.id == (n + idx + 1) as i64 && it.row.name.len() == 3000)
    );
    // The value is not in the log, but in the old row.
    server.sql(&database, "UPDATE items SET v = 0 WHERE id = 7");
    reading.until(20_000 - n + 2);
    let last = reading.changes.last().unwrap();
    assert_eq!((last.kind, last.row.v, last.row.name.len()), (RowKind::UpdateAfter, 0, 3000));
    drop(reading);
    drop_slot(server, &database, &slot);
}

pub(crate) fn keys_alone_make_an_upsert_changelog(server: &Server) {
    let (database, slot) = (server.database(), slot_name());
    server.sql(&database, "CREATE TABLE items(id bigint PRIMARY KEY, name text, v bigint); ALTER TABLE items ALTER name SET STORAGE EXTERNAL; \
        CREATE TABLE others(id bigint PRIMARY KEY); INSERT INTO items VALUES(1, 'a', 1)");
    let source = PostgresCdcSource::<Item>::new(server.url(&database), "items", &slot)
        .changelog_mode(ChangelogMode::Upsert);
    let mut reading = Reading::open(&source, &source.splits(1).unwrap()[0]);
    reading.drain();
    server.sql(&database, "UPDATE items SET v = 2; INSERT INTO others VALUES(1); UPDATE items SET name = repeat('x', 3000); UPDATE items SET v = 3; \
        DELETE FROM items; INSERT INTO items VALUES(5, 'b', 5)");
    reading.until(6);
    let kinds: Vec<_> = reading.changes.iter().map(|it| (it.kind, it.row.v)).collect();
    let expected =
        [(RowKind::Insert, 1), (RowKind::UpdateAfter, 2), (RowKind::UpdateAfter, 2), (RowKind::Insert, 5)];
    assert_eq!(kinds, expected);
    // What was not changed, and the row that was deleted, which has no name here.
    assert!(reading.bad[0].contains("column 'name' is large and was not changed"), "{:?}", reading.bad);
    assert!(reading.bad[1].contains("column 'name'"), "{:?}", reading.bad);
    drop(reading);
    drop_slot(server, &database, &slot);
}

pub(crate) fn wrong_captures_are_refused(server: &Server) {
    let database = server.database();
    server.sql(
        &database,
        "CREATE TABLE plain(id bigint PRIMARY KEY, name text, v bigint); CREATE TABLE keyless(id bigint); CREATE TABLE good(id bigint PRIMARY KEY);
         ALTER TABLE good REPLICA IDENTITY FULL; CREATE VIEW seen AS SELECT * FROM plain; CREATE PUBLICATION for_plain FOR TABLE plain;
         CREATE USER reader PASSWORD 'reader'; GRANT ALL ON ALL TABLES IN SCHEMA public TO reader;
         ",
    );
    server.sql(&database, "SELECT pg_create_logical_replication_slot('other_plugin', 'test_decoding')");
    let source = |table: &str, slot: &str| PostgresCdcSource::<Item>::new(server.url(&database), table, slot);
    for (source, expected) in [
        (source("plain", "a"), "REPLICA IDENTITY FULL"),
        (source("keyless", "a"), "no primary key"),
        (source("seen", "a"), "only tables have a log"),
        (source("nowhere", "a"), "\"nowhere\" does not exist"),
        (
            source("good", "a").publication_name("for_plain"),
            "ALTER PUBLICATION \"for_plain\" ADD TABLE \"good\"",
        ),
        (source("good", "other_plugin"), "is not one of the plugin pgoutput"),
        (source("good", "Wrong Name"), "replication slot name"),
        (
            source("good", "a").username("reader").password("reader").publication_name("p"),
            "permission denied",
        ),
        (source("good", "a").password("wrong"), "check user name and password"),
    ] {
        let error = source.splits(1).unwrap_err().report();
        assert!(error.contains(expected), "{error}");
    }
    server.sql(&database, "SELECT pg_drop_replication_slot('other_plugin')");
    let server = Server::start(&["wal_level=replica"]).unwrap();
    server.sql("postgres", "CREATE TABLE good(id bigint PRIMARY KEY)");
    let error =
        PostgresCdcSource::<Item>::new(server.url("postgres"), "good", "a").splits(1).unwrap_err().report();
    assert!(error.contains("set wal_level = logical"), "{error}");
}

pub(crate) fn lost_changes_are_an_error(server: &Server) {
    let (database, slot) = (server.database(), slot_name());
    server.sql(&database, "CREATE TABLE items(id bigint PRIMARY KEY, name text, v bigint); ALTER TABLE items REPLICA IDENTITY FULL; \
        INSERT INTO items VALUES(1, 'a', 1)");
    let source = PostgresCdcSource::<Item>::new(server.url(&database), "items", &slot);
    let mut reading = Reading::open(&source, &source.splits(1).unwrap()[0]);
    reading.drain();
    server.sql(&database, "TRUNCATE items");
    let error = std::iter::repeat_with(|| reading.step()).find_map(Result::err).unwrap().report();
    assert!(error.contains("table 'items' was truncated"), "{error}");
    let split = reading.split();
    drop(reading);
    drop_slot(server, &database, &slot);
    let error = Reading::open(&source, &split).step().unwrap_err().report();
    assert!(error.contains("are lost") && error.contains("is gone"), "{error}");
}
