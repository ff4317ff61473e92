use super::simulated::{Fault, SimulatedPeer};
use super::{Attempt, Checkpoint, Row, records, rows, sink};
use crate::PostgresSink;
use flott_api::UserResult;

const TOTAL: i64 = 3;

/// Where an attempt dies by itself, and what the network does.
#[derive(Clone, Debug, Default)]
struct Plan {
    deaths: Vec<u64>,
    faults: Vec<(u64, Fault)>,
    /// Attempts that died go on later, beside their successor.
    has_zombies: bool,
}

struct Job {
    sink: PostgresSink<Row>,
    peer: SimulatedPeer,
    /// Whether rows may be there that a restart would take back.
    is_exact: bool,
    completed: Option<Checkpoint>,
    next_id: u64,
    runs: u64,
    steps: u64,
    plan: Plan,
    zombies: Vec<Attempt>,
}

impl Job {
    fn step(&mut self) -> UserResult {
        self.steps += 1;
        if self.plan.deaths.contains(&(self.steps - 1)) { Err("died".into()) } else { Ok(()) }
    }

    /// All that they try is refused, or does no harm.
    fn wake_zombies(&mut self) {
        for zombie in &mut self.zombies {
            drop(zombie.write());
            drop(zombie.barrier(self.next_id, false));
            self.next_id += 1;
        }
    }

    fn attempt(&mut self, parallelism: u32) -> UserResult {
        self.runs += 1;
        let mut attempt = Attempt::start(&self.sink, parallelism, self.runs, self.completed.as_ref())?;
        self.wake_zombies();
        self.check();
        let result = self.run(&mut attempt);
        if result.is_err() && self.plan.has_zombies {
            self.zombies.push(attempt);
        }
        result
    }

    fn run(&mut self, attempt: &mut Attempt) -> UserResult {
        loop {
            self.step()?;
            let is_final = attempt.chunks >= TOTAL;
            if is_final {
                attempt.finish()?
            } else {
                attempt.write()?
            }
            self.step()?;
            let checkpoint = attempt.barrier(self.next_id, is_final)?;
            self.next_id += 1;
            self.step()?;
            // Every third is aborted.
            if self.next_id.is_multiple_of(3) && !is_final {
                continue;
            }
            self.completed = Some(checkpoint);
            for idx in 0..attempt.subtasks.len() {
                self.step()?;
                attempt.subtasks[idx].commit()?;
            }
            self.wake_zombies();
            self.check();
            if is_final {
                return Ok(());
            }
        }
    }

    fn check(&self) {
        let committed = rows(&self.peer);
        let covered = records(self.completed.as_ref().map_or(0, |checkpoint| checkpoint.chunks));
        if self.is_exact {
            assert_eq!(committed, covered, "{:?} after {:?}", self.plan, self.completed);
        } else {
            assert!(covered.iter().all(|row| committed.contains(row)), "after {:?}", self.completed);
        }
    }
}

/// Returns the steps of the job and the calls of the database.
fn run(make: &dyn Fn(&SimulatedPeer) -> PostgresSink<Row>, is_exact: bool, plan: &Plan) -> (u64, u64) {
    let peer = SimulatedPeer::default();
    peer.world().faults = plan.faults.iter().copied().collect();
    let (sink, plan) = (make(&peer), plan.clone());
    let zombies = Vec::new();
    let mut job = Job { sink, peer, is_exact, completed: None, next_id: 1, runs: 0, steps: 0, plan, zombies };
    for parallelism in [2, 3, 1, 2, 3, 1] {
        if job.attempt(parallelism).is_ok() {
            assert_eq!(rows(&job.peer), records(TOTAL), "{:?}", job.plan);
            assert!(job.peer.world().prepared.is_empty(), "{:?}", job.plan);
            return (job.steps, job.peer.world().n_calls);
        }
    }
    panic!("the job does not end: {:?}", job.plan);
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
