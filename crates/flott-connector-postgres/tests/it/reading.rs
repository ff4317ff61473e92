//! Reading a table, and looking rows up.

use crate::program::environment;
use flott::prelude::*;
use flott::{
    AsyncFunction, AsyncOutputMode, AsyncRetryStrategy, AsyncWaitConfig, InputStatus, SourceReaderContext,
    SplitOutput, SplitReader, SplitSource,
};
use flott_connector_postgres::{PostgresLookup, PostgresSource, PostgresSplit, PostgresValue};
use flott_services::Postgres as Server;
use flott_types::SubtaskIndex;
use std::future::poll_fn;
use std::time::Duration;

type Row = (i64, String);

fn source(server: &Server, database: &str, table: &str) -> PostgresSource<Row> {
    PostgresSource::new(server.url(database), table).columns(["n", "name"]).scan_fetch_size(7)
}

fn context() -> SourceReaderContext {
    SourceReaderContext { env: flott::env::Env::real().unwrap(), subtask: SubtaskIndex(0), parallelism: 1 }
}

/// Reads `n_polls` times at most; the records, and where to read on if there is more.
fn read(
    source: &PostgresSource<Row>,
    split: PostgresSplit,
    n_polls: usize,
) -> (Vec<Row>, Option<PostgresSplit>) {
    let ctx = context();
    let mut reader = source.open(split, &ctx).unwrap();
    let env = ctx.env.clone();
    env.block_on(async move {
        let mut outputs = flott::SourceOutput::default();
        let id = flott_types::SplitId("rows".to_owned());
        let out: &mut SplitOutput<Row> = outputs.split(&id);
        for _ in 0..n_polls {
            if poll_fn(|cx| reader.poll_read(cx, 3, out)).await.unwrap() == InputStatus::EndOfInput {
                return (out.batch.records().to_vec(), None);
            }
        }
        assert_eq!(out.bad_records.len(), 0);
        (out.batch.records().to_vec(), Some(reader.split()))
    })
}

fn tables(server: &Server) -> String {
    let database = server.database();
    server.sql(
        &database,
        "CREATE TABLE keyed(n bigint PRIMARY KEY, name text);
         INSERT INTO keyed SELECT i * 3, 'name ' || i FROM generate_series(-20, 79) AS i;
         CREATE TABLE plain(n bigint, name text); INSERT INTO plain SELECT * FROM keyed;
         CREATE TABLE ties(n bigint, name text NOT NULL); INSERT INTO ties SELECT i, 'name ' || (i / 9) FROM generate_series(0, 99) AS i;
         CREATE TABLE nothing(n bigint PRIMARY KEY, name text);
         CREATE VIEW seen AS SELECT * FROM keyed",
    );
    database
}

pub(crate) fn every_row_is_read_once_wherever_reading_stops_and_goes_on(server: &Server) {
    let database = tables(server);
    let sources = [
        ("keyed", 100, source(server, &database, "keyed")),
        ("keyed", 100, source(server, &database, "keyed").scan_partition_column("name")),
        (
            "keyed",
            34,
            source(server, &database, "keyed").scan_partition_lower_bound(0).scan_partition_upper_bound(99),
        ),
        ("keyed", 80, source(server, &database, "keyed").filter("n >= 0")),
        ("plain", 100, source(server, &database, "plain")),
        ("ties", 100, source(server, &database, "ties").scan_partition_column("name")),
        ("seen", 100, source(server, &database, "seen").scan_partition_column("n")),
        ("nothing", 0, source(server, &database, "nothing")),
    ];
    for (table, n_rows, source) in sources {
        for n_splits in [1, 3] {
            let source = source.clone().scan_partition_num(n_splits);
            for n_polls in [2, 1_000] {
                let mut rows = Vec::new();
                for split in source.splits(1).unwrap() {
                    let mut next = Some(split);
                    while let Some(split) = next {
                        // What a checkpoint does with it.
                        let split =
                            flott_state::decode("a split", &flott_state::encode("a split", &split).unwrap())
                                .unwrap();
                        let (read, rest) = read(&source, split, n_polls);
                        rows.extend(read);
                        next = rest;
                    }
                }
                assert_eq!(rows.len(), n_rows, "{table}, {n_splits} splits, {n_polls} polls");
                rows.sort_unstable();
                rows.dedup();
                assert_eq!(rows.len(), n_rows, "{table}: twice");
            }
        }
    }
}

pub(crate) fn a_table_is_divided_into_parts(server: &Server) {
    let database = tables(server);
    for (source, n_splits) in [
        (source(server, &database, "keyed"), 4),
        (source(server, &database, "keyed").scan_partition_column("name"), 4),
        (source(server, &database, "plain"), 1),
        (source(server, &database, "nothing"), 1),
    ] {
        let sizes: Vec<usize> =
            source.splits(4).unwrap().into_iter().map(|it| read(&source, it, 1_000).0.len()).collect();
        assert_eq!(sizes.len(), n_splits, "{sizes:?}");
        assert!(n_splits == 1 || sizes.iter().all(|size| (20..30).contains(size)), "{sizes:?}");
    }
}

