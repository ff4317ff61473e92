//! Jobs with checkpoints under faults: the plans that have found a bug, all of a small sweep, and fresh seeds.

use flott_env::Env;
use flott_sim::faults::{FaultCampaign, FaultPlan, Scenario, generate_faults, sweep, try_faults};
use std::time::Duration;

/// Plans that have found a bug, each with what it was.
const REGRESSIONS: &[(&str, &str)] = &[
    (
        "who_wakes_up_behind_the_end_of_a_cancelled_successor_commits_what_it_had_completed",
        include_str!("../plans/woken_behind_a_cancel.json"),
    ),
    (
        "a_task_that_aligns_does_not_push_back_the_task_whose_barrier_it_waits_for",
        include_str!("../plans/unaligned_circle.json"),
    ),
    (
        "a_successor_that_comes_behind_the_end_of_the_job_begins_with_the_snapshot_that_it_was_told",
        include_str!("../plans/resumed_behind_the_end.json"),
    ),
    (
        "who_restores_its_sinks_late_deletes_no_files_of_its_successor",
        include_str!("../plans/sinks_are_restored_late.json"),
    ),
    (
        "who_was_replaced_does_not_start_again_and_fight_its_successor",
        include_str!("../plans/who_was_replaced_starts_again.json"),
    ),
    (
        "a_job_whose_old_checkpoints_cannot_be_deleted_has_ended_all_the_same",
        include_str!("../plans/end_cannot_delete.json"),
    ),
    (
        "a_restart_makes_a_manifest_durable_before_it_goes_on_from_it",
        include_str!("../plans/base_is_not_durable.json"),
    ),
    (
        "a_stop_whose_commit_fails_is_reported_as_failed",
        include_str!("../plans/stop_is_undone_by_a_failed_commit.json"),
    ),
    (
        "a_checkpoint_that_stopped_the_job_names_where_the_files_of_its_savepoint_are",
        include_str!("../plans/start_from_the_checkpoint_of_a_stop.json"),
    ),
    (
        "who_cancels_a_job_that_has_just_finished_does_not_start_it_again",
        include_str!("../plans/a_cancel_that_came_too_late.json"),
    ),
    (
        "a_start_makes_the_snapshot_durable_that_somebody_has_named",
        include_str!("../plans/start_from_a_checkpoint_that_is_not_durable.json"),
    ),
    (
        "a_checkpoint_is_not_the_last_one_while_an_operator_holds_the_end_of_data",
        include_str!("../plans/end_is_overtaken.json"),
    ),
    (
        "a_sliding_window_does_not_fire_again_for_key_groups_that_had_come_further",
        include_str!("../plans/unaligned_slices_fire_again.json"),
    ),
    (
        "a_window_waits_for_what_is_in_flight_to_its_key_group",
        include_str!("../plans/unaligned_window_too_early.json"),
    ),
    (
        "what_a_checkpoint_of_the_users_goes_on_from_is_not_collected",
        include_str!("../plans/bases_of_the_users.json"),
    ),
];

#[test]
fn plans_that_have_found_a_bug_come_out_right() {
    for (name, plan) in REGRESSIONS {
        let plan = FaultPlan::from_json(plan).unwrap();
        for schedule in 0..20 {
            let plan = FaultPlan { schedule: plan.schedule + schedule, ..plan.clone() };
            if let Err(failure) = try_faults(&plan, false) {
                panic!("{name}: {plan}{failure}\n{}", plan.to_json());
            }
        }
    }
}

#[test]
fn single_crash_points_of_the_smallest_job_come_out_right() {
    let scenario = Scenario::all().into_iter().find(|scenario| scenario.name == "smallest").unwrap();
    let report = sweep(&Scenario { pairs: false, ..scenario });
    let report = report.unwrap_or_else(|failed| panic!("{}{}", failed.0, failed.1));
    assert!(report.n_single > 200 && report.n_cuts > report.n_single, "{report:?}");
}

/// Always the same ones, so that a failure is of the change at hand; the gate takes fresh ones too.
#[test]
fn fixed_seeds_come_out_right() {
    let env = Env::real().unwrap();
    let campaign = FaultCampaign { first: 20_261_122, seeds: 100, time: Duration::from_secs(30), jobs: 1 };
    let report = campaign.run(&env);
    if let Some((plan, failure)) = report.failure {
        panic!("{plan}{failure}\n{}", plan.to_json());
    }
    assert!(report.coverage.n_plans > 0);
}

#[test]
fn a_plan_of_faults_is_the_same_run_each_time_and_survives_its_text_form() {
    for seed in 0..20 {
        let plan = generate_faults(seed);
        assert_eq!(FaultPlan::from_json(&plan.to_json()), Ok(plan.clone()));
        assert_eq!(try_faults(&plan, true), try_faults(&plan, true), "seed {seed}");
    }
}
