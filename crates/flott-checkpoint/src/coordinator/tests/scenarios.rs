//! One story each.

use super::*;
use expect_test::expect;

fn declined(id: u64) -> Input {
    Input::Declined {
        checkpoint: CheckpointId(id),
        subtask: subtask(1, 0),
        reason: Error::subtask("the disk is full"),
    }
}

#[test]
fn a_checkpoint_is_triggered_acknowledged_written_and_complete() {
    Script::new(config())
        .tick(99)
        .tick(100)
        .on(110, acknowledged(1, subtask(0, 0)))
        .on(111, acknowledged(1, subtask(1, 0)))
        .on(112, acknowledged(1, subtask(0, 1)))
        .on(120, written(1))
        .tick(199)
        .tick(200)
        .acknowledge(210, 2)
        .on(220, written(2))
        .check(expect![[r#"
            100 trigger 1 Checkpoint at 1000100: 0/0 0/1
            112 write 1: 0/0 0/1 1/0
            120 complete 1
            200 trigger 2 Checkpoint at 1000200: 0/0 0/1
            210 write 2: 0/0 0/1 1/0
            220 complete 2
            220 subsume [(1)], keep [(2)]
        "#]]);
}

#[test]
fn the_next_deadline_is_the_next_thing_that_happens_by_itself() {
    let mut script = Script::new(config());
    let deadline = |script: &Script| script.coordinator.next_deadline().map(|at| at.0.as_millis());
    assert_eq!(deadline(&script), Some(100));
    script.tick(100);
    assert_eq!(deadline(&script), Some(1_100), "its time-out: another one has no room");
    script.acknowledge(110, 1);
    assert_eq!(deadline(&script), None, "only the answer of the storage is missing");
    script.on(120, written(1));
    assert_eq!(deadline(&script), Some(200));
}

#[test]
fn a_checkpoint_that_takes_long_delays_the_next_one_but_does_not_make_more_of_them() {
    Script::new(config())
        .tick(100)
        .tick(350)
        .acknowledge(355, 1)
        .on(360, written(1))
        .tick(361)
        .tick(460)
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              355 write 1: 0/0 0/1 1/0
              360 complete 1
              360 trigger 2 Checkpoint at 1000360: 0/0 0/1
        "#]]);
}

#[test]
fn the_minimal_pause_begins_when_a_checkpoint_has_ended() {
    let config = CheckpointConfig { min_pause: Duration::from_millis(70), ..config() };
    Script::new(config).tick(100).acknowledge(180, 1).on(190, written(1)).tick(259).tick(260).check(expect![
        [r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              180 write 1: 0/0 0/1 1/0
              190 complete 1
              260 trigger 2 Checkpoint at 1000260: 0/0 0/1
        "#]
    ]);
}

#[test]
fn the_first_failure_fails_the_job_unless_some_are_tolerable() {
    Script::new(config()).tick(100).on(110, declined(1)).tick(500).check(expect![[r#"
          100 trigger 1 Checkpoint at 1000100: 0/0 0/1
          110 aborted 1: subtask 1/0 declined: the disk is full
          110 discard 1
          110 fail job (FailSubtask): checkpoint 1 was aborted: subtask 1/0 declined: the disk is full; 1 failed in a row, 0 are tolerable
    "#]]);
    let config = CheckpointConfig { tolerable_failed: 1, ..config() };
    Script::new(config)
        .tick(100)
        .on(110, declined(1))
        .on(111, declined(1))
        .tick(200)
        .acknowledge(210, 2)
        .on(220, written(2))
        .tick(300)
        .on(310, declined(3))
        .tick(400)
        .on(410, declined(4))
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              110 aborted 1: subtask 1/0 declined: the disk is full
              110 discard 1
              200 trigger 2 Checkpoint at 1000200: 0/0 0/1
              210 write 2: 0/0 0/1 1/0
              220 complete 2
              300 trigger 3 Checkpoint at 1000300: 0/0 0/1
              310 aborted 3: subtask 1/0 declined: the disk is full
              310 discard 3
              400 trigger 4 Checkpoint at 1000400: 0/0 0/1
              410 aborted 4: subtask 1/0 declined: the disk is full
              410 discard 4
              410 fail job (FailSubtask): checkpoint 4 was aborted: subtask 1/0 declined: the disk is full; 2 failed in a row, 1 are tolerable
        "#]]);
}

#[test]
fn a_checkpoint_that_is_not_complete_in_time_is_aborted_and_what_comes_late_is_deleted() {
    let config = CheckpointConfig { tolerable_failed: 9, ..config() };
    Script::new(config)
        .tick(100)
        .on(110, acknowledged(1, subtask(0, 0)))
        .tick(1_099)
        .tick(1_100)
        .on(1_101, acknowledged(1, subtask(1, 0)))
        .check(expect![[r#"
            100 trigger 1 Checkpoint at 1000100: 0/0 0/1
            1100 aborted 1: expired while 2 subtasks had not answered: 0/1, 1/0
            1100 discard 1
            1100 trigger 2 Checkpoint at 1001100: 0/0 0/1
            1101 delete job/chk-1/1/0
        "#]]);
}

#[test]
fn a_checkpoint_stays_while_another_that_goes_on_from_it_is_open() {
    let config = CheckpointConfig { incremental: true, max_concurrent: 2, tolerable_failed: 9, ..config() };
    let unknown = Error::new(ErrorKind::Retry, "no answer");
    Script::new(config)
        .tick(100)
        .acknowledge(110, 1)
        .on(120, written(1))
        .tick(200)
        .tick(300)
        .acknowledge(310, 3)
        .on(320, written(3))
        .tick(400)
        .acknowledge(410, 4)
        .on(420, Input::ManifestFailed { checkpoint: CheckpointId(4), error: unknown })
        .tick(500)
        .acknowledge(510, 5)
        .on(520, written(5))
        .check(expect![[r#"
            100 trigger 1 as base Checkpoint at 1000100: 0/0 0/1
            110 write 1: 0/0 0/1 1/0
            120 complete 1
            200 trigger 2 since 1 Checkpoint at 1000200: 0/0 0/1
            300 trigger 3 since 1 Checkpoint at 1000300: 0/0 0/1
            310 write 3: 0/0 0/1 1/0
            320 aborted 2: checkpoint 3 was complete first
            320 discard 2
            320 complete 3
            320 subsume [(1)], keep [(3)]
            400 trigger 4 since 3 Checkpoint at 1000400: 0/0 0/1
            410 write 4: 0/0 0/1 1/0
            420 aborted 4: the manifest could not be written: no answer
            500 trigger 5 since 3 Checkpoint at 1000500: 0/0 0/1
            510 write 5: 0/0 0/1 1/0
            520 complete 5
            520 subsume [(4), (3)], keep [(5)]
        "#]]);
}

#[test]
fn an_answer_that_comes_twice_changes_nothing() {
    let other = Input::Acknowledged {
        checkpoint: CheckpointId(1),
        subtask: subtask(0, 0),
        part: FileHandle { path: "job/chk-1/other".to_owned(), len: 1, checksum: 1 },
        bases: vec![],
        end_of_data: false,
    };
    Script::new(config())
        .tick(100)
        .on(110, acknowledged(1, subtask(0, 0)))
        .on(111, acknowledged(1, subtask(0, 0)))
        .on(112, other)
        .acknowledge(113, 1)
        .on(120, written(1))
        .on(121, written(1))
        .on(122, acknowledged(1, subtask(0, 0)))
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              112 delete job/chk-1/other
              113 write 1: 0/0 0/1 1/0
              120 complete 1
        "#]]);
}

#[test]
fn several_at_a_time_become_complete_in_order_and_older_ones_are_subsumed() {
    let config = CheckpointConfig { max_concurrent: 3, num_retained: 2, ..config() };
    Script::new(config)
        .tick(100)
        .tick(200)
        .tick(300)
        .tick(400)
        .acknowledge(410, 2)
        .acknowledge(411, 3)
        .on(412, acknowledged(1, subtask(0, 0)))
        .on(420, written(2))
        .on(430, written(3))
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              200 trigger 2 Checkpoint at 1000200: 0/0 0/1
              300 trigger 3 Checkpoint at 1000300: 0/0 0/1
              410 write 2: 0/0 0/1 1/0
              420 aborted 1: checkpoint 2 was complete first
              420 discard 1
              420 complete 2
              420 write 3: 0/0 0/1 1/0
              420 trigger 4 Checkpoint at 1000420: 0/0 0/1
              430 complete 3
        "#]]);
}

#[test]
fn as_many_complete_checkpoints_are_kept_as_asked_for() {
    let config = CheckpointConfig { num_retained: 2, ..config() };
    let mut script = Script::new(config);
    for id in 1..=4 {
        script.tick(100 * id).acknowledge(100 * id + 10, id).on(100 * id + 20, written(id));
    }
    script.text.retain(|c| c != ' ');
    let kept: Vec<_> = script.text.lines().filter(|line| line.contains("subsume")).collect();
    assert_eq!(kept, ["320subsume[(1)],keep[(2),(3)]", "420subsume[(2)],keep[(3),(4)]"]);
    assert_eq!(script.coordinator.latest_complete(), Some(CheckpointId(4)));
}

#[test]
fn files_stay_when_it_is_not_known_whether_the_manifest_was_written() {
    let failed = |id| Input::ManifestFailed {
        checkpoint: CheckpointId(id),
        error: Error::new(ErrorKind::Retry, "no answer"),
    };
    let config = CheckpointConfig { tolerable_failed: 1, ..config() };
    Script::new(config)
        .tick(100)
        .acknowledge(110, 1)
        .on(120, failed(1))
        .on(121, acknowledged(1, subtask(0, 0)))
        .tick(200)
        .acknowledge(210, 2)
        .on(220, written(2))
        .check(expect![[r#"
            100 trigger 1 Checkpoint at 1000100: 0/0 0/1
            110 write 1: 0/0 0/1 1/0
            120 aborted 1: the manifest could not be written: no answer
            200 trigger 2 Checkpoint at 1000200: 0/0 0/1
            210 write 2: 0/0 0/1 1/0
            220 complete 2
            220 subsume [(1)], keep [(2)]
        "#]]);
}

#[test]
fn an_owner_that_was_fenced_off_fails_its_job_and_does_nothing_more() {
    let fenced = Input::ManifestFailed {
        checkpoint: CheckpointId(1),
        error: Error::new(ErrorKind::Fenced, "the job belongs to generation 2"),
    };
    let config = CheckpointConfig { tolerable_failed: 9, ..config() };
    Script::new(config).tick(100).acknowledge(110, 1).on(120, fenced).tick(500).check(expect![[r#"
          100 trigger 1 Checkpoint at 1000100: 0/0 0/1
          110 write 1: 0/0 0/1 1/0
          120 aborted 1: the manifest could not be written: the job belongs to generation 2
          120 fail job (Fenced): the job belongs to generation 2
    "#]]);
}

#[test]
fn checkpoints_go_on_after_tasks_have_finished() {
    Script::new(config())
        .on(50, Input::SubtaskFinished(subtask(0, 0)))
        .tick(100)
        .on(110, acknowledged(1, subtask(0, 1)))
        .on(111, acknowledged(1, subtask(1, 0)))
        .on(120, written(1))
        .on(150, Input::SubtaskFinished(subtask(0, 1)))
        .tick(200)
        .on(210, Input::SubtaskFinished(subtask(1, 0)))
        .tick(300)
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/1
              111 write 1: 0/0(finished) 0/1 1/0
              120 complete 1
              200 trigger 2 Checkpoint at 1000200: 1/0
              210 aborted 2: subtask 1/0 finished meanwhile
              210 discard 2
        "#]]);
    let config = CheckpointConfig { after_tasks_finish: false, ..config() };
    Script::new(config).on(50, Input::SubtaskFinished(subtask(0, 0))).tick(100).check(expect![[""]]);
}

#[test]
fn a_subtask_that_finishes_instead_of_answering_is_no_failure() {
    Script::new(config()).tick(100).on(110, Input::SubtaskFinished(subtask(0, 0))).tick(200).check(expect![
        [r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              110 aborted 1: subtask 0/0 finished meanwhile
              110 discard 1
              200 trigger 2 Checkpoint at 1000200: 0/1
        "#]
    ]);
}

#[test]
fn a_bounded_job_ends_with_a_checkpoint_that_commits_everything() {
    Script::new(config())
        .on(40, Input::EndOfData(subtask(0, 0)))
        .on(50, Input::EndOfData(subtask(0, 1)))
        .on(60, acknowledged_at_end(1, subtask(0, 0)))
        .on(61, acknowledged_at_end(1, subtask(0, 1)))
        .on(62, acknowledged_at_end(1, subtask(1, 0)))
        .on(70, written(1))
        .tick(500)
        .check(expect![[r#"
               50 trigger 1 Checkpoint at 1000050: 0/0 0/1
               62 write 1 final: 0/0(end) 0/1(end) 1/0(end)
               70 complete 1 final
        "#]]);
}

#[test]
fn the_final_checkpoint_waits_for_the_one_before_and_is_tried_again() {
    let config = CheckpointConfig { tolerable_failed: 1, ..config() };
    Script::new(config)
        .tick(100)
        .on(105, Input::EndOfData(subtask(0, 0)))
        .on(106, Input::EndOfData(subtask(0, 1)))
        .acknowledge(110, 1)
        .on(120, written(1))
        .tick(219)
        .tick(220)
        .on(230, declined(2))
        .tick(329)
        .tick(330)
        .check(expect![[r#"
            100 trigger 1 Checkpoint at 1000100: 0/0 0/1
            110 write 1: 0/0 0/1 1/0
            120 complete 1
            120 trigger 2 Checkpoint at 1000120: 0/0 0/1
            230 aborted 2: subtask 1/0 declined: the disk is full
            230 discard 2
            330 trigger 3 Checkpoint at 1000330: 0/0 0/1
        "#]]);
}

#[test]
fn savepoints_are_taken_beside_checkpoints_and_are_nobodys_base() {
    let savepoint = Input::TriggerSavepoint { request: SavepointRequest(7), kind: CheckpointKind::Savepoint };
    Script::new(config())
        .tick(100)
        .on(105, savepoint)
        .acknowledge(110, 1)
        .acknowledge(111, 2)
        .on(120, written(1))
        .on(130, written(2))
        .on(131, acknowledged(2, subtask(0, 0)))
        .tick(200)
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              105 trigger 2 Savepoint at 1000105: 0/0 0/1
              110 write 1: 0/0 0/1 1/0
              120 complete 1
              120 write 2: 0/0 0/1 1/0
              130 savepoint 7 is 2
              200 trigger 3 Checkpoint at 1000200: 0/0 0/1
        "#]]);
}

#[test]
fn a_job_stops_with_a_savepoint_that_also_commits() {
    let stop =
        || Input::TriggerSavepoint { request: SavepointRequest(7), kind: CheckpointKind::SavepointTerminate };
    Script::new(config())
        .tick(100)
        .on(105, stop())
        .on(106, stop())
        .tick(300)
        .acknowledge(310, 2)
        .on(320, written(2))
        .tick(400)
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              105 aborted 1: the job is stopping with a savepoint
              105 discard 1
              105 trigger 2 SavepointTerminate at 1000105: 0/0 0/1
              106 savepoint 7 failed: cannot take a savepoint: the job is already stopping with a savepoint
              310 write 2: 0/0 0/1 1/0
              320 complete 2
              320 savepoint 7 is 2
        "#]]);
}

#[test]
fn a_failed_stop_restarts_the_job() {
    let stop =
        Input::TriggerSavepoint { request: SavepointRequest(7), kind: CheckpointKind::SavepointSuspend };
    Script::new(config())
        .on(50, stop)
        .tick(1_050)
        .on(1_100, Input::JobStopped)
        .on(1_200, Input::JobRestarted(start(5, &[])))
        .tick(1_300)
        .check(expect![[r#"
            50 trigger 1 SavepointSuspend at 1000050: 0/0 0/1
            1050 aborted 1: expired while 3 subtasks had not answered: 0/0, 0/1, 1/0
            1050 discard 1
            1050 savepoint 7 failed: checkpoint 1 was aborted: expired while 3 subtasks had not answered: 0/0, 0/1, 1/0
            1050 fail job (FailSubtask): checkpoint 1 was aborted: expired while 3 subtasks had not answered: 0/0, 0/1, 1/0
            1300 trigger 5 Checkpoint at 1001300: 0/0 0/1
        "#]]);
}

#[test]
fn after_a_restart_nothing_of_before_counts_and_numbers_go_on() {
    let savepoint = Input::TriggerSavepoint { request: SavepointRequest(7), kind: CheckpointKind::Savepoint };
    Script::new(config())
        .tick(100)
        .acknowledge(110, 1)
        .on(115, savepoint)
        .on(120, Input::JobRestarted(start(4, &[1])))
        .on(121, written(1))
        .on(122, acknowledged(1, subtask(0, 0)))
        .on(123, acknowledged(2, subtask(0, 0)))
        .tick(220)
        .acknowledge(230, 4)
        .on(240, written(4))
        .check(expect![[r#"
            100 trigger 1 Checkpoint at 1000100: 0/0 0/1
            110 write 1: 0/0 0/1 1/0
            115 trigger 2 Savepoint at 1000115: 0/0 0/1
            120 aborted 1: the job stopped
            120 aborted 2: the job stopped
            120 discard 2
            120 savepoint 7 failed: checkpoint 2 was aborted: the job stopped
            220 trigger 4 Checkpoint at 1000220: 0/0 0/1
            230 write 4: 0/0 0/1 1/0
            240 complete 4
            240 subsume [(1)], keep [(4)]
        "#]]);
}

#[test]
fn while_a_region_is_down_nothing_is_triggered_and_what_all_have_acknowledged_becomes_complete() {
    let config = CheckpointConfig { max_concurrent: 3, num_retained: 3, ..config() };
    let region = || Input::RegionFailed(BTreeSet::from([subtask(0, 1)]));
    let savepoint = |request| Input::TriggerSavepoint {
        request: SavepointRequest(request),
        kind: CheckpointKind::Savepoint,
    };
    Script::new(config)
        .tick(100)
        .tick(200)
        .tick(300)
        .on(301, Input::EndOfData(subtask(0, 0)))
        .on(301, Input::EndOfData(subtask(0, 1)))
        .acknowledge(310, 1)
        .acknowledge(320, 2)
        .on(330, acknowledged(3, subtask(0, 0)))
        // What the others have acknowledged of checkpoint 3 is of no use without the region.
        .on(340, region())
        .on(341, written(1))
        .on(342, written(2))
        .on(343, savepoint(1))
        .tick(700)
        // Before it runs again it fails again.
        .on(710, region())
        .on(800, Input::RegionRestarted(start(4, &[1, 2])))
        .tick(899)
        // That the region had come to its end is forgotten, that the other has is not.
        .tick(900)
        .on(901, Input::EndOfData(subtask(0, 1)))
        .acknowledge(902, 4)
        .on(903, written(4))
        .check(expect![[r#"
              100 trigger 1 Checkpoint at 1000100: 0/0 0/1
              200 trigger 2 Checkpoint at 1000200: 0/0 0/1
              300 trigger 3 Checkpoint at 1000300: 0/0 0/1
              310 write 1: 0/0 0/1 1/0
              340 aborted 3: a region of the job failed
              340 discard 3
              341 complete 1
              341 write 2: 0/0 0/1 1/0
              342 complete 2
              343 savepoint 1 failed: cannot take a savepoint: a region of the job is being started again
              900 trigger 4 Checkpoint at 1000900: 0/0 0/1
              902 write 4: 0/0 0/1 1/0
              903 complete 4
              903 trigger 5 Checkpoint at 1000903: 0/0 0/1
        "#]]);
}

#[test]
fn a_checkpoint_that_was_asked_for_is_tried_again_soon_until_it_is_complete() {
    let config =
        CheckpointConfig { interval: Some(Duration::from_secs(600)), tolerable_failed: 9, ..config() };
    Script::new(config)
        .on(10, Input::TriggerNow)
        .on(20, declined(1))
        .tick(119)
        .tick(120)
        .on(130, declined(2))
        .tick(329)
        .tick(330)
        .acknowledge(340, 3)
        .on(350, written(3))
        // Nobody waits any more.
        .tick(600_329)
        .tick(600_330)
        .on(600_340, declined(4))
        .tick(1_200_329)
        .tick(1_200_330)
        .check(expect![[r#"
            10 trigger 1 Checkpoint at 1000010: 0/0 0/1
            20 aborted 1: subtask 1/0 declined: the disk is full
            20 discard 1
            120 trigger 2 Checkpoint at 1000120: 0/0 0/1
            130 aborted 2: subtask 1/0 declined: the disk is full
            130 discard 2
            330 trigger 3 Checkpoint at 1000330: 0/0 0/1
            340 write 3: 0/0 0/1 1/0
            350 complete 3
            600330 trigger 4 Checkpoint at 1600330: 0/0 0/1
            600340 aborted 4: subtask 1/0 declined: the disk is full
            600340 discard 4
            1200330 trigger 5 Checkpoint at 2200330: 0/0 0/1
        "#]]);
}

#[test]
fn a_checkpoint_from_before_it_was_asked_for_does_not_do() {
    let config =
        CheckpointConfig { interval: Some(Duration::from_secs(600)), tolerable_failed: 9, ..config() };
    Script::new(config)
        .tick(600_000)
        .on(600_005, Input::TriggerNow)
        .acknowledge(600_010, 1)
        .on(600_020, written(1))
        .on(600_030, declined(2))
        .tick(600_129)
        .tick(600_130)
        .check(expect![[r#"
            600000 trigger 1 Checkpoint at 1600000: 0/0 0/1
            600010 write 1: 0/0 0/1 1/0
            600020 complete 1
            600020 trigger 2 Checkpoint at 1600020: 0/0 0/1
            600030 aborted 2: subtask 1/0 declined: the disk is full
            600030 discard 2
            600130 trigger 3 Checkpoint at 1600130: 0/0 0/1
        "#]]);
}

#[test]
fn a_checkpoint_that_was_asked_for_and_that_a_region_has_failed_is_triggered_when_that_runs_again() {
    let config = CheckpointConfig { interval: Some(Duration::from_secs(600)), ..config() };
    Script::new(config)
        .on(10, Input::TriggerNow)
        .on(20, Input::RegionFailed(BTreeSet::from([subtask(0, 1)])))
        .tick(500)
        .on(600, Input::RegionRestarted(start(2, &[])))
        .check(expect![[r#"
            10 trigger 1 Checkpoint at 1000010: 0/0 0/1
            20 aborted 1: a region of the job failed
            20 discard 1
            600 trigger 2 Checkpoint at 1000600: 0/0 0/1
        "#]]);
}
