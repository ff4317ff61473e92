//! Which cases there are.

use super::{SinkContract, SinkFault, SinkPromise};

/// From where the job goes on after its first death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// The last complete checkpoint.
    LastCheckpoint,
    /// A savepoint before that, if there is one; numbers of checkpoints come again.
    OlderSavepoint,
    /// Nothing, with the same job id; numbers of checkpoints come again.
    Nothing,
    /// The job goes on; only one subtask goes back to the last complete checkpoint.
    OneSubtask,
}

/// What becomes of an attempt that has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// It is dropped at once.
    Dropped,
    /// It is there until the end, and does nothing.
    Silent,
    /// It goes on, when its successor has made this many steps.
    WakesAfter(u64),
}

/// How commits are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// Each once.
    Once,
    /// Each again at once, and again with those of all earlier checkpoints by another subtask.
    Again,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SinkCase {
    pub(super) resume: Resume,
    pub(super) remains: Remains,
    pub(super) commits: Commits,
    /// Between which steps an attempt dies, counted over the life of the job.
    pub(super) deaths: Vec<u64>,
    /// A fault, and at which request or step.
    pub(super) fault: Option<(SinkFault, u64)>,
    /// How many last checkpoints are aborted.
    pub(super) n_last_aborted: u64,
    pub(super) has_checkpoints: bool,
    /// Whether there are records between the others that the sink rejects.
    pub(super) has_bad_records: bool,
}

impl SinkCase {
    pub(super) fn undisturbed() -> Self {
        Self {
            resume: Resume::LastCheckpoint,
            remains: Remains::Dropped,
            commits: Commits::Once,
            deaths: Vec::new(),
            fault: None,
            n_last_aborted: 0,
            has_checkpoints: true,
            has_bad_records: false,
        }
    }

    fn dies_at(deaths: &[u64]) -> Self {
        Self { deaths: deaths.to_vec(), ..Self::undisturbed() }
    }

    pub(super) fn name(&self) -> String {
        let mut parts = Vec::new();
        if !self.has_checkpoints {
            parts.push("without-checkpoints".to_owned());
        }
        if self.has_bad_records {
            parts.push("bad-records".to_owned());
        }
        parts.extend(self.deaths.iter().map(|at| format!("death-{at}")));
        match self.resume {
            Resume::LastCheckpoint => {}
            Resume::OlderSavepoint => parts.push("older-savepoint".to_owned()),
            Resume::Nothing => parts.push("from-nothing".to_owned()),
            Resume::OneSubtask => parts.push("one-subtask".to_owned()),
        }
        match self.remains {
            Remains::Dropped => {}
            Remains::Silent => parts.push("hangs".to_owned()),
            Remains::WakesAfter(steps) => parts.push(format!("zombie-{steps}")),
        }
        if self.commits == Commits::Again {
            parts.push("commits-again".to_owned());
        }
        if self.n_last_aborted > 0 {
            parts.push(format!("last-aborted-{}", self.n_last_aborted));
        }
        match self.fault {
            None => {}
            Some((SinkFault::FailRequest, at)) => parts.push(format!("request-{at}-fails")),
            Some((SinkFault::LoseReply, at)) => parts.push(format!("reply-{at}-lost")),
            Some((SinkFault::LateRequest { by }, at)) => parts.push(format!("request-{at}-late-by-{by}")),
            Some((SinkFault::DuplicateRequest { by }, at)) => {
                parts.push(format!("request-{at}-again-after-{by}"))
            }
            Some((SinkFault::Disconnect, at)) => parts.push(format!("disconnect-{at}")),
            Some((SinkFault::Restart, at)) => parts.push(format!("server-restart-{at}")),
            Some((SinkFault::Expire, _)) => parts.push("expired".to_owned()),
        }
        if parts.is_empty() { "undisturbed".to_owned() } else { parts.join("/") }
    }
}

/// What is known from the case that nothing disturbs.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) n_steps: u64,
    pub(super) n_requests: Option<u64>,
    pub(super) faults: Vec<SinkFault>,
    pub(super) promise: SinkPromise,
    /// Whether there are records that it rejects.
    pub(super) rejects: bool,
}

