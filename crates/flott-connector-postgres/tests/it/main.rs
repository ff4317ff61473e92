//! The connector with a real PostgreSQL server: `cargo xtask ci postgres`.
//!
//! A harness of its own, because there is a server to install, start and stop: `server`. Where it cannot be had the tests are skipped, and
//! that is said with the reason, instead of that they passed. `proxy` loses answers on the way. A job to be killed is this binary again.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    reason = "a test harness: it starts real processes, listens at real sockets and tells why it failed"
)]

mod changes;
mod contract;
mod jobs;
mod mistakes;
mod program;
mod proxy;
mod reading;
mod sink;

use flott_services::{Postgres, Test, run_tests, tests};
use std::process::ExitCode;

const TESTS: &[Test<Postgres>] = tests![
    sink::prepared_transactions_of_dead_attempts_are_rolled_back,
    sink::a_zombie_cannot_prepare,
    sink::a_transaction_that_somebody_rolled_back_is_lost_and_that_is_said,
    sink::a_transaction_outlives_the_limits_of_the_server,
    sink::rows_with_one_key_in_neighbouring_checkpoints_are_an_error_in_time,
    sink::rows_that_the_table_does_not_take_are_left_out_and_the_others_are_there,
    sink::values_of_all_types_arrive,
    sink::changes_make_a_table_follow,
    mistakes::users_are_told_what_is_wrong_before_the_first_record,
    mistakes::records_that_do_not_fit_are_named,
    mistakes::servers_that_cannot_prepare_are_refused,
    mistakes::the_password_is_never_shown,
    mistakes::users_prove_who_they_are_in_the_way_that_the_server_asks_for,
    mistakes::connections_are_encrypted_and_servers_have_to_be_who_they_say,
    reading::every_row_is_read_once_wherever_reading_stops_and_goes_on,
    reading::a_table_is_divided_into_parts,
    reading::wrong_sources_are_refused,
    reading::a_row_that_is_no_record_is_a_bad_record,
    reading::records_are_enriched_and_answers_are_remembered,
    reading::wrong_lookups_are_named_and_broken_connections_are_made_again,
    changes::a_table_that_changes_is_captured_once_wherever_the_job_is_killed,
    changes::reading_goes_on_at_every_position_and_the_slot_is_never_ahead,
    changes::large_transactions_and_large_values_arrive,
    changes::keys_alone_make_an_upsert_changelog,
    changes::wrong_captures_are_refused,
    changes::lost_changes_are_an_error,
    changes::a_server_that_crashes_loses_no_change_and_doubles_none,
    changes::a_reader_that_is_held_back_is_not_cut_off,
    contract::sinks_keep_their_contract,
    contract::sources_keep_their_contract,
    jobs::a_transactional_job_that_is_killed_goes_on_exactly_once,
    jobs::an_eager_job_that_is_killed_goes_on_exactly_once,
    jobs::an_upserting_job_that_is_killed_goes_on_exactly_once,
    jobs::lost_requests_and_answers_lose_and_double_nothing,
    jobs::a_database_that_crashes_between_prepare_and_commit_loses_nothing,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("child", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return program::child(rest);
    }
    // Tests of crashes have servers of their own, which sync.
    run_tests("a PostgreSQL server", "postgres", TESTS, || Postgres::start(&["fsync=off"]))
}
