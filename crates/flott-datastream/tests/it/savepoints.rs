//! Savepoints: taken while the job goes on, to stop it, and to go on from, at another parallelism too.

use crate::checkpoints::{
    COUNT, Kills, N_SPLITS, Row, configure, expected_rows, finished, numbers, source, windows,
};
use crate::support::{directory, real, simulated};
use crate::transactional::Transactions;
use flott_api::windowing::{
    CountTrigger, GlobalWindow, GlobalWindows, ProcessingTimeoutTrigger, PurgingTrigger,
};
use flott_api::{Collector, WindowContext};
use flott_coordinator::JobStatus;
use flott_datastream::{AtStop, StreamExecutionEnvironment};
use flott_types::{RecoveryClaimMode, options};
use std::time::Duration;

/// The job of the savepoint tests, in `dir`.
fn savepoint_job(
    env: &mut StreamExecutionEnvironment,
    dir: &str,
    recovery: Option<String>,
    kills: &[u64],
    sink: &Transactions<Row>,
) -> flott_datastream::JobClient {
    env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(dir.to_owned()));
    env.set(options::STATE_RECOVERY_PATH, recovery);
    windows(&source(env, N_SPLITS, COUNT, "numbers"), &Kills::at(kills), sink);
    env.execute_async("savepoint").unwrap()
}

#[test]
fn a_job_stops_with_a_savepoint_and_goes_on_from_it_at_another_parallelism() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    for (before, after, interval) in [(1, 3, true), (3, 2, true), (2, 1, false), (2, 2, false)] {
        // How far a real job is after a while depends on the machine, and whether it comes to the second failure before it has stopped for the
        // first.
        for (mut env, is_real) in [(simulated(before, 11), false), (real(before), true)] {
            if interval {
                configure(&mut env, 10);
            }
            let (sink, dir) = (Transactions::new(), directory(&env));
            let client = savepoint_job(&mut env, &dir, None, &[], &sink);
            let (handle, world) = (client.savepoints(), env.env().clone());
            let (path, stopped) = env.env().block_on(async move {
                world.sleep(Duration::from_millis(40)).await;
                let path = handle.stop_with_savepoint(None, AtStop::Suspend).await;
                (path.unwrap(), client.result().await)
            });
            finished(stopped);
            let of_first = sink.committed().len();
            assert!(
                (usize::from(!is_real)..expected.len()).contains(&of_first),
                "{of_first} rows were committed before the stop"
            );
            env.set_parallelism(after);
            // Killed before its first checkpoint, if it takes any, and after: it goes on from the savepoint, and from its own.
            let kills: &[u64] = if interval { &[1, 300] } else { &[] };
            let client = savepoint_job(&mut env, &dir, Some(path), kills, &sink);
            let result = finished(client.wait());
            let restarts_min = if is_real { kills.len().min(1) } else { kills.len() };
            assert!(
                (restarts_min..=kills.len()).contains(&(result.restarts as usize)),
                "{}",
                result.restarts
            );
            assert_eq!(sink.committed(), expected, "from parallelism {before} to {after}");
            assert!(sink.attempts().iter().filter(|it| **it != "0 from nothing").count() >= after as usize);
        }
    }
}

#[test]
fn a_savepoint_commits_nothing_and_can_be_copied_elsewhere() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    let mut env = simulated(2, 12);
    let (sink, dir) = (Transactions::new(), directory(&env));
    let client = savepoint_job(&mut env, &dir, None, &[], &sink);
    let (handle, canceler, world) = (client.savepoints(), client.canceler(), env.env().clone());
    let elsewhere = format!("{dir}-elsewhere");
    let to = elsewhere.clone();
    let path = env.env().block_on(async move {
        world.sleep(Duration::from_millis(40)).await;
        handle.trigger_savepoint(None).await.unwrap();
        let path = handle.trigger_savepoint(Some(&to)).await.unwrap();
        canceler.cancel().await;
        client.result().await.unwrap();
        path
    });
    assert!(path.starts_with(&elsewhere), "{path}");
    assert_eq!(sink.n_commits(), 0);
    env.set_parallelism(3);
    finished(savepoint_job(&mut env, &dir, Some(path), &[], &sink).wait());
    assert_eq!(sink.committed(), expected);
}

#[test]
fn a_savepoint_that_the_job_has_claimed_is_gone_at_its_end_and_another_stays() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    for mode in [RecoveryClaimMode::Claim, RecoveryClaimMode::NoClaim] {
        let mut env = simulated(2, 15);
        configure(&mut env, 10);
        let (sink, dir) = (Transactions::new(), directory(&env));
        let client = savepoint_job(&mut env, &dir, None, &[], &sink);
        let (handle, world) = (client.savepoints(), env.env().clone());
        let path = env.env().block_on(async move {
            world.sleep(Duration::from_millis(15)).await;
            let path = handle.stop_with_savepoint(None, AtStop::Suspend).await.unwrap();
            client.result().await.unwrap();
            path
        });
        env.set(options::STATE_RECOVERY_CLAIM_MODE, mode);
        env.set_parallelism(3);
        // Before it has a checkpoint of its own, and after.
        let result = finished(savepoint_job(&mut env, &dir, Some(path.clone()), &[1, 100], &sink).wait());
        assert!(result.restarts > 0);
        assert_eq!(sink.committed(), expected);
        let is_there = env.env().fs().metadata(path.as_ref()).is_ok();
        assert_eq!(is_there, mode == RecoveryClaimMode::NoClaim, "{mode:?}");
    }
}

