//! The sink dies everywhere; what it has committed is what complete checkpoints cover, no more and no less.

use super::harness::{BASE, Job, hidden, lines, records};
use crate::{FileSink, RollingPolicy};
use flott_env::sim::{CrashMode, Fault, FaultEffect, MemoryFs};

const TOTAL: u64 = 4;

fn sink() -> FileSink<String> {
    FileSink::lines(BASE)
        .rolling(RollingPolicy::never().max_part_size(30))
        .partition_by(|record: &String| record.split('-').next().unwrap_or_default().to_owned())
}

/// Runs the job until it has ended, with a power failure after each death.
pub(super) fn run_to_end(job: &mut Job, mode: CrashMode, first_parallelism: u32) {
    let mut parallelism = first_parallelism;
    for _ in 0..10 {
        if job.attempt(parallelism).is_ok() {
            job.disk.crash(CrashMode::LoseUnsynced);
            assert_eq!(lines(&job.disk), records(TOTAL), "what was committed is durable");
            assert_eq!(hidden(&job.disk), [""; 0], "nothing is left");
            return;
        }
        job.disk.crash(mode);
        parallelism = parallelism % 3 + 1;
    }
    panic!("the job does not end");
}

#[test]
fn a_death_between_any_two_steps_loses_and_doubles_nothing() {
    let mut job = Job::new(sink(), MemoryFs::default(), TOTAL, &[]);
    run_to_end(&mut job, CrashMode::LoseUnsynced, 2);
    let n_steps = job.steps.steps;
    assert!(n_steps > 20);
    for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Random(3)] {
        for first in 0..n_steps {
            for second in first + 1..first + 12 {
                let deaths = &[first, second];
                run_to_end(&mut Job::new(sink(), MemoryFs::default(), TOTAL, deaths), mode, 2);
            }
        }
    }
}

#[test]
fn a_power_failure_at_any_operation_on_the_disk_loses_and_doubles_nothing() {
    let mut job = Job::new(sink(), MemoryFs::default(), TOTAL, &[]);
    run_to_end(&mut job, CrashMode::LoseUnsynced, 2);
    let n_operations = job.disk.operations();
    assert!(n_operations > 100);
    for at in 0..n_operations {
        for effect in [FaultEffect::Before, FaultEffect::After, FaultEffect::AppliedButError] {
            for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Random(at)] {
                let disk = MemoryFs::default();
                disk.set_fault(Some(Fault { at, effect, halts: true }));
                run_to_end(&mut Job::new(sink(), disk, TOTAL, &[]), mode, 2);
            }
        }
    }
}

#[test]
fn a_power_failure_during_the_recovery_from_a_power_failure_loses_and_doubles_nothing() {
    let mut job = Job::new(sink(), MemoryFs::default(), TOTAL, &[]);
    run_to_end(&mut job, CrashMode::LoseUnsynced, 2);
    let n_operations = job.disk.operations();
    for at in 0..n_operations {
        for later in 0..25 {
            let disk = MemoryFs::default();
            disk.set_fault(Some(Fault { at, effect: FaultEffect::After, halts: true }));
            let mut job = Job::new(sink(), disk.clone(), TOTAL, &[]);
            if job.attempt(2).is_ok() {
                // The fault came with the very last operation.
                continue;
            }
            disk.crash(CrashMode::Random(at * 31 + later));
            let second =
                Fault { at: disk.operations() + later, effect: FaultEffect::AppliedButError, halts: true };
            disk.set_fault(Some(second));
            run_to_end(&mut job, CrashMode::Random(later), 3);
        }
    }
}

#[test]
fn an_operation_that_fails_or_whose_answer_is_lost_fails_the_attempt_and_loses_nothing() {
    let mut job = Job::new(sink(), MemoryFs::default(), TOTAL, &[]);
    run_to_end(&mut job, CrashMode::LoseUnsynced, 2);
    let n_operations = job.disk.operations();
    for at in 0..n_operations {
        for effect in [FaultEffect::Before, FaultEffect::AppliedButError] {
            let disk = MemoryFs::default();
            disk.set_fault(Some(Fault { at, effect, halts: false }));
            run_to_end(&mut Job::new(sink(), disk, TOTAL, &[]), CrashMode::KeepUnsynced, 1);
        }
    }
}
