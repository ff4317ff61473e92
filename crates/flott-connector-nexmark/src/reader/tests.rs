//! Splits, positions, pacing.

use super::*;
use crate::config::NexmarkConfig;
use crate::record::{Auction, Bid, Event, Person};
use crate::source::NexmarkSource;
use flott_api::{Boundedness, SourceOutput, SourceReaderContext, SourceSplit, SplitSource};
use flott_env::sim::Simulation;
use flott_types::{ErrorKind, SubtaskIndex};
use std::task::Waker;

fn ctx(env: Env) -> SourceReaderContext {
    SourceReaderContext { env, subtask: SubtaskIndex(0), parallelism: 1 }
}

/// Opens `split` and reads at most `records_max` records, at most `batch_max` a call.
fn read<R: NexmarkRecord>(
    source: &NexmarkSource<R>,
    split: NexmarkSplit,
    batch_max: usize,
    records_max: usize,
) -> (Vec<R>, NexmarkSplit) {
    let mut reader = source.open(split, &ctx(Simulation::new(1).env())).unwrap();
    let mut out = SourceOutput::default();
    let out = out.split(&split.split_id());
    let mut cx = Context::from_waker(Waker::noop());
    while out.batch.len() < records_max {
        let batch_max = batch_max.min(records_max - out.batch.len());
        match reader.poll_read(&mut cx, batch_max, out) {
            Poll::Ready(Ok(InputStatus::MoreAvailable)) => {}
            Poll::Ready(Ok(InputStatus::EndOfInput)) => break,
            other => panic!("{other:?}"),
        }
    }
    let (records, timestamps) = out.batch.take().into_columns();
    assert!(records.iter().map(R::date_time).eq(timestamps));
    (records, reader.split())
}

fn check_splits<R: NexmarkRecord>(config: &NexmarkConfig) {
    let source = NexmarkSource::<R>::of(config.clone()).unwrap();
    let whole: Vec<R> = source.sequence().iter().collect();
    for parallelism in 1..=4 {
        let splits = source.splits(parallelism).unwrap();
        assert_eq!(splits.len(), parallelism as usize);
        let parts: Vec<_> = splits.iter().map(|split| read(&source, *split, 13, usize::MAX).0).collect();
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), whole.len());
        for (position, record) in whole.iter().enumerate() {
            let (part, idx) = (position % parallelism as usize, position / parallelism as usize);
            assert_eq!(
                parts[part].get(idx),
                Some(record),
                "position {position} at parallelism {parallelism}"
            );
        }
    }
}

#[test]
fn splits_by_stride_are_together_the_whole() {
    for group in [1, 60] {
        let config = NexmarkConfig { out_of_order_group_size: group, ..NexmarkConfig::bounded(1_234) };
        check_splits::<Event>(&config);
        check_splits::<Person>(&config);
        check_splits::<Auction>(&config);
        check_splits::<Bid>(&config);
    }
    check_splits::<Event>(&NexmarkConfig::bounded(0));
    check_splits::<Event>(&NexmarkConfig::bounded(2));
}

#[test]
fn reading_resumes_at_every_position_with_any_batch_size() {
    let config = NexmarkConfig { out_of_order_group_size: 7, ..NexmarkConfig::bounded(300) };
    let source = NexmarkSource::new(config).unwrap();
    for split in source.splits(2).unwrap() {
        let (whole, _) = read(&source, split, 1_000, usize::MAX);
        for at in 0..=whole.len() {
            let (mut records, position) = read(&source, split, 1 + at % 9, at);
            assert_eq!(records.len(), at);
            let bytes = postcard::to_allocvec(&position).unwrap();
            let position = postcard::from_bytes(&bytes).unwrap();
            records.extend(read(&source, position, 5, usize::MAX).0);
            assert_eq!(records, whole, "resumed at {at}");
        }
    }
}

#[test]
fn the_ends_of_a_stream_are_told() {
    let bounded = NexmarkSource::bids(NexmarkConfig::bounded(10)).unwrap();
    assert_eq!(SplitSource::boundedness(&bounded), Boundedness::Bounded);
    assert_eq!(bounded.sequence().len(), 6);
    let unbounded = NexmarkSource::new(NexmarkConfig::unbounded()).unwrap();
    assert_eq!(SplitSource::boundedness(&unbounded), Boundedness::ContinuousUnbounded);
    let split = unbounded.splits(1).unwrap()[0];
    assert_eq!(read(&unbounded, split, 1_024, 10_000).0.len(), 10_000);
}

#[test]
fn a_position_that_cannot_be_is_refused() {
    let source = NexmarkSource::new(NexmarkConfig::bounded(10)).unwrap();
    let context = ctx(Simulation::new(1).env());
    for (idx, stride, next) in [(0, 0, 0), (2, 2, 2), (1, 2, 4), (0, 1, u64::MAX)] {
        let error = source.open(NexmarkSplit { idx, stride, next }, &context).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        let expected = format!("nexmark split {idx} of {stride} cannot be at position {next}");
        assert_eq!(error.to_string(), expected);
    }
}

/// Reads a paced split to its end; how many records, the largest batch, and how long it takes.
fn paced<R: NexmarkRecord>(config: NexmarkConfig, idx: usize, parallelism: u32) -> (usize, usize, u64) {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let run = async move {
        let source = NexmarkSource::<R>::of(config).unwrap();
        let split = source.splits(parallelism).unwrap()[idx];
        let mut reader = source.open(split, &ctx(env)).unwrap();
        let mut out = SourceOutput::default();
        let out = out.split(&split.split_id());
        let (mut n_records, mut batch_max) = (0, 0);
        loop {
            let status = std::future::poll_fn(|cx| reader.poll_read(cx, 1_000, out)).await.unwrap();
            n_records += out.batch.len();
            batch_max = batch_max.max(out.batch.len());
            out.batch.clear();
            if status == InputStatus::EndOfInput {
                return (n_records, batch_max);
            }
        }
    };
    let (n_records, batch_max) = simulation.run(run).unwrap();
    (n_records, batch_max, simulation.elapsed().as_secs())
}

#[test]
fn a_rate_paces_by_event_number_whatever_the_kind_and_the_parallelism() {
    let config = NexmarkConfig { rate_per_second: Some(100), ..NexmarkConfig::bounded(1_001) };
    assert_eq!(paced::<Event>(config.clone(), 0, 1), (1_001, 1, 10));
    assert_eq!(paced::<Event>(config.clone(), 0, 2), (501, 1, 10));
    assert_eq!(paced::<Person>(config, 0, 1), (21, 1, 10));
}
