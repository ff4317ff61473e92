use super::*;
use crate::pipe::{
    Filter, FlatMap, ForEach, Identity, Inspect, Map, TryFilter, TryFlatMap, TryForEach, TryMap,
};
use crate::test_support::{Feed, Harness, check_everywhere, one};
use flott_types::NO_TIMESTAMP;
use proptest::prelude::*;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the pipe emits must be what `reference` makes of each record.
fn check<P, O>(pipe: &P, records: &[u32], reference: impl Fn(u32) -> Vec<O>)
where
    P: Pipe<In = u32, Out = O>,
    O: Debug + 'static,
{
    let timed: Vec<_> = records.iter().map(|record| (*record, i64::from(*record) * 10)).collect();
    let untimed: Vec<_> = records.iter().map(|record| (*record, NO_TIMESTAMP)).collect();
    for (records, timed) in [(timed, true), (untimed, false)] {
        let elements = [Feed::Batch1(records.clone()), Feed::Watermark(7), Feed::EndOfData];
        let seen = check_everywhere(|| Harness::new(one(FusedOperator::new(pipe.clone()))), &elements);
        let made = records.iter().flat_map(|(record, timestamp)| {
            let records = reference(*record).into_iter();
            records
                .map(move |made| if timed { format!("+{made:?}@{timestamp}") } else { format!("+{made:?}") })
        });
        let expected: Vec<_> = made.chain(["W7".to_owned(), "end".to_owned()]).collect();
        assert_eq!(seen, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_pipe_makes_what_the_iterator_makes(records in prop::collection::vec(0_u32..1000, 1..12)) {
        let start = Identity::<u32>::new();
        check(&start, &records, |r| vec![r]);
        check(&Map::new(start, |r| r + 1), &records, |r| vec![r + 1]);
        check(&Map::new(start, |r| format!("<{r}>")), &records, |r| vec![format!("<{r}>")]);
        check(&Map::new(Map::new(start, |r| r as u8), |r| (r, r)), &records, |r| vec![(r as u8, r as u8)]);
        check(&Filter::new(start, |r| r % 3 == 0), &records, |r| if r % 3 == 0 { vec![r] } else { vec![] });
        let even = Map::new(Filter::new(start, |r| r % 2 == 0), u64::from);
        check(&even, &records, |r| if r % 2 == 0 { vec![u64::from(r)] } else { vec![] });
        check(&FlatMap::new(start, |r| 0..r % 5), &records, |r| (0..r % 5).collect());
        let long = Map::new(FlatMap::new(even, |r| vec![r, r + 1]), |r| r.to_string());
        check(&long, &records, |r| match r % 2 {
            0 => vec![r.to_string(), (r + 1).to_string()],
            _ => vec![],
        });
        let fallible = TryMap::new(TryFilter::new(start, |r| Ok::<_, String>(*r > 500)), |r| Ok::<_, String>(r / 2));
        check(&fallible, &records, |r| if r > 500 { vec![r / 2] } else { vec![] });
        let fallible = TryFlatMap::new(fallible, |r| Ok::<_, String>([r; 2]));
        check(&fallible, &records, |r| if r > 500 { vec![r / 2; 2] } else { vec![] });
    }
}

#[test]
fn an_error_comes_after_what_was_made_before_it_and_names_the_record() {
    fn check<P: Pipe<In = u32, Out = O>, O: Debug + 'static>(pipe: &P, expected: &[&str]) {
        for timestamp in [NO_TIMESTAMP, 5] {
            let mut harness = Harness::new(one(FusedOperator::new(pipe.clone())));
            let records = (0..6).map(|record| (record, timestamp)).collect();
            let error = harness.feed(&Feed::Batch1(records)).unwrap_err();
            assert_eq!(error.report(), "a user function failed: three");
            assert_eq!(harness.progress(), 3);
            let suffix = if timestamp == 5 { "@5" } else { "" };
            let expected: Vec<_> = expected.iter().map(|made| format!("{made}{suffix}")).collect();
            assert_eq!(harness.take(), expected);
        }
    }
    let refuse_three = |r: u32| if r == 3 { Err("three") } else { Ok(r) };
    let start = TryMap::new(Identity::<u32>::new(), refuse_three);
    check(&start, &["+0", "+1", "+2"]);
    check(&Map::new(start, |r| u64::from(r) + 1), &["+1", "+2", "+3"]);
    check(&Filter::new(start, |r| *r != 1), &["+0", "+2"]);
    let pairs = FlatMap::new(Identity::<u32>::new(), |r| [r, r + 1]);
    let pairs = TryMap::new(pairs, |r| if r == 4 { Err("three") } else { Ok(r) });
    check(&pairs, &["+0", "+1", "+1", "+2", "+2", "+3", "+3"]);
    let check_sum = TryForEach::new(Identity::<u32>::new(), |r| if r == 3 { Err("three") } else { Ok(()) });
    check(&check_sum, &[]);
}

#[test]
fn a_panic_leaves_the_number_of_the_record() {
    fn check<P: Pipe<In = u32>>(pipe: P)
    where
        P::Out: Debug + 'static,
    {
        let mut harness = Harness::new(one(FusedOperator::new(pipe)));
        let records = Feed::Batch1((0..6).map(|record| (record, NO_TIMESTAMP)).collect());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| harness.feed(&records)));
        assert!(caught.is_err());
        assert_eq!(harness.progress(), 4);
    }
    let start = Inspect::new(Identity::<u32>::new(), |r| assert!(*r != 4, "four"));
    check(start);
    check(Filter::new(start, |_| true));
    check(FlatMap::new(start, Some));
}

