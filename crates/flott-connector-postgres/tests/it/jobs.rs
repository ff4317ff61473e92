use crate::program::{Job, N_RECORDS};
use crate::proxy::{Act, Proxy, lose};
use flott_services::{Postgres as Server, url_at as url, wait_for};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn start(mode: &str, url: &str, place: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", mode, url]).arg(place).spawn().unwrap()
}

/// What a reader sees of the results of a mode.
fn committed(mode: &str) -> &'static str {
    if mode == "eager" { "numbers_committed" } else { "numbers" }
}

fn numbers(server: &Server, database: &str, table: &str) -> Vec<u64> {
    let read = server.try_sql(database, &format!("SELECT n FROM {table} ORDER BY n")).unwrap_or_default();
    read.lines().map(|line| line.parse().unwrap()).collect()
}

/// Every number once, and nothing left behind.
fn assert_exactly_once(server: &Server, database: &str, mode: &str) {
    let all: Vec<u64> = (0..N_RECORDS).collect();
    assert_eq!(numbers(server, database, "numbers"), all, "{mode}");
    assert_eq!(numbers(server, database, committed(mode)), all, "{mode}");
    assert_eq!(
        server.sql(database, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"),
        ""
    );
}

/// Reads all the time: what it has seen once it sees ever after, and once.
fn watch(server: &Server, database: &str, mode: &str, stop: &AtomicBool) -> usize {
    let (mut seen, mut n_reads) = (BTreeSet::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let read = numbers(server, database, committed(mode));
        let now: BTreeSet<u64> = read.iter().copied().collect();
        assert_eq!(now.len(), read.len(), "{mode}: a number is there twice");
        assert!(seen.is_subset(&now), "{mode}: numbers were seen that are gone");
        n_reads += usize::from(now.len() > seen.len());
        seen = now;
        std::thread::sleep(Duration::from_millis(5));
    }
    n_reads
}

fn killed(server: &Server, mode: &str) {
    let (database, place) = (server.database(), tempfile::tempdir().unwrap());
    let (url, stop) = (server.url(&database), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(server, &database, mode, &stop));
        for _ in 0..3 {
            let before = numbers(server, &database, committed(mode)).len();
            let mut child = start(mode, &url, place.path());
            wait_for("more rows", || numbers(server, &database, committed(mode)).len() > before);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(
                numbers(server, &database, committed(mode)).len() < N_RECORDS as usize,
                "killed in the middle"
            );
        }
        assert!(start(mode, &url, place.path()).wait().unwrap().success());
        stop.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 3, "it saw the table grow");
    });
    assert_exactly_once(server, &database, mode);
}

pub(crate) fn a_transactional_job_that_is_killed_goes_on_exactly_once(server: &Server) {
    killed(server, "transactional");
}

pub(crate) fn an_eager_job_that_is_killed_goes_on_exactly_once(server: &Server) {
    killed(server, "eager");
}

pub(crate) fn an_upserting_job_that_is_killed_goes_on_exactly_once(server: &Server) {
    killed(server, "upsert");
}

/// Loses the request or the answer of each kind of statement, some times.
pub(crate) fn lost_requests_and_answers_lose_and_double_nothing(server: &Server) {
    let upstream = format!("127.0.0.1:{}", server.port());
    let check = &|mode: &str, statement: &'static str, act: Act| {
        let (database, place) = (server.database(), tempfile::tempdir().unwrap());
        let proxy = Proxy::start(&upstream, lose(act, statement, 2));
        let url = url(&proxy.address, &database);
        let result = Job { mode, url: &url, place: place.path(), parallelism: 2 }.env().execute("job");
        assert!(result.is_ok(), "{mode}, {statement}, {act:?}: {result:?}");
        assert_exactly_once(server, &database, mode);
    };
    for (mode, statements) in [
        ("transactional", &["COMMIT PREPARED", "PREPARE TRANSACTION", "COPY", "BEGIN"][..]),
        ("eager", &["COPY", "INSERT INTO flott_completed"]),
        ("upsert", &["COPY", "INSERT INTO \"numbers\"", "COMMIT"]),
    ] {
        std::thread::scope(|scope| {
            for statement in statements.iter().copied() {
                for act in [Act::LoseAnswer, Act::LoseRequest] {
                    scope.spawn(move || check(mode, statement, act));
                }
            }
        });
    }
}

pub(crate) fn a_database_that_crashes_between_prepare_and_commit_loses_nothing(_: &Server) {
    let server = Server::start(&[]).unwrap();
    let (database, place) = (server.database(), tempfile::tempdir().unwrap());
    let mut child = start("transactional", &server.url(&database), place.path());
    for n_crashes in 0..2 {
        let prepared = "SELECT count(*) FROM pg_prepared_xacts";
        wait_for("a prepared transaction", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended before crash {n_crashes}");
            server.sql(&database, prepared) != "0"
        });
        server.crash_and_restart().unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert_exactly_once(&server, &database, "transactional");
}
