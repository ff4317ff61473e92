//! What is measured: scenarios, their cases, and the contenders that run them.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::clock;
use crate::hash::result_hash;

/// One table of the report per case: the same program for all contenders.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// How many records a run has unless the command line says otherwise.
    pub(crate) records: u64,
    pub(crate) cases: Vec<Case>,
}

/// A scenario with its parameters fixed.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The first contender is the reference that all others are divided by.
    pub(crate) contenders: Vec<Contender>,
}

/// Who wrote the program of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// A loop without any engine.
    Handwritten,
    /// The crate `timely`.
    Timely,
    /// The crate `renoir`.
    Renoir,
    /// This project.
    Flott,
    /// The crate `fjall`, a store.
    Fjall,
    /// Nothing but the making of records: the ceiling of all.
    Generator,
}

/// Runs `records` records at a parallelism.
type Run = Box<dyn Fn(u64, usize) -> Outcome>;

/// One way to run a case.
pub(crate) struct Contender {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    pub(crate) note: Option<&'static str>,
    /// Why the results are known to differ from the reference; then they are reported, not refused.
    pub(crate) known_wrong: Option<&'static str>,
    /// Whether the results have to be those of the others.
    pub(crate) is_compared: bool,
    /// More records would take too long; the rate is that of these.
    pub(crate) records_max: u64,
    pub(crate) run: Run,
}

impl Contender {
    pub(crate) fn new(
        family: Family,
        name: &'static str,
        run: impl Fn(u64, usize) -> Outcome + 'static,
    ) -> Self {
        Self {
            family,
            name,
            note: None,
            known_wrong: None,
            is_compared: true,
            records_max: u64::MAX,
            run: Box::new(run),
        }
    }

    /// Adds a line below the table.
    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    /// Exempts the contender from the comparison of checksums, and says why.
    pub(crate) fn known_wrong(mut self, why: &'static str) -> Self {
        self.known_wrong = Some(why);
        self.is_compared = false;
        self
    }

    /// Exempts the contender from the comparison of checksums: it is there for its rate, and computes something else.
    pub(crate) fn not_compared(mut self) -> Self {
        self.is_compared = false;
        self
    }

    /// Limits the records of a run: the contender is too slow for all of them.
    pub(crate) fn records_max(mut self, records_max: u64) -> Self {
        self.records_max = records_max;
        self
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a contender did and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    pub(crate) checksum: Checksum,
}

impl Outcome {
    /// Runs a contender and takes its time.
    pub(crate) fn measure(run: impl FnOnce() -> Checksum) -> Self {
        let (elapsed, checksum) = clock::measure(run);
        Self { elapsed, checksum }
    }
}

/// An order-independent sum over all emitted results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Checksum {
    pub(crate) sum: u64,
    pub(crate) n_results: u64,
}

impl Checksum {
    /// Adds the result (`key`, `time`, `value`).
    #[inline(always)]
    pub(crate) fn add(&mut self, key: u64, time: i64, value: u64) {
        self.add_if(true, key, time, value);
    }

    /// Adds a result if `is_result`, without a branch.
    #[inline(always)]
    pub(crate) fn add_if(&mut self, is_result: bool, key: u64, time: i64, value: u64) {
        let mask = u64::from(is_result).wrapping_neg();
        self.sum = self.sum.wrapping_add(result_hash(key, time, value) & mask);
        self.n_results += u64::from(is_result);
    }
}

impl AddAssign for Checksum {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.n_results += other.n_results;
    }
}

impl Sum for Checksum {
    fn sum<I: Iterator<Item = Self>>(checksums: I) -> Self {
        checksums.fold(Self::default(), |mut sum, checksum| {
            sum += checksum;
            sum
        })
    }
}
