//! The source and the sink against a real Apache Kafka: `cargo xtask ci kafka`.
//!
//! There is a broker to install, start and stop, and for some a schema registry. Where they cannot be had the tests are skipped, and that is said
//! with the reason, instead of that they passed. A job to be killed is this binary again.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test harness: it starts real processes, waits for them and prints"
)]

mod contract;
mod event_time;
mod formats;
mod jobs;
mod kills;
mod mistakes;
mod registry;
mod secured;
mod sinks;
mod sources;
mod topics;
mod walk;

use flott_services::{Kafka, SchemaRegistryServer, Test, run_tests, tests};
use std::process::ExitCode;

const TESTS: &[Test<Kafka>] = tests![
    sources::every_start_and_every_end_is_found,
    sources::a_read_ends_where_its_group_has_been,
    sources::an_unbounded_source_stops_at_its_offsets,
    sources::a_bounded_read_ends_behind_offsets_without_records,
    sources::new_partitions_and_topics_are_found,
    sources::committed_offsets_follow_checkpoints,
    sources::offsets_that_are_not_committed_are_told,
    sources::bad_records_go_to_dead_letters_with_their_positions,
    formats::records_of_each_format_go_through_topics,
    formats::values_stand_in_topics_as_their_formats_say,
    event_time::each_partition_has_an_event_time_of_its_own,
    sinks::records_keep_keys_headers_and_timestamps,
    sinks::what_a_dead_attempt_left_open_is_aborted,
    sinks::what_a_zombie_prepares_late_is_aborted_by_those_who_look_again,
    sinks::a_committable_is_committed_by_whom_and_as_often_as_you_like,
    sinks::a_transaction_that_was_aborted_is_a_loud_loss,
    sinks::records_that_are_too_large_are_left_out_or_fail_with_what_to_do,
    sinks::a_sink_does_not_wait_for_ever_for_brokers_that_say_nothing,
    sinks::a_cancelled_job_leaves_nothing_open,
    contract::the_sink_keeps_its_contract_exactly_once,
    contract::the_sink_keeps_its_contract_at_least_once,
    contract::the_source_keeps_its_contract_from_the_first_record,
    contract::the_source_keeps_its_contract_from_the_newest_record,
    contract::the_bounded_source_keeps_its_contract,
    mistakes::mistakes_are_named,
    walk::the_readme_is_true,
    secured::secured_records_come_and_go_through_every_listener,
    secured::secured_listeners_say_why_they_refuse,
    secured::secured_properties_are_never_shown,
    secured::secured_jobs_that_are_killed_go_on_exactly_once,
    kills::a_job_that_is_killed_goes_on_exactly_once,
    kills::a_job_that_stands_still_does_no_harm_when_it_wakes,
    kills::a_job_outlives_a_broker_that_is_killed,
];

/// Those that also need a schema registry.
const REGISTRY_TESTS: &[Test<Servers>] = tests![
    registry::avro_of_several_versions_is_read_as_the_readers,
    registry::protobuf_of_several_versions_is_read_as_the_readers,
    registry::schemas_that_use_others_are_found,
    registry::what_the_registry_refuses_is_told,
    registry::schemas_that_the_registry_does_not_have_make_bad_records,
    registry::a_registry_that_is_away_is_asked_again,
];

/// Checks fast what is asked of a transaction that is late.
const SETTINGS: &[(&str, &str)] = &[
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
    ("transaction.max.timeout.ms", "7200000"),
];

/// A broker, and a registry of the schemas of its messages.
pub(crate) struct Servers {
    pub(crate) broker: Kafka,
    pub(crate) registry: SchemaRegistryServer,
}

impl Servers {
    fn start() -> Result<Self, String> {
        Ok(Self { broker: Kafka::start(SETTINGS)?, registry: SchemaRegistryServer::start()? })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("child", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return jobs::child(rest);
    }
    let codes = [
        run_tests("an Apache Kafka", "kafka", TESTS, || Kafka::start_secured(SETTINGS)),
        run_tests("an Apache Kafka and a schema registry", "kafka", REGISTRY_TESTS, Servers::start),
    ];
    codes.into_iter().find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS)
}
