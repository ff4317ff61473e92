use super::simulated::{Fault, SimulatedPeer};
use super::{Row, record, records, rows, sink};
use crate::PostgresSink;
use flott_env::sim::Simulation;
use flott_testkit::sink_steps::{SinkAttempt, SinkJob};

const TOTAL: u64 = 3;

/// Where an attempt dies by itself, and what the network does.
#[derive(Clone, Debug, Default)]
struct Plan {
    deaths: Vec<u64>,
    faults: Vec<(u64, Fault)>,
    /// Attempts that died go on later, beside their successor.
    has_zombies: bool,
}

/// Returns the steps of the job and the calls of the database. `is_exact` says that no rows may be there that a restart would take back.
fn run(make: &dyn Fn(&SimulatedPeer) -> PostgresSink<Row>, is_exact: bool, plan: &Plan) -> (u64, u64) {
    let peer = SimulatedPeer::default();
    peer.world().faults = plan.faults.iter().copied().collect();
    let (sink, mut job) = (make(&peer), SinkJob::new(TOTAL, &plan.deaths));
    let mut zombies = Vec::<SinkAttempt<Row, _>>::new();
    for parallelism in [2, 3, 1, 2, 3, 1] {
        job.runs += 1;
        let env = Simulation::new(job.runs).env();
        let started =
            SinkAttempt::start(&sink, &env, (parallelism, job.runs), job.completed.as_ref(), record);
        let Ok(mut attempt) = started else { continue };
        let look = |job: &mut SinkJob| {
            // All that they try is refused, or does no harm.
            for zombie in &mut zombies {
                drop(zombie.write());
                drop(zombie.barrier(job.next_id, false));
                job.next_id += 1;
            }
            let (committed, covered) = (rows(&peer), records(job.covered()));
            if is_exact {
                assert_eq!(committed, covered, "{plan:?}, {job:?}");
            } else {
                assert!(covered.iter().all(|row| committed.contains(row)), "{plan:?}, {job:?}");
            }
        };
        if job.run(&mut attempt, look).is_ok() {
            assert_eq!(rows(&peer), records(TOTAL), "{plan:?}");
            assert!(peer.world().prepared.is_empty(), "{plan:?}");
            return (job.steps, peer.world().n_calls);
        }
        if plan.has_zombies {
            zombies.push(attempt);
        }
    }
    panic!("the job does not end: {plan:?}");
}

fn check(make: impl Fn(&SimulatedPeer) -> PostgresSink<Row>, is_exact: bool) {
    let (n_steps, n_calls) = run(&make, is_exact, &Plan::default());
    assert!(n_steps > 12 && n_calls > 20, "{n_steps} {n_calls}");
    for has_zombies in [false, true] {
        for first in 0..n_steps {
            for second in [first + 1, first + 2, first + 5] {
                run(&make, is_exact, &Plan { deaths: vec![first, second], has_zombies, ..Plan::default() });
            }
        }
        for call in 1..=n_calls {
            for fault in [Fault::LoseRequest, Fault::LoseReply] {
                let faults = vec![(call, fault)];
                run(&make, is_exact, &Plan { faults: faults.clone(), has_zombies, ..Plan::default() });
                let faults = vec![(call, fault), (call + 1, fault), (call + 7, Fault::LoseReply)];
                run(&make, is_exact, &Plan { faults, has_zombies, deaths: vec![n_steps / 2] });
            }
        }
    }
}

#[test]
fn transactional_rows_are_there_once_wherever_the_job_dies() {
    check(|peer| sink(peer).transactional(), true);
}

#[test]
fn eager_rows_of_complete_checkpoints_are_there_once_wherever_the_job_dies() {
    check(|peer| sink(peer).eager(), true);
}

#[test]
fn upserted_rows_are_in_the_end_as_if_nothing_had_died() {
    check(|peer| sink(peer).upsert_by(["source", "n"]), false);
}
