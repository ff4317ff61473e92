//! The source and the sink against a real Apache Kafka: `cargo xtask ci kafka`.
//!
//! A harness of its own, because there is a broker to install, start and stop. Where it cannot be had the tests are skipped, and that is said with
//! the reason, instead of that they passed. A job to be killed is this binary again.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test harness: it starts real processes, waits for them and prints"
)]

mod contract;
mod event_time;
mod jobs;
mod kills;
mod mistakes;
mod secured;
mod sinks;
mod sources;
mod topics;

use flott_services::Kafka;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn(&mut Kafka));

const TESTS: &[Test] = &[
    ("every_start_and_every_end_is_found", sources::every_start_and_every_end_is_found),
    (
        "a_bounded_read_ends_behind_offsets_without_records",
        sources::a_bounded_read_ends_behind_offsets_without_records,
    ),
    ("new_partitions_and_topics_are_found", sources::new_partitions_and_topics_are_found),
    ("committed_offsets_follow_checkpoints", sources::committed_offsets_follow_checkpoints),
    (
        "bad_records_go_to_dead_letters_with_their_positions",
        sources::bad_records_go_to_dead_letters_with_their_positions,
    ),
    ("each_partition_has_an_event_time_of_its_own", event_time::each_partition_has_an_event_time_of_its_own),
    ("records_keep_keys_headers_and_timestamps", sinks::records_keep_keys_headers_and_timestamps),
    ("what_a_dead_attempt_left_open_is_aborted", sinks::what_a_dead_attempt_left_open_is_aborted),
    (
        "what_a_zombie_prepares_late_is_aborted_by_those_who_look_again",
        sinks::what_a_zombie_prepares_late_is_aborted_by_those_who_look_again,
    ),
    (
        "a_committable_is_committed_by_whom_and_as_often_as_you_like",
        sinks::a_committable_is_committed_by_whom_and_as_often_as_you_like,
    ),
    ("a_transaction_that_was_aborted_is_a_loud_loss", sinks::a_transaction_that_was_aborted_is_a_loud_loss),
    (
        "records_that_are_too_large_are_left_out_or_fail_with_what_to_do",
        sinks::records_that_are_too_large_are_left_out_or_fail_with_what_to_do,
    ),
    ("a_cancelled_job_leaves_nothing_open", sinks::a_cancelled_job_leaves_nothing_open),
    ("the_sink_keeps_its_contract_exactly_once", contract::the_sink_keeps_its_contract_exactly_once),
    ("the_sink_keeps_its_contract_at_least_once", contract::the_sink_keeps_its_contract_at_least_once),
    (
        "the_source_keeps_its_contract_from_the_first_record",
        contract::the_source_keeps_its_contract_from_the_first_record,
    ),
    (
        "the_source_keeps_its_contract_from_the_newest_record",
        contract::the_source_keeps_its_contract_from_the_newest_record,
    ),
    ("the_bounded_source_keeps_its_contract", contract::the_bounded_source_keeps_its_contract),
    ("mistakes_are_named", mistakes::mistakes_are_named),
    (
        "secured_records_come_and_go_through_every_listener",
        secured::secured_records_come_and_go_through_every_listener,
    ),
    ("secured_listeners_say_why_they_refuse", secured::secured_listeners_say_why_they_refuse),
    ("secured_properties_are_never_shown", secured::secured_properties_are_never_shown),
    (
        "secured_jobs_that_are_killed_go_on_exactly_once",
        secured::secured_jobs_that_are_killed_go_on_exactly_once,
    ),
    ("a_job_that_is_killed_goes_on_exactly_once", kills::a_job_that_is_killed_goes_on_exactly_once),
    (
        "a_job_that_stands_still_does_no_harm_when_it_wakes",
        kills::a_job_that_stands_still_does_no_harm_when_it_wakes,
    ),
    ("a_job_outlives_a_broker_that_is_killed", kills::a_job_outlives_a_broker_that_is_killed),
];

/// Checks fast what is asked of a transaction that is late.
const SETTINGS: &[(&str, &str)] = &[
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
    ("transaction.max.timeout.ms", "7200000"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("child", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return jobs::child(rest);
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let tests: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter)))
        .collect();
    if std::env::var_os("FLOTT_TEST_SERVICES").is_none() {
        println!("{} tests with an Apache Kafka are run by `cargo xtask ci kafka`", tests.len());
        return ExitCode::SUCCESS;
    }
    let mut broker = match Kafka::start_secured(SETTINGS) {
        Ok(broker) => broker,
        Err(reason) => {
            println!("skipped: {} tests with an Apache Kafka: {reason}", tests.len());
            return ExitCode::SUCCESS;
        }
    };
    let mut failed = 0;
    for (name, test) in &tests {
        let started = Instant::now();
        let word = if catch_unwind(AssertUnwindSafe(|| test(&mut broker))).is_ok() { "ok" } else { "FAILED" };
        failed += usize::from(word != "ok");
        println!("test {name} ... {word} ({:.1} s)", started.elapsed().as_secs_f64());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {} passed; {failed} failed; 0 ignored", tests.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
