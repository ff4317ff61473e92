//! The kit for sources.

mod cases;
mod engine;
mod plan;
mod progress;
mod wakeup;

pub use wakeup::Wakeup;

use super::case::{Budget, CaseLog, ContractFailure, ContractReport, Selection, run_all};
use super::record::RecordId;
use cases::Run;
use flott_api::{Source, UserResult};
use flott_env::Env;
use plan::{Measured, SourceCase};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the source starts when it goes on from nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceStart {
    /// With all that is there.
    #[default]
    Everything,
    /// With what comes from now on.
    NewOnly,
}

/// What can happen outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceEvent {
    /// There is one more partition. Further records go there, too.
    AddPartition,
    /// Whoever asks gets an answer that lacks partitions, or none.
    HideMetadata,
    /// It gets all of them again.
    ShowMetadata,
    /// All connections that are open now break.
    Disconnect,
    /// Behind the last record there are positions without a record.
    GapAtEnd,
    /// The machine has lost its power when the job ran, which is down now: what nobody has made durable there is gone. For sources that keep records
    /// themselves.
    PowerFailure,
}

/// A source with what it reads, to be examined by [`SourceContract`]. Each case gets a new one.
pub trait SourceSubject {
    /// The source.
    type Source: Source;

    /// The world in which it runs.
    fn env(&self) -> Env;

    /// Makes the source: once a case, as a job makes it from its program, and behind the first [`SourceSubject::put`].
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn source(&mut self) -> UserResult<Self::Source>;

    /// Puts about `n` more records outside, in all partitions, and says which. Of a bounded source only once, before it is made.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>>;

    /// Which record this is.
    fn identify(&self, record: &<Self::Source as Source>::Record) -> RecordId;

    /// Where the source starts.
    fn start(&self) -> SourceStart {
        SourceStart::Everything
    }

    /// Whether the records of a partition come in the order of their numbers.
    fn is_ordered(&self) -> bool {
        true
    }

    /// What the outside believes nobody needs any more: by partition, the number of the first record that it keeps. `None` if the source tells
    /// it nothing.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn acknowledged(&mut self) -> UserResult<Option<BTreeMap<u32, u64>>> {
        Ok(None)
    }

    /// Whether what the source tells the outside of a checkpoint can get lost, so that only a later checkpoint puts it right.
    fn acknowledges_late(&self) -> bool {
        false
    }

    /// What [`SourceSubject::happen`] can make happen.
    fn events(&self) -> Vec<SourceEvent> {
        Vec::new()
    }

    /// Makes something happen outside.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn happen(&mut self, event: SourceEvent) -> UserResult {
        let _unused = event;
        Ok(())
    }

    /// Lets time pass, as no reader has anything to read now. For a source whose world is in memory, it does nothing, or what the world does
    /// in its turn. The kit gives up if nothing has come in 200 such turns.
    fn wait(&mut self, wakeup: &Wakeup) {
        wakeup.wait_at_most(Duration::from_millis(50));
    }
}

/// Examines a source: see [`contract`](super).
#[derive(Clone, Debug, Default)]
pub struct SourceContract {
    selection: Selection,
}

impl SourceContract {
    /// All cases.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many cases.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.selection.budget = budget;
        self
    }

    /// The case of this name alone.
    #[must_use]
    pub fn only(mut self, case: impl Into<String>) -> Self {
        self.selection.only = Some(case.into());
        self
    }

    /// Only cases with this in their names: all, or as many as the budget allows.
    #[must_use]
    pub fn of(mut self, text: impl Into<String>) -> Self {
        self.selection.of = Some(text.into());
        self
    }

    /// Runs the cases, each on a subject of its own.
    ///
    /// # Errors
    /// What the source has broken.
    pub fn run<S: SourceSubject>(
        &self,
        mut make: impl FnMut() -> UserResult<S>,
    ) -> Result<ContractReport, ContractFailure> {
        let measured = measure(&mut make)?;
        let (cases, left_out) = (plan::cases(&measured), measured.left_out());
        run_all(cases, &self.selection, left_out, SourceCase::name, |case, log| {
            let mut subject = make().map_err(|error| format!("cannot make the subject: {error}"))?;
            Run::new(&mut subject, case, log)?.run().map(|_| ())
        })
    }
}

/// How often readers are polled in the case that nothing disturbs: it decides what others there are.
fn measure<S: SourceSubject>(make: &mut impl FnMut() -> UserResult<S>) -> Result<Measured, ContractFailure> {
    let mut n_polls = BTreeMap::new();
    let mut events = Vec::new();
    for batch in plan::BATCHES {
        let failed =
            |error| ContractFailure::before_the_first_case(format!("cannot make the subject: {error}"));
        let mut subject = make().map_err(failed)?;
        let mut log = CaseLog::default();
        let case = SourceCase::undisturbed(batch);
        let run = Run::new(&mut subject, &case, &mut log).and_then(Run::run);
        n_polls.insert(batch, run.map_err(|message| ContractFailure::of_case(case.name(), message, log))?);
        events = subject.events();
    }
    Ok(Measured { n_polls, events })
}
