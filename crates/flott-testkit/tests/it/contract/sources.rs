//! The sources of the engine, and sources with mistakes.

use super::toy_source::{Mistake, ToySource};
use flott_api::sources::{CollectionSource, GeneratorSource, HybridSource, IteratorSource};
use flott_api::{Source, StartingPosition, UserResult};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{RecordId, SourceContract, SourceSubject, Wakeup};

/// A bounded source of the numbers from 0 on.
struct Numbers<S> {
    make: fn(u64) -> S,
    n_records: u64,
}

impl<S: Source<Record = u64>> SourceSubject for Numbers<S> {
    type Source = S;

    fn env(&self) -> Env {
        Simulation::new(1).env()
    }
    fn source(&mut self) -> UserResult<S> {
        Ok((self.make)(self.n_records))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        self.n_records += n;
        Ok((0..self.n_records).map(|number| RecordId { partition: 0, number }).collect())
    }
    fn identify(&self, record: &u64) -> RecordId {
        RecordId { partition: 0, number: *record }
    }
    fn is_ordered(&self) -> bool {
        // Several readers share them.
        false
    }
    fn wait(&mut self, _: &Wakeup) {}
}

fn check<S: Source<Record = u64>>(make: fn(u64) -> S) {
    let report = SourceContract::new().run(|| Ok(Numbers { make, n_records: 0 }));
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 300, "{}", report.cases.len());
}

#[test]
fn sources_without_an_outside_keep_the_contract() {
    check(|n| CollectionSource::new(0..n));
    check(|n| IteratorSource::new(move || 0..n));
    check(|n| GeneratorSource::new(|index| index, Some(n)));
}

#[test]
fn sources_one_after_the_other_keep_the_contract() {
    check(|n| {
        HybridSource::builder(CollectionSource::new(0..n / 2))
            .then_at(CollectionSource::new(n / 2..n), StartingPosition::Earliest)
            .build()
    });
}

#[test]
fn a_source_that_is_right_is_accepted() {
    for starts_with_new in [false, true] {
        let report = SourceContract::new().run(|| Ok(ToySource::new(Mistake::None, starts_with_new)));
        let report = report.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.cases.len() > 300, "{}", report.cases.len());
        assert_eq!(report.left_out, [""; 0]);
    }
}

#[test]
fn a_source_with_a_mistake_is_caught_with_a_message_that_fits() {
    let twice = "a second time";
    let missing = "records are never read";
    for (mistake, starts_with_new, message) in [
        (Mistake::ResumesAt, false, twice),
        (Mistake::ResumesTooFar, false, missing),
        (
            Mistake::AcknowledgesWhatItReads,
            false,
            "the outside is told that partition 0 is not needed before",
        ),
        (Mistake::AcknowledgesSnapshots, false, "the outside is told that partition 0 is not needed before"),
        (Mistake::NeverAcknowledges, false, "the outside is never told"),
        (Mistake::DecidesItsStartAgain, true, missing),
        (Mistake::ForgetsUnassignedSplits, false, missing),
        (Mistake::ForgetsSplitsGivenBack, false, missing),
        (Mistake::AssignsTwice, false, twice),
        (Mistake::DropsWhatIsNotListed, false, missing),
        (Mistake::ForgetsWhatItDiscovered, false, twice),
        (Mistake::ReadsWhatIsPaused, false, "which is paused"),
        (Mistake::StaysPaused, false, missing),
        (Mistake::LosesItsBuffer, false, missing),
        (Mistake::EndsAtTheLastRecord, false, "does not end"),
        (Mistake::ForgetsWhatIsAfterADisconnect, false, missing),
    ] {
        let make = || Ok(ToySource::new(mistake, starts_with_new));
        let failure = SourceContract::new().run(make).err();
        let failure = failure.unwrap_or_else(|| panic!("{mistake:?} is not caught"));
        let first = failure.violations.first().unwrap();
        assert!(first.message.contains(message), "{mistake:?}: {first}");
        let alone = SourceContract::new().only(&first.case).run(make);
        assert_eq!(alone.err().unwrap().violations.first(), Some(first));
        println!("{mistake:?}: case {}: {}", first.case, first.message);
    }
}
