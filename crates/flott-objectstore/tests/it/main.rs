//! Checkpoints, savepoints and files in object stores that speak the protocols of S3, Google Cloud Storage and Azure: `cargo xtask ci objectstores`.
//!
//! A harness of its own, because there are servers to install, start and stop: `flott-services`, by way of `server`. Each test is run with each. Where
//! one cannot be had its tests are skipped, and that is said with the reason, instead of that they passed. `proxy` loses answers on the way. A job to
//! be killed is this binary again.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test harness: it starts real processes, listens at real sockets and prints"
)]

mod contract;
mod failures;
mod files;
mod jobs;
mod program;
mod proxy;
mod server;
mod snapshots;

use server::{SERVERS, Server};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn(&Server));

const TESTS: &[Test] = &[
    ("the_store_keeps_the_contract", contract::the_store_keeps_the_contract),
    ("answers_that_are_lost_are_looked_up", contract::answers_that_are_lost_are_looked_up),
    ("an_upload_that_fails_leaves_nothing", contract::an_upload_that_fails_leaves_nothing),
    ("owners_and_checkpoints_survive_lost_answers", contract::owners_and_checkpoints_survive_lost_answers),
    ("a_wrong_bucket_is_named", failures::a_wrong_bucket_is_named),
    ("denied_access_is_named_without_the_secret", failures::denied_access_is_named_without_the_secret),
    ("a_server_that_is_not_there_is_named_in_time", failures::a_server_that_is_not_there_is_named_in_time),
    ("a_server_that_hangs_is_given_up_in_time", failures::a_server_that_hangs_is_given_up_in_time),
    ("a_job_that_fails_goes_on_exactly_once", jobs::a_job_that_fails_goes_on_exactly_once),
    ("a_job_that_is_killed_goes_on_exactly_once", jobs::a_job_that_is_killed_goes_on_exactly_once),
    ("a_job_outlives_a_server_that_is_away", jobs::a_job_outlives_a_server_that_is_away),
    ("the_file_sink_keeps_the_contract_of_sinks", files::the_file_sink_keeps_the_contract_of_sinks),
    ("the_file_source_keeps_the_contract_of_sources", files::the_file_source_keeps_the_contract_of_sources),
    ("a_job_reads_and_writes_objects_exactly_once", files::a_job_reads_and_writes_objects_exactly_once),
    ("a_place_that_is_not_there_is_named", files::a_place_that_is_not_there_is_named),
    ("savepoints_go_there_and_come_back", snapshots::savepoints_go_there_and_come_back),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("child", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return program::child(rest);
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter));
    let wanted = SERVERS.map(|server| {
        let tests = TESTS.iter().filter(|(name, _)| is_wanted(&full_name(name, server)));
        (server, tests.collect::<Vec<&Test>>())
    });
    let wanted: Vec<_> = wanted.into_iter().filter(|(_, tests)| !tests.is_empty()).collect();
    if std::env::var_os("FLOTT_TEST_SERVICES").is_none() {
        let n_tests: usize = wanted.iter().map(|(_, tests)| tests.len()).sum();
        println!("{n_tests} tests with object stores are run by `cargo xtask ci objectstores`");
        return ExitCode::SUCCESS;
    }
    // Side by side: they wait more than they work.
    let (passed, failed) = std::thread::scope(|scope| {
        let servers = wanted.iter().map(|(server, tests)| scope.spawn(|| run(server, tests)));
        let servers: Vec<_> = servers.collect();
        let counts = servers.into_iter().map(|server| server.join().unwrap());
        counts.fold((0, 0), |(passed, failed), (also_passed, also_failed)| {
            (passed + also_passed, failed + also_failed)
        })
    });
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn full_name(test: &str, server: &str) -> String {
    format!("{test} with {server}")
}

/// How many of the tests pass and fail with a server; none if it cannot be had.
fn run(server_name: &str, tests: &[&Test]) -> (usize, usize) {
    let server = match Server::start(server_name) {
        Ok(server) => server,
        Err(reason) => {
            println!("skipped: {} tests with {server_name}: {reason}", tests.len());
            return (0, 0);
        }
    };
    let mut failed = 0;
    for (name, test) in tests {
        let started = Instant::now();
        let has_passed = catch_unwind(AssertUnwindSafe(|| test(&server))).is_ok();
        failed += usize::from(!has_passed);
        let (name, word) = (full_name(name, server_name), if has_passed { "ok" } else { "FAILED" });
        println!("test {name} ... {word} ({:.1} s)", started.elapsed().as_secs_f64());
    }
    (tests.len() - failed, failed)
}
