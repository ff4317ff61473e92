//! The sources of the engine, and sources with mistakes.

use super::toy_source::{Mistake, ToySource};
use flott_api::sources::{CollectionSource, FnSource, GeneratorSource, HybridSource, IteratorSource};
use flott_api::{InputStatus, Source, SplitOutput, StartingPosition, UserResult};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{RecordId, SourceContract, SourceSubject, Wakeup};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// What closures read: the records of partitions, each a split.
struct Closures {
    env: Env,
    partitions: Arc<Mutex<Vec<Vec<RecordId>>>>,
    is_bounded: bool,
}

impl SourceSubject for Closures {
    type Source = FnSource<RecordId, usize>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn source(&mut self) -> UserResult<FnSource<RecordId, usize>> {
        let (partitions, is_bounded) = (Arc::clone(&self.partitions), self.is_bounded);
        let splits = (0..3).map(|partition| (partition.to_string(), 0));
        let source = FnSource::new(splits, move |name: &str, _: &usize| {
            let (partitions, partition) = (Arc::clone(&partitions), name.parse::<usize>()?);
            Ok(move |position: &mut usize, out: &mut SplitOutput<RecordId>| {
                let partitions = partitions.lock().map_err(|error| error.to_string())?;
                match partitions.get(partition).and_then(|records| records.get(*position)) {
                    Some(record) => {
                        out.collect(*record);
                        *position += 1;
                    }
                    None if is_bounded => return Ok(InputStatus::EndOfInput),
                    None => {}
                }
                Ok(InputStatus::MoreAvailable)
            })
        });
        Ok(if is_bounded { source } else { source.unbounded() })
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let mut partitions = self.partitions.lock().map_err(|error| error.to_string())?;
        let mut put = Vec::new();
        for idx in 0..n as usize {
            let partition = idx % 3;
            let records = partitions.get_mut(partition).ok_or("no such partition")?;
            let record = RecordId { partition: partition as u32, number: records.len() as u64 };
            records.push(record);
            put.push(record);
        }
        Ok(put)
    }
    fn identify(&self, record: &RecordId) -> RecordId {
        *record
    }
    /// A split that had nothing is asked again a while later.
    fn wait(&mut self, wakeup: &Wakeup) {
        self.env.block_on(self.env.sleep(Duration::from_millis(100)));
        wakeup.take();
    }
}

#[test]
fn closures_keep_the_contract() {
    for is_bounded in [false, true] {
        let make = || {
            let partitions = Arc::new(Mutex::new(vec![Vec::new(); 3]));
            Ok(Closures { env: Simulation::new(1).env(), partitions, is_bounded })
        };
        let report = SourceContract::new().run(make).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.cases.len() > 300, "{}", report.cases.len());
    }
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
        (Mistake::SyncsWhatItReads, false, missing),
        (Mistake::RejectsGoodRecords, false, "a bad record of split toy-"),
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