#[test]
fn a_record_that_becomes_very_many_is_sent_in_pieces() {
    let pipe = FlatMap::new(Identity::<u64>::new(), |r| 0..r);
    let mut harness = Harness::new(one(FusedOperator::new(pipe)));
    harness.feed(&Feed::Batch1(vec![(5000, 1), (1, 2), (3000, 3), (2, 4)])).unwrap();
    assert_eq!(harness.take().len(), 8003);
    assert_eq!(harness.metrics.records_out.load(Ordering::Relaxed), 8003);
}

#[test]
fn a_pipe_may_end_in_a_function_that_takes_all() {
    let sum = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&sum);
    let pipe = Map::new(Identity::<u32>::new(), u64::from);
    let pipe = ForEach::new(pipe, move |r| {
        total.fetch_add(r, Ordering::Relaxed);
    });
    let mut harness = Harness::new(one(FusedOperator::new(pipe)));
    let seen = harness.run(&[Feed::Batch1((0..10).map(|r| (r, 1)).collect()), Feed::EndOfData]);
    assert_eq!(seen, ["end"]);
    assert_eq!(sum.load(Ordering::Relaxed), 45);
}

#[test]
fn few_records_of_many_do_not_keep_the_memory_of_all() {
    let kept = Arc::new(Mutex::new(0));
    let mut out = Capacity(Arc::clone(&kept));
    let mut sides = crate::SideChannels::default();
    let metrics = Arc::default();
    let mut operator = FusedOperator::new(Filter::new(Identity::<u64>::new(), |r| *r == 7));
    let mut out = OperatorOutput::new(&mut out, &mut sides, &metrics);
    operator
        .process_batch(RecordBatch::from_columns((0..1000).collect(), (0..1000).collect()), &mut out)
        .unwrap();
    assert!(*kept.lock().unwrap() < 16, "{kept:?}");
}

struct Capacity(Arc<Mutex<usize>>);

impl crate::Output<u64> for Capacity {
    fn emit(&mut self, batch: RecordBatch<u64>) -> Result<()> {
        let (records, timestamps) = batch.into_columns();
        *self.0.lock().unwrap() = records.capacity() + timestamps.capacity();
        Ok(())
    }
}

impl crate::OutputControl for Capacity {
    fn watermark(&mut self, _: flott_types::Watermark) -> Result<()> {
        Ok(())
    }
    fn status(&mut self, _: flott_types::StreamStatus) -> Result<()> {
        Ok(())
    }
    fn end_of_data(&mut self) -> Result<()> {
        Ok(())
    }
    fn processing_time(&mut self, _: Timestamp) -> Result<()> {
        Ok(())
    }
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn snapshot(&mut self, _: &mut Vec<(flott_types::OperatorUid, OperatorSnapshot)>) -> Result<()> {
        Ok(())
    }
}