#[test]
fn a_drained_job_fires_its_windows_and_commits_them() {
    let mut env = simulated(2, 13);
    configure(&mut env, 10);
    let (sink, dir) = (Transactions::new(), directory(&env));
    let client = savepoint_job(&mut env, &dir, None, &[], &sink);
    let (handle, world) = (client.savepoints(), env.env().clone());
    let stopped = env.env().block_on(async move {
        world.sleep(Duration::from_millis(40)).await;
        handle.stop_with_savepoint(None, AtStop::Drain).await.unwrap();
        client.result().await
    });
    let result = finished(stopped);
    let read = result.operators[0].records_out;
    let counted: u64 = sink.committed().iter().map(|row| row.2).sum();
    assert_eq!(counted, read, "every record that was read is in a committed window");
    assert!(read > 0 && read < u64::from(N_SPLITS) * COUNT);
    // Without a directory there is none, and that is said.
    let mut env = simulated(1, 14);
    configure(&mut env, 10);
    windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &Transactions::new());
    let client = env.execute_async("nowhere").unwrap();
    let handle = client.savepoints();
    let (refused, ended) =
        env.env().block_on(async move { (handle.trigger_savepoint(None).await, client.result().await) });
    assert!(refused.unwrap_err().to_string().contains("set 'execution.checkpointing.savepoint-dir'"));
    finished(ended);
}

/// Counts records by key in windows that nothing but the end of the input fires.
fn wall_clock_job(
    env: &mut StreamExecutionEnvironment,
    dir: &str,
    recovery: Option<String>,
    sink: &Transactions<(u64, u64)>,
) -> flott_datastream::JobClient {
    env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(dir.to_owned()));
    env.set(options::STATE_RECOVERY_PATH, recovery);
    let ages = Duration::from_hours(24 * 10_000);
    let full_or_late = ProcessingTimeoutTrigger::of(CountTrigger::of(u64::MAX), ages);
    source(env, N_SPLITS, COUNT, "numbers")
        .key_by(|record| record.1 % 7)
        .window(GlobalWindows)
        .trigger(PurgingTrigger::of(full_or_late))
        .process(
            |key: &u64, _: &WindowContext<'_, GlobalWindow>, records: Vec<_>, out: &mut Collector<'_, _>| {
                out.collect((*key, records.len() as u64));
                Ok(())
            },
        )
        .uid("windows")
        .sink_to(sink.clone())
        .uid("sink");
    env.execute_async("wall clock").unwrap()
}

#[test]
fn windows_over_the_wall_clock_fire_when_the_input_ends_or_is_drained_and_not_at_a_savepoint() {
    let total = u64::from(N_SPLITS) * COUNT;
    let mut expected = std::collections::BTreeMap::new();
    numbers(N_SPLITS, COUNT).for_each(|record| *expected.entry(record.1 % 7).or_insert(0) += 1);
    let expected: Vec<(u64, u64)> = expected.into_iter().collect();
    for (at_stop, parallelism) in [(AtStop::Suspend, 2), (AtStop::Drain, 2), (AtStop::Suspend, 3)] {
        let mut env = simulated(2, 17);
        configure(&mut env, 10);
        let (sink, dir) = (Transactions::new(), directory(&env));
        let client = wall_clock_job(&mut env, &dir, None, &sink);
        let (handle, world) = (client.savepoints(), env.env().clone());
        let (path, stopped) = env.env().block_on(async move {
            world.sleep(Duration::from_millis(40)).await;
            let path = handle.stop_with_savepoint(None, at_stop).await;
            (path.unwrap(), client.result().await)
        });
        let read = finished(stopped).operators[0].records_out;
        assert!(read > 0 && read < total);
        let counted: u64 = sink.committed().iter().map(|(_, count)| count).sum();
        if matches!(at_stop, AtStop::Drain) {
            assert_eq!(counted, read, "every record that was read is in a committed window");
            continue;
        }
        assert_eq!(counted, 0, "the windows go on");
        env.set_parallelism(parallelism);
        finished(wall_clock_job(&mut env, &dir, Some(path), &sink).wait());
        assert_eq!(sink.committed(), expected, "at parallelism {parallelism}");
    }
}

#[test]
fn a_savepoint_that_is_asked_for_too_early_waits_until_the_job_runs() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    // Before it has started, and while it restarts.
    for (kills, until) in [(vec![], None), (vec![1], Some(JobStatus::Restarting))] {
        for mut env in [simulated(2, 21), real(2)] {
            configure(&mut env, 10);
            let (sink, dir) = (Transactions::new(), directory(&env));
            let client = savepoint_job(&mut env, &dir, None, &kills, &sink);
            let (handle, mut status) = (client.savepoints(), client.status_changes());
            let (path, ended) = env.env().block_on(async move {
                status.wait_for(|status| until.is_none_or(|until| *status == until)).await.unwrap();
                let path = handle.trigger_savepoint(None).await;
                (path, client.result().await)
            });
            let path = path.expect("nobody has to wait for the job before asking");
            assert!(path.starts_with(&dir), "{path}");
            assert_eq!(finished(ended).counts.restarts as usize, kills.len());
            assert_eq!(sink.committed(), expected);
        }
    }
}

#[test]
fn who_waits_for_a_savepoint_of_a_job_that_never_runs_is_told_why() {
    let mut env = simulated(1, 22);
    let (sink, dir) = (Transactions::new(), directory(&env));
    let client = savepoint_job(&mut env, &dir, Some(format!("{dir}/nowhere")), &[], &sink);
    let handle = client.savepoints();
    let (error, ended) = env.env().block_on(async move {
        let taken = handle.trigger_savepoint(None).await;
        (taken.expect_err("the job cannot start"), client.result().await)
    });
    assert!(ended.is_err());
    assert!(error.to_string().contains("cannot take a savepoint: the job has failed"), "{error}");
}