impl Measured {
    pub(super) fn left_out(&self) -> Vec<String> {
        let like = |fault| std::mem::discriminant::<SinkFault>(fault);
        let all = [
            (SinkFault::FailRequest, "requests that fail"),
            (SinkFault::LoseReply, "lost replies"),
            (SinkFault::LateRequest { by: 0 }, "requests that arrive late"),
            (SinkFault::DuplicateRequest { by: 0 }, "requests that arrive twice"),
            (SinkFault::Disconnect, "broken connections"),
            (SinkFault::Restart, "a server that is started again"),
            (SinkFault::Expire, "what was prepared and has expired"),
        ];
        let has = |fault| self.faults.iter().any(|known| like(known) == like(fault));
        let missing = all.iter().filter(|(fault, _)| !has(fault));
        let bad_records = (!self.rejects).then_some("records that the sink rejects");
        missing.map(|(_, what)| *what).chain(bad_records).map(str::to_owned).collect()
    }
}

/// How many steps of its successor an attempt sleeps that is believed dead: it wakes up when that has been made and not yet taken over, is
/// taking over, writes, prepares, and has committed.
const NAPS: [u64; 7] = [0, 2, 5, 9, 14, 20, 30];

/// All cases, the simplest first.
pub(super) fn cases(measured: &Measured) -> Vec<SinkCase> {
    let base = SinkCase::undisturbed();
    let steps = 0..measured.n_steps;
    let mut cases = vec![
        base.clone(),
        SinkCase { commits: Commits::Again, ..base.clone() },
        SinkCase { has_checkpoints: false, ..base.clone() },
    ];
    if measured.rejects {
        let bad = SinkCase { has_bad_records: true, ..base.clone() };
        cases.extend([bad.clone(), SinkCase { has_checkpoints: false, ..bad.clone() }]);
        cases.extend(steps.clone().map(|at| SinkCase { deaths: vec![at], ..bad.clone() }));
    }
    cases.extend((1..3).map(|n_last_aborted| SinkCase { n_last_aborted, ..base.clone() }));
    let resumes = [Resume::LastCheckpoint, Resume::OneSubtask, Resume::OlderSavepoint, Resume::Nothing];
    for resume in resumes {
        for remains in [Remains::Dropped, Remains::Silent] {
            cases.extend(steps.clone().map(|at| SinkCase { resume, remains, ..SinkCase::dies_at(&[at]) }));
        }
    }
    cases.extend(steps.clone().map(|at| SinkCase {
        commits: Commits::Again,
        n_last_aborted: at % 2,
        ..SinkCase::dies_at(&[at])
    }));
    for pause in [1, 2, 3, 5, 8, 13] {
        cases.extend(steps.clone().map(|at| SinkCase::dies_at(&[at, at + pause])));
    }
    // A sink that promises nothing about who writes twice has nothing to say about those who do.
    if measured.promise != SinkPromise::AtLeastOnce {
        for nap in NAPS {
            let remains = Remains::WakesAfter(nap);
            for resume in [Resume::LastCheckpoint, Resume::OneSubtask] {
                cases.extend(steps.clone().map(|at| SinkCase {
                    resume,
                    remains,
                    ..SinkCase::dies_at(&[at])
                }));
            }
        }
    }
    measured.faults.iter().for_each(|fault| cases.extend(with_fault(measured, *fault)));
    cases
}

fn with_fault(measured: &Measured, fault: SinkFault) -> Vec<SinkCase> {
    let n_requests = measured.n_requests.unwrap_or(SinkContract::REQUESTS_UNKNOWN);
    let faulty = |at| SinkCase { fault: Some((fault, at)), ..SinkCase::undisturbed() };
    match fault {
        SinkFault::FailRequest
        | SinkFault::LoseReply
        | SinkFault::LateRequest { .. }
        | SinkFault::DuplicateRequest { .. } => (0..n_requests).map(faulty).collect(),
        SinkFault::Disconnect | SinkFault::Restart => (0..measured.n_steps).map(faulty).collect(),
        SinkFault::Expire => {
            (0..measured.n_steps).map(|at| SinkCase { deaths: vec![at], ..faulty(0) }).collect()
        }
    }
}
