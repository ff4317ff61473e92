//! Checkpoints and savepoints in an object store that speaks the protocol of S3: `cargo xtask ci s3`.
//!
//! A harness of its own, because there is a server to install, start and stop: `flott-services`. Where it cannot be had the tests are skipped, and
//! that is said with the reason, instead of that they passed. `proxy` loses answers on the way. A job to be killed is this binary again.

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
mod snapshots;

use flott_services::S3;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn(&S3));

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
    let tests: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter)))
        .collect();
    if std::env::var_os("FLOTT_TEST_SERVICES").is_none() {
        println!("{} tests with an S3 server are run by `cargo xtask ci s3`", tests.len());
        return ExitCode::SUCCESS;
    }
    let server = match S3::start(&[]) {
        Ok(server) => server,
        Err(reason) => {
            println!("skipped: {} tests with an S3 server: {reason}", tests.len());
            return ExitCode::SUCCESS;
        }
    };
    let mut failed = 0;
    for (name, test) in &tests {
        let started = Instant::now();
        let word = if catch_unwind(|| test(&server)).is_ok() { "ok" } else { "FAILED" };
        failed += usize::from(word != "ok");
        println!("test {name} ... {word} ({:.1} s)", started.elapsed().as_secs_f64());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {} passed; {failed} failed; 0 ignored", tests.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
