use super::toy_sink::{Mistake, ToySink};
use flott_testkit::contract::{Budget, SinkContract};

#[test]
fn a_sink_that_is_right_is_accepted() {
    let report = SinkContract::new().run(|| Ok(ToySink::new(Mistake::None)));
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 800, "{}", report.cases.len());
    let left_out = [
        "requests that arrive late",
        "requests that arrive twice",
        "broken connections",
        "a server that is started again",
        "records that the sink rejects",
    ];
    assert_eq!(report.left_out, left_out);
}

#[test]
fn a_sink_with_a_mistake_is_caught_with_a_message_that_fits() {
    let missing = "a reader does not see records that were committed";
    let phantoms = "a reader sees records that no complete checkpoint has";
    let doubled = "a reader sees records more often than they were committed";
    for (mistake, message) in [
        (Mistake::CommitsWhatIsPrepared, phantoms),
        (Mistake::SwallowsCommitErrors, missing),
        (Mistake::RemembersCheckpointNumbers, missing),
        (Mistake::AbortsOnClose, "is lost"),
        (Mistake::AbortsWhatIsNeeded, "is lost"),
        (Mistake::AbortsOfNeighbours, missing),
        (Mistake::AbortsNothing, "something is left outside: transaction"),
        (Mistake::AbortsAsZombie, missing),
        (Mistake::CommitsAgain, doubled),
        (Mistake::TakesMissingForCommitted, missing),
        (Mistake::ForgetsTheLast, missing),
        (Mistake::SwallowsWriteErrors, missing),
        (Mistake::CommitsOnlyItsOwn, missing),
    ] {
        let failure = SinkContract::new().run(|| Ok(ToySink::new(mistake)));
        let failure = failure.err().unwrap_or_else(|| panic!("{mistake:?} is not caught"));
        let first = failure.violations.first().unwrap();
        assert!(first.message.contains(message), "{mistake:?}: {first}");
        // The case alone says the same.
        let alone = SinkContract::new().only(&first.case).run(|| Ok(ToySink::new(mistake)));
        assert_eq!(alone.err().unwrap().violations.first(), Some(first));
        println!("{mistake:?}: case {}: {}", first.case, first.message);
    }
}

#[test]
fn transactions_that_only_late_requests_confuse_are_caught_by_those() {
    use super::toy_pool_sink::{Epochs, ToyPoolSink};
    let run = |epochs, budget| SinkContract::new().budget(budget).run(|| Ok(ToyPoolSink::new(epochs)));
    for epochs in [Epochs::ChangeWithEnds, Epochs::ChangeWithTakeovers] {
        let report = run(epochs, Budget::Sample { cases: 500, seed: 1 });
        let report = report.unwrap_or_else(|failure| panic!("{epochs:?}: {failure}"));
        assert!(report.cases.iter().any(|case| case.ends_with("late-by-5")), "{epochs:?}");
    }
    for (epochs, message) in [
        (Epochs::Stay, "a reader sees records that no complete checkpoint has"),
        (Epochs::StayAndWriteAgain, "a reader sees records more often than they were committed"),
    ] {
        let failure = run(epochs, Budget::All).err().unwrap_or_else(|| panic!("{epochs:?} is not caught"));
        println!("{epochs:?}: {failure}");
        assert!(failure.violations.iter().all(|it| it.case.contains("-late-by-")), "{epochs:?}: {failure}");
        assert!(failure.violations.iter().any(|it| it.message.contains(message)), "{epochs:?}: {failure}");
    }
}

#[test]
fn a_sample_is_chosen_by_its_seed() {
    let sample = |seed| {
        let budget = Budget::Sample { cases: 10, seed };
        SinkContract::new().budget(budget).run(|| Ok(ToySink::new(Mistake::None))).unwrap().cases
    };
    assert_eq!(sample(1).len(), 11);
    let of = |text: &str| SinkContract::new().of(text).run(|| Ok(ToySink::new(Mistake::None)));
    let cases = of("reply-").unwrap().cases;
    assert!(cases.len() > 10 && cases.iter().all(|case| case.contains("reply-")), "{cases:?}");
    assert!(of("no such case").is_err());
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
    let none = SinkContract::new().only("no such case").run(|| Ok(ToySink::new(Mistake::None)));
    assert!(none.unwrap_err().to_string().contains("there is no case no such case"));
}

#[test]
fn an_eager_sink_is_accepted_or_caught() {
    use super::toy_eager_sink::{Mistake, ToyEagerSink};
    let run = |mistake| SinkContract::new().run(|| Ok(ToyEagerSink::new(mistake)));
    run(Mistake::None).unwrap_or_else(|failure| panic!("{failure}"));
    let missing = "a reader does not see records that were committed";
    let phantoms = "a reader sees records that no complete checkpoint has";
    let doubled = "a reader sees records more often than they were committed";
    for (mistake, message) in [
        (Mistake::MarksTooEarly, phantoms),
        (Mistake::DeletesNothing, doubled),
        (Mistake::DeletesItsOwn, doubled),
        (Mistake::FencesNobody, doubled),
        (Mistake::KeepsItsBuffer, missing),
    ] {
        let failure = run(mistake).err().unwrap_or_else(|| panic!("{mistake:?} is not caught"));
        let first = failure.violations.first().unwrap();
        println!("{mistake:?}: case {}: {}", first.case, first.message);
        assert!(
            first.message.contains(message) || first.message.contains(phantoms) && message == doubled,
            "{mistake:?}: {first}"
        );
    }
}
