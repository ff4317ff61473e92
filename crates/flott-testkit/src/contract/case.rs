//! Cases: their selection, what they do as text, and the report on all of them.

use flott_env::sim::SimRng;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The kit stops after so many cases that failed: what is wrong is seldom seen better in the hundredth.
const VIOLATIONS_MAX: usize = 3;
/// Of a case that failed, so many of its last steps are shown.
const STEPS_SHOWN_MAX: usize = 200;

/// How many of the cases are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// All: for what is in memory.
    #[default]
    All,
    /// The undisturbed case and, of the others, this many that the seed chooses: for a real server.
    Sample {
        /// The number of cases.
        cases: usize,
        /// What chooses them. The report of a failure names the case, which can be run alone by its name.
        seed: u64,
    },
}

/// Which cases are run.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) budget: Budget,
    pub(super) only: Option<String>,
    /// In the names of the cases.
    pub(super) of: Option<String>,
}

impl Selection {
    fn choose<C>(&self, cases: Vec<C>, name: &impl Fn(&C) -> String) -> Vec<C> {
        if let Some(only) = &self.only {
            return cases.into_iter().filter(|case| name(case) == *only).collect();
        }
        let of = self.of.as_deref().unwrap_or_default();
        let cases: Vec<C> = cases.into_iter().filter(|case| name(case).contains(of)).collect();
        let Budget::Sample { cases: n_wanted, seed } = self.budget else { return cases };
        let mut rng = SimRng::new(seed);
        let mut idx: Vec<usize> = (1..cases.len()).collect();
        for last in (1..idx.len()).rev() {
            idx.swap(last, rng.below(last as u64 + 1) as usize);
        }
        idx.truncate(n_wanted);
        cases
            .into_iter()
            .enumerate()
            .filter(|(at, _)| *at == 0 || idx.contains(at))
            .map(|(_, case)| case)
            .collect()
    }
}

/// What happened in a case, as text.
#[derive(Debug, Default)]
pub(super) struct CaseLog {
    steps: Vec<String>,
}

impl CaseLog {
    pub(super) fn note(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }
}

/// A case in which a connector broke its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractViolation {
    /// The name of the case, which runs it alone.
    pub case: String,
    /// What was promised and what was seen.
    pub message: String,
    /// What was done, in order.
    pub steps: Vec<String>,
}

impl fmt::Display for ContractViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "case {}: {}", self.case, self.message)?;
        let n_hidden = self.steps.len().saturating_sub(STEPS_SHOWN_MAX);
        if n_hidden > 0 {
            writeln!(f, "    … {n_hidden} earlier steps")?;
        }
        self.steps.iter().skip(n_hidden).try_for_each(|step| writeln!(f, "    {step}"))
    }
}

/// What was run, if nothing was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractReport {
    /// The names of the cases.
    pub cases: Vec<String>,
    /// What could not be looked at, since the subject has no hook for it.
    pub left_out: Vec<String>,
}

/// The contract is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractFailure {
    /// In which cases; the kit stops after a few.
    pub violations: Vec<ContractViolation>,
}

impl fmt::Display for ContractFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.violations.iter().try_for_each(|violation| write!(f, "{violation}"))
    }
}

impl std::error::Error for ContractFailure {}

impl ContractFailure {
    pub(super) fn before_the_first_case(message: String) -> Self {
        Self::of_case("(preparation)".to_owned(), message, CaseLog::default())
    }

    pub(super) fn of_case(case: String, message: String, log: CaseLog) -> Self {
        Self { violations: vec![ContractViolation { case, message, steps: log.steps }] }
    }
}

/// Runs the chosen ones of `cases`.
pub(super) fn run_all<C>(
    cases: Vec<C>,
    selection: &Selection,
    left_out: Vec<String>,
    name: impl Fn(&C) -> String,
    mut run: impl FnMut(&C, &mut CaseLog) -> Result<(), String>,
) -> Result<ContractReport, ContractFailure> {
    let chosen = selection.choose(cases, &name);
    if let (Some(name), true) = (selection.only.as_ref().or(selection.of.as_ref()), chosen.is_empty()) {
        return Err(ContractFailure::before_the_first_case(format!("there is no case {name}")));
    }
    let (mut report, mut violations) = (ContractReport { cases: Vec::new(), left_out }, Vec::new());
    for case in chosen {
        let mut log = CaseLog::default();
        let held = catch_unwind(AssertUnwindSafe(|| run(&case, &mut log)));
        let held = held.unwrap_or_else(|panic| Err(format!("it panicked: {}", text_of(panic.as_ref()))));
        match held {
            Ok(()) => report.cases.push(name(&case)),
            Err(message) => {
                violations.push(ContractViolation { case: name(&case), message, steps: log.steps });
                if violations.len() >= VIOLATIONS_MAX {
                    break;
                }
            }
        }
    }
    if violations.is_empty() { Ok(report) } else { Err(ContractFailure { violations }) }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "with no text".to_owned())
}
