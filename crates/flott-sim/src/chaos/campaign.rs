//! Many rounds, some at a time.

use super::counts::Counts;
use super::disk::in_own_namespace;
use super::round::{self, Outcome};
use crate::record::mix;
use flott_env::{Env, Instant};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The mark of a process that has a namespace of mounts to itself.
pub(crate) const IN_NAMESPACE: &str = "--in-namespace";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// This program, which is also the victim.
    pub binary: PathBuf,
    /// The first round has this seed.
    pub seed: u64,
    /// Faults, over all rounds.
    pub faults: u64,
    /// No round begins later than this, and no fault comes.
    pub time: Duration,
    /// Rounds at a time.
    pub jobs: usize,
    /// Whether small disks can be mounted.
    pub may_mount: bool,
    /// Where everything is.
    pub base: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: Counts,
    next_round: u64,
    until: Option<(Env, Instant)>,
    failures: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct ChaosReport {
    /// A table and sums.
    pub text: String,
    /// What was wrong, by round.
    pub failures: Vec<String>,
    /// Faults that came.
    pub n_faults: u64,
}

impl Chaos {
    /// Chaos in processes of `binary`.
    pub fn new(binary: PathBuf, seed: u64, faults: u64, time: Duration) -> Self {
        let base = std::env::temp_dir().join(format!("flott-chaos-{}", std::process::id()));
        Self { binary, seed, faults, time, jobs: 2, may_mount: false, base, shared: Arc::default() }
    }

    /// Runs this program with `args` again where it may mount small disks; `None` if it may nowhere, else whether it came out right.
    pub fn in_namespace(&self, args: &[String]) -> Option<bool> {
        let (program, before) = in_own_namespace()?.split_first()?;
        let mut command = Command::new(program);
        command.args(before).arg(&self.binary).args(args).arg(IN_NAMESPACE);
        Some(command.status().is_ok_and(|status| status.success()))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is time for more faults than all rounds together, this one with `so_far`, have had.
    pub(crate) fn wants_more(&self, so_far: &Counts) -> bool {
        let shared = self.lock();
        let is_late = shared.until.as_ref().is_some_and(|(env, until)| env.now() >= *until);
        shared.failures.is_empty() && !is_late && shared.counts.n_faults() + so_far.n_faults() < self.faults
    }

    /// Runs rounds until there were enough faults, the time is over, or something was wrong.
    #[expect(clippy::disallowed_methods, reason = "real processes take real time, on threads of their own")]
    pub fn run(&self, env: &Env) -> ChaosReport {
        self.lock().until = Some((env.clone(), env.now() + self.time));
        let work = || {
            while self.wants_more(&Counts::default()) {
                self.round(env);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(work);
            }
        });
        let mut shared = self.lock();
        let failures = std::mem::take(&mut shared.failures);
        if failures.is_empty() {
            remove(&self.base);
        }
        ChaosReport { text: shared.counts.to_string(), n_faults: shared.counts.n_faults(), failures }
    }

    fn round(&self, env: &Env) {
        let number = {
            let mut shared = self.lock();
            shared.next_round += 1;
            shared.next_round - 1
        };
        let dir = self.base.join(number.to_string());
        let Outcome { counts, failure } = round::run(self, env, mix(self.seed, number), &dir);
        let mut shared = self.lock();
        shared.counts.add(&counts);
        match failure {
            Some(failure) => shared.failures.push(format!("round {number}, {}: {failure}", dir.display())),
            None => remove(&dir),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what is left of real files is removed")]
fn remove(dir: &std::path::Path) {
    drop(std::fs::remove_dir_all(dir));
}
