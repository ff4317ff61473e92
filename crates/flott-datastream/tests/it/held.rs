//! Sources that decide where they start, and sources that tell the outside how far they have got.

use crate::checkpoints::{Kills, N_SPLITS, configure, finished};
use crate::support::simulated;
use crate::transactional::{Numbered, PacedReader, PacedSource, PacedSplit, Transactions};
use flott_api::sources::HybridSource;
use flott_api::{
    Boundedness, EnumeratorInit, InputStatus, Source, SourceReader, SourceReaderContext, SplitEnumerator,
    SplitEnumeratorContext, SplitOutput, SplitReader, SplitSourceReader, WatermarkStrategy,
};
use flott_datastream::StreamExecutionEnvironment;
use flott_env::sim::{Fault, FaultEffect, FsOperation, Simulation};
use flott_types::{CheckpointStorageType, Configuration, FailoverStrategy, Result, SubtaskIndex, options};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

const COUNT: u64 = 600;
/// How much the outside grows between two decisions.
const GROWTH: u64 = 1_000;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts behind the newest record that there is when it is asked, which is another one each time.
#[derive(Clone, Default)]
struct NewestSource {
    is_held: bool,
    n_decided: Arc<AtomicU64>,
    /// How far the outside was told that a split will not be read again, and how often.
    told: Arc<Mutex<BTreeMap<u32, u64>>>,
    n_told: Arc<AtomicU64>,
    /// How far a split was told to be read and then read again from before.
    broken: Arc<Mutex<Vec<(u32, u64, u64)>>>,
}

struct NewestEnumerator {
    is_held: bool,
    unassigned: Vec<PacedSplit>,
}

impl NewestEnumerator {
    fn assign(&mut self, ctx: &mut dyn SplitEnumeratorContext<PacedSplit>) {
        for split in std::mem::take(&mut self.unassigned) {
            ctx.assign_split(SubtaskIndex(split.split % ctx.parallelism()), split);
        }
        (0..ctx.parallelism()).for_each(|subtask| ctx.signal_no_more_splits(SubtaskIndex(subtask)));
    }
}

impl SplitEnumerator<PacedSplit> for NewestEnumerator {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<PacedSplit>) -> Result<()> {
        if !self.is_held {
            self.assign(ctx);
        }
        Ok(())
    }
    fn awaits_checkpoint(&self) -> bool {
        self.is_held
    }
    fn checkpoint_complete(&mut self, ctx: &mut dyn SplitEnumeratorContext<PacedSplit>) -> Result<()> {
        if std::mem::take(&mut self.is_held) {
            self.assign(ctx);
        }
        Ok(())
    }
    fn add_splits_back(&mut self, splits: Vec<PacedSplit>, _: SubtaskIndex) {
        self.unassigned.extend(splits);
    }
    fn snapshot(&self) -> Result<Vec<u8>> {
        flott_state::encode("splits", &self.unassigned)
    }
}

impl Source for NewestSource {
    type Record = Numbered;
    type Split = PacedSplit;
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<PacedSplit>>> {
        if let Some(bytes) = init.restored {
            let unassigned = flott_state::decode("splits", &bytes)?;
            return Ok(Box::new(NewestEnumerator { is_held: false, unassigned }));
        }
        let next = self.n_decided.fetch_add(1, Ordering::Relaxed) * GROWTH;
        let unassigned = (0..N_SPLITS).map(|split| PacedSplit { split, next }).collect();
        Ok(Box::new(NewestEnumerator { is_held: self.is_held && init.takes_checkpoints, unassigned }))
    }
    fn create_reader(
        &self,
        ctx: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = Numbered, Split = PacedSplit>>> {
        let source = self.clone();
        let open = move |split: PacedSplit| {
            let told = lock(&source.told).get(&split.split).copied().unwrap_or_default();
            if split.next < told {
                lock(&source.broken).push((split.split, told, split.next));
            }
            let end = split.next / GROWTH * GROWTH + COUNT;
            Ok(TellingReader { source: source.clone(), inner: PacedReader::new(split, end, 4, &ctx) })
        };
        Ok(Box::new(SplitSourceReader::new(open)))
    }
}

struct TellingReader {
    source: NewestSource,
    inner: PacedReader,
}

impl SplitReader for TellingReader {
    type Record = Numbered;
    type Split = PacedSplit;
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<Numbered>,
    ) -> Poll<Result<InputStatus>> {
        self.inner.poll_read(cx, records_max, out)
    }
    fn split(&self) -> PacedSplit {
        self.inner.split()
    }
    fn checkpoint_complete(&mut self, split: &PacedSplit) -> Result<()> {
        self.source.n_told.fetch_add(1, Ordering::Relaxed);
        assert!(split.next <= self.inner.split().next, "told {split:?}, which is not read yet");
        lock(&self.source.told).insert(split.split, split.next);
        Ok(())
    }
}

/// Runs with these kills; the starts from which committed records are, and the source.
fn run(is_held: bool, kills: &[u64], seed: u64) -> (BTreeSet<u64>, NewestSource) {
    let mut env = simulated(1 + (seed % 3) as u32, seed);
    configure(&mut env, 10 + seed % 7);
    if seed % 2 == 1 {
        env.set(options::FAILOVER_STRATEGY, FailoverStrategy::Full);
    }
    let source = NewestSource { is_held, ..NewestSource::default() };
    let (kills, sink) = (Kills::at(kills), Transactions::new());
    let records = env.from_source(source.clone(), WatermarkStrategy::no_watermarks(), "newest");
    records.map(move |record| kills.pass(record)).sink_to(sink.clone());
    finished(env.execute("newest"));
    let committed = sink.committed();
    let starts: BTreeSet<u64> = committed.iter().map(|(_, number)| number / GROWTH).collect();
    assert_eq!(committed.len() as u64, u64::from(N_SPLITS) * COUNT, "seed {seed}: from {starts:?}");
    (starts, source)
}