pub(crate) fn wrong_sources_are_refused(server: &Server) {
    let database = tables(server);
    server.sql(&database, "INSERT INTO plain VALUES(NULL, 'x')");
    let source = |table: &str| source(server, &database, table);
    for (source, expected) in [
        (source("nowhere"), "relation \"nowhere\" does not exist"),
        (source("keyed").columns(["n", "missing"]), "no column 'missing'"),
        (source("keyed").scan_partition_column("missing"), "no partition column 'missing'"),
        (source("plain").scan_partition_column("n"), "partition column 'n' has NULLs"),
        (
            source("keyed").scan_partition_column("name").scan_partition_lower_bound(1),
            "are for integers, and it is text",
        ),
        (source("seen"), "scan_partition_column"),
        (source("keyed").filter("n >>> 1"), "operator does not exist"),
        (
            source("keyed").scan_partition_lower_bound(5).scan_partition_upper_bound(4),
            "5 is above the upper bound 4",
        ),
        (source("keyed").password("wrong"), "check user name and password"),
    ] {
        let error = source.splits(3).unwrap_err().report();
        assert!(error.contains(expected), "{error}");
    }
}

pub(crate) fn a_row_that_is_no_record_is_a_bad_record(server: &Server) {
    let database = tables(server);
    let place = tempfile::tempdir().unwrap();
    let mut env = environment(place.path(), 1);
    env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 1);
    let source = PostgresSource::<(i8, String)>::new(server.url(&database), "keyed").filter("n > 120");
    let (sink, records) = collect_sink();
    env.from_source(source, WatermarkStrategy::no_watermarks(), "rows").sink_to(sink);
    let error = env.execute("job").unwrap_err();
    let text = format!("{error:?}");
    assert!(
        text.contains("bad record in rows-0 at n = 129") && text.contains("column 'n': '129' is no i8"),
        "{text}"
    );
    drop(records);
}

pub(crate) fn records_are_enriched_and_answers_are_remembered(server: &Server) {
    let database = tables(server);
    server.sql(
        &database,
        "CREATE TABLE prices(product bigint, at date, price numeric, PRIMARY KEY(product, at)); \
        INSERT INTO prices SELECT i, '2024-01-01', i * 1.5 FROM generate_series(0, 4) AS i",
    );
    for max_rows in [0, 3, 100] {
        let place = tempfile::tempdir().unwrap();
        let env = environment(place.path(), 2);
        let lookup =
            PostgresLookup::<(i64, String, f64)>::new(server.url(&database), "prices", ["product", "at"])
                .partial_cache_max_rows(max_rows)
                .partial_cache_expire_after_write(Duration::from_secs(60));
        let function = lookup.function(
            env.env(),
            |n: &u64| vec![PostgresValue::from(n % 7), PostgresValue::from("2024-01-01")],
            |n, rows: &[(i64, String, f64)]| vec![(n, rows.first().map(|row| row.2))],
        );
        let config = AsyncWaitConfig {
            output_mode: AsyncOutputMode::Ordered,
            capacity: 16,
            timeout: None,
            retry: AsyncRetryStrategy::NoRetry,
        };
        let (sink, results) = collect_sink();
        env.from_sequence(0, 99).async_wait(function, config).sink_to(sink);
        env.execute("job").unwrap();
        let mut results = results.take();
        results.sort_by_key(|(n, _)| *n);
        let price = |n: u64| (n % 7 < 5).then_some((n % 7) as f64 * 1.5);
        assert_eq!(results, (0..100).map(|n| (n, price(n))).collect::<Vec<_>>(), "{max_rows}");
    }
}

pub(crate) fn wrong_lookups_are_named_and_broken_connections_are_made_again(server: &Server) {
    let database = tables(server);
    let env = flott::env::Env::real().unwrap();
    let ask = |lookup: PostgresLookup<(i64, String)>| {
        let function =
            lookup.function(&env, |n: &i64| vec![(*n).into()], |_, rows: &[(i64, String)]| rows.to_vec());
        let answer = env.block_on(function.async_invoke(3));
        answer.map_err(|error| error.downcast::<flott::Error>().unwrap().report())
    };
    let lookup =
        |table: &str, key: &str| PostgresLookup::<(i64, String)>::new(server.url(&database), table, [key]);
    for (lookup, expected) in [
        (lookup("nowhere", "n"), "\"nowhere\" does not exist"),
        (lookup("keyed", "missing"), "no column 'missing' of the key"),
        (lookup("keyed", "n").columns(["missing"]), "\"missing\" does not exist"),
        (lookup("keyed", "n").columns(["name", "n"]), "'name 1' is no i64"),
        (lookup("keyed", "n").password("wrong"), "check user name and password"),
    ] {
        let error = ask(lookup).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let function = lookup("keyed", "n").connections(1).function(
        &env,
        |n: &i64| vec![(*n).into()],
        |_, rows: &[(i64, String)]| rows.to_vec(),
    );
    for _ in 0..2 {
        let rows = env.block_on(function.async_invoke(3)).unwrap();
        assert_eq!(rows, [(3, "name 1".to_owned())]);
        let end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        assert_ne!(server.sql(&database, end), "0");
    }
}