#[test]
fn a_source_that_waits_for_a_checkpoint_decides_once() {
    for seed in 0..40 {
        // The first record kills, and others soon after: without the wait before any checkpoint is complete.
        let (starts, source) = run(true, &[0, 1, 20 + seed], seed);
        assert_eq!(starts, BTreeSet::from([0]), "seed {seed}");
        assert_eq!(source.n_decided.load(Ordering::Relaxed), 1, "seed {seed}");
    }
}

#[test]
fn a_source_that_does_not_wait_may_decide_again() {
    let (starts, _) = run(false, &[0], 1);
    assert_eq!(starts, BTreeSet::from([1]), "this is what the wait is for");
}

/// A backlog, and then a log that is read from its newest record on.
fn backlog_and_newest() -> (HybridSource<Numbered>, NewestSource) {
    // The numbers of the backlog are those of decision 0.
    let newest =
        NewestSource { is_held: true, n_decided: Arc::new(AtomicU64::new(1)), ..NewestSource::default() };
    let backlog = PacedSource { n_splits: N_SPLITS, count: COUNT, pause_ms_max: 4 };
    (HybridSource::builder(backlog).then(newest.clone()).build(), newest)
}

#[test]
fn a_source_that_a_chain_of_sources_comes_to_decides_once_before_it_is_read() {
    let mut n_decided = 0;
    for seed in 0..60 {
        let mut env = simulated(1 + (seed % 3) as u32, seed);
        configure(&mut env, 10 + seed % 7);
        let (source, newest) = backlog_and_newest();
        // Soon after the switch, when a checkpoint from before it may just have become complete.
        let backlog = u64::from(N_SPLITS) * COUNT;
        let (kills, sink) =
            (Kills::at(&[backlog, backlog + 1 + seed % 5, backlog + 40]), Transactions::new());
        let records = env.from_source(source, WatermarkStrategy::no_watermarks(), "hybrid");
        records.map(move |record| kills.pass(record)).sink_to(sink.clone());
        finished(env.execute("hybrid"));
        let committed = sink.committed();
        let starts: BTreeSet<u64> = committed.iter().map(|(_, number)| number / GROWTH).collect();
        assert_eq!(starts.len(), 2, "seed {seed}: the log was read from {starts:?}");
        assert_eq!(committed.len() as u64, 2 * backlog, "seed {seed}");
        n_decided += newest.n_decided.load(Ordering::Relaxed);
    }
    assert!(n_decided > 60, "some have decided again, before anything was read");
}

#[test]
fn a_source_that_a_chain_of_sources_comes_to_does_not_wait_for_the_next_interval() {
    let mut env = simulated(2, 1);
    configure(&mut env, 600_000);
    let (source, _) = backlog_and_newest();
    let (sink, world) = (Transactions::new(), env.env().clone());
    env.from_source(source, WatermarkStrategy::no_watermarks(), "hybrid").stream().sink_to(sink.clone());
    let started = world.now();
    finished(env.execute("hybrid"));
    assert_eq!(sink.committed().len() as u64, 2 * u64::from(N_SPLITS) * COUNT);
    let took = world.now() - started;
    assert!(took < Duration::from_secs(300), "it took {took:?}");
}

#[test]
fn a_source_whose_checkpoint_fails_does_not_wait_for_the_next_interval_either() {
    let run = |fault: Option<u64>| {
        let world = Simulation::new(1);
        world.disk().record(true);
        world.disk().set_fault(fault.map(|at| Fault { at, effect: FaultEffect::Before, halts: false }));
        let mut env = StreamExecutionEnvironment::with_env(world.env(), Configuration::default());
        env.set_parallelism(2);
        configure(&mut env, 600_000);
        env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::Filesystem);
        env.set(options::CHECKPOINTING_TOLERABLE_FAILED, 1);
        let (source, sink) = (NewestSource { is_held: true, ..NewestSource::default() }, Transactions::new());
        env.from_source(source, WatermarkStrategy::no_watermarks(), "newest").stream().sink_to(sink.clone());
        let started = world.env().now();
        finished(env.execute("newest"));
        assert_eq!(sink.committed().len() as u64, u64::from(N_SPLITS) * COUNT);
        (world.env().now() - started, world.disk().recorded())
    };
    let is_of = |id: u64| {
        let name = format!("chk-{id}");
        move |operation: &FsOperation| operation.path.iter().any(|part| part.to_str() == Some(&name))
    };
    let (_, operations) = run(None);
    assert!(!operations.iter().any(is_of(3)), "one to begin with, one at the end");
    let first = operations.iter().position(is_of(1)).unwrap();
    let (took, operations) = run(Some(first as u64));
    assert!(operations.iter().any(is_of(3)), "the first has failed");
    assert!(took < Duration::from_secs(300), "it took {took:?}");
}

#[test]
fn nothing_is_read_again_that_the_outside_was_told_to_be_done_with() {
    let mut n_told = 0;
    for seed in 0..40 {
        let (_, source) = run(seed % 2 == 0, &[300 + 10 * seed, 800, 1_500], seed);
        assert_eq!(*lock(&source.broken), [], "seed {seed}");
        n_told += source.n_told.load(Ordering::Relaxed);
    }
    assert!(n_told > 200, "{n_told}");
}
