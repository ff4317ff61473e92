//! A backlog and then a log, read as one source: each record once, windows as in one run, whatever happens around the switch.

use crate::checkpoints::{
    COUNT, Kills, N_SPLITS, Row, configure, expected_rows, finished, numbers, timestamp, windows,
};
use crate::support::{directory, real, simulated};
use crate::transactional::{ENDLESS, Numbered, PacedReader, PacedSplit, Transactions};
use flott_api::sources::{CollectionSource, HybridSource};
use flott_api::{Boundedness, SourceReaderContext, SplitSource, StartingPosition, Until, WatermarkStrategy};
use flott_datastream::{AtStop, DataStream, StreamExecutionEnvironment};
use flott_env::sim::SimRng;
use flott_types::{Result, options};
use std::time::Duration;

/// Partitions with the records from one number to another.
#[derive(Clone, Debug)]
struct Partitions(Vec<(u64, u64)>);

impl SplitSource for Partitions {
    type Record = Numbered;
    type Split = PacedSplit;
    type Reader = PacedReader;
    fn boundedness(&self) -> Boundedness {
        if self.0.iter().any(|(_, end)| *end == ENDLESS) {
            return Boundedness::ContinuousUnbounded;
        }
        Boundedness::Bounded
    }
    fn splits(&self, _: u32) -> Result<Vec<PacedSplit>> {
        Ok((0..).zip(&self.0).map(|(split, (next, _))| PacedSplit { split, next: *next }).collect())
    }
    fn open(&self, split: PacedSplit, ctx: &SourceReaderContext) -> Result<PacedReader> {
        let end = self.0[split.split as usize].1;
        Ok(PacedReader::new(split, end, 4, ctx))
    }
}

/// How the log goes on from the backlog.
#[derive(Clone, Copy, Debug)]
enum Switch {
    /// Each partition of the log begins where that of the backlog ends, one far before another.
    Partitions,
    /// Both have everything around the switch, which is at a time.
    Time,
    /// The log has everything, and is read from behind what the backlog has.
    Behind,
    /// The same, by a function.
    Function,
    /// Three sources, the last of them bounded.
    Three,
}

const SWITCHES: [Switch; 5] =
    [Switch::Partitions, Switch::Time, Switch::Behind, Switch::Function, Switch::Three];

fn hybrid(switch: Switch, rng: &mut SimRng) -> HybridSource<Numbered> {
    let mut ends = || -> Vec<u64> { (0..N_SPLITS).map(|_| rng.below(COUNT)).collect() };
    let log = Partitions(vec![(0, ENDLESS); N_SPLITS as usize]);
    let from = |ends: &[u64]| Partitions(ends.iter().map(|end| (*end, ENDLESS)).collect());
    let until = |ends: &[u64]| Partitions(ends.iter().map(|end| (0, *end)).collect());
    match switch {
        Switch::Partitions => {
            let ends = ends();
            HybridSource::builder(until(&ends)).then(from(&ends)).build()
        }
        Switch::Time => {
            let at = 500 + rng.below(1_000) as i64;
            let backlog = Partitions(vec![(0, COUNT); N_SPLITS as usize]);
            HybridSource::builder(backlog).then_at(log, StartingPosition::Timestamp(at)).build()
        }
        Switch::Behind | Switch::Function => {
            let last = 300 + rng.below(1_000) as i64;
            let mut backlog: Vec<_> =
                numbers(N_SPLITS, COUNT).filter(|record| timestamp(record) <= last).collect();
            backlog.sort_by_key(timestamp);
            let chain = HybridSource::builder(CollectionSource::new(backlog));
            if let Switch::Behind = switch {
                return chain.then_behind(log).build();
            }
            chain
                .then_with(log, |end| {
                    end.max_timestamp
                        .map_or(StartingPosition::Earliest, |max| StartingPosition::Timestamp(max + 1))
                })
                .build()
        }
        Switch::Three => {
            let first = ends();
            let second: Vec<_> = first.iter().map(|end| (*end, end + rng.below(COUNT))).collect();
            let third = second.iter().map(|(_, end)| (*end, 2 * COUNT)).collect();
            HybridSource::builder(until(&first)).then(Partitions(second)).then(Partitions(third)).build()
        }
    }
}

/// Behind the switch, and before the numbers of the tests end.
const UNTIL: i64 = 3_200;

fn source(env: &StreamExecutionEnvironment, switch: Switch, seed: u64) -> DataStream<Numbered> {
    let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(60))
        .with_timestamp_assigner(|record: &Numbered, _| timestamp(record));
    let source = hybrid(switch, &mut SimRng::new(seed));
    env.from_source(source, strategy, "hybrid").until(Until::Timestamp(UNTIL)).stream().uid("hybrid")
}

fn expected() -> Vec<Row> {
    expected_rows(numbers(N_SPLITS, 2 * COUNT).filter(|record| timestamp(record) < UNTIL))
}

#[test]
fn each_record_is_read_once_and_none_is_late_wherever_the_job_is_killed() {
    let expected = expected();
    let mut n_restored = 0;
    for seed in 0..60 {
        let parallelism = 1 + (seed % 4) as u32;
        let switch = SWITCHES[(seed / 4 % 5) as usize];
        let mut env = simulated(parallelism, seed);
        configure(&mut env, 10 + seed % 5);
        let mut rng = SimRng::new(seed + 1_000);
        let kills: Vec<_> = (0..5).map(|_| rng.below(u64::from(N_SPLITS) * COUNT * 2)).collect();
        let sink = Transactions::failing((seed % 3) as u32);
        windows(&source(&env, switch, seed), &Kills::at(&kills), &sink);
        let result = finished(env.execute("hybrid"));
        assert_eq!(sink.committed(), expected, "seed {seed}, {switch:?}, parallelism {parallelism}");
        assert!(result.restarts >= 1, "seed {seed}: nothing was killed");
        n_restored += sink.attempts().iter().filter(|attempt| !attempt.contains("nothing")).count();
    }
    assert!(n_restored > 150, "only {n_restored} writers went on from a checkpoint");
}

/// Which source of a chain is read is the enumerator's to say, for all readers: no region of them goes back by itself.
#[test]
fn a_job_with_a_chain_starts_again_as_a_whole() {
    let expected: Vec<_> = numbers(N_SPLITS, 2 * COUNT).filter(|record| timestamp(record) < UNTIL).collect();
    let mut n_restarts = 0;
    for seed in 0..20 {
        let mut env = simulated(N_SPLITS, seed);
        configure(&mut env, 10 + seed % 5);
        let kills = Kills::at(&[50 * seed, 700, 1_500]);
        let sink = Transactions::failing((seed % 3) as u32);
        let switch = SWITCHES[(seed % 5) as usize];
        source(&env, switch, seed).map(move |record| kills.pass(record)).sink_to(sink.clone()).uid("sink");
        let result = finished(env.execute("straight"));
        assert_eq!(sink.committed(), expected, "seed {seed}, {switch:?}");
        assert_eq!(result.counts.region_restarts, 0, "seed {seed}, {switch:?}");
        n_restarts += result.restarts;
    }
    assert!(n_restarts > 40, "{n_restarts}");
}

#[test]
fn a_chain_that_nobody_disturbs_ends_in_both_worlds() {
    for switch in SWITCHES {
        for (parallelism, env) in [(1, simulated(1, 5)), (3, simulated(3, 6)), (2, real(2))] {
            let sink = Transactions::new();
            windows(&source(&env, switch, 3), &Kills::at(&[]), &sink);
            finished(env.execute("undisturbed"));
            assert_eq!(sink.committed(), expected(), "{switch:?}, parallelism {parallelism}");
        }
    }
}

#[test]
fn a_job_is_rescaled_before_at_and_after_the_switch() {
    let expected = expected();
    for seed in 0..45 {
        let (before, after) = (1 + (seed % 3) as u32, 1 + (seed / 3 % 3) as u32);
        let switch = SWITCHES[(seed % 5) as usize];
        let mut env = simulated(before, seed);
        let dir = directory(&env);
        env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(dir));
        let sink = Transactions::new();
        windows(&source(&env, switch, seed), &Kills::at(&[]), &sink);
        let client = env.execute_async("before").unwrap();
        let (handle, world) = (client.savepoints(), env.env().clone());
        let (path, stopped) = env.env().block_on(async move {
            world.sleep(Duration::from_millis(1 + seed)).await;
            (handle.stop_with_savepoint(None, AtStop::Suspend).await, client.result().await)
        });
        finished(stopped);
        env.set(options::STATE_RECOVERY_PATH, Some(path.unwrap()));
        env.set_parallelism(after);
        windows(&source(&env, switch, seed), &Kills::at(&[]), &sink);
        finished(env.execute("after"));
        assert_eq!(sink.committed(), expected, "seed {seed}, {switch:?}: {before} to {after}");
    }
}

#[test]
fn only_the_last_source_may_go_on_for_ever() {
    let endless = || Partitions(vec![(0, ENDLESS)]);
    let source = HybridSource::builder(endless()).then(endless()).build();
    let env = simulated(1, 1);
    env.from_source(source, WatermarkStrategy::no_watermarks(), "wrong").map(|_| ()).for_each(|()| {});
    let error = env.execute("wrong").unwrap_err();
    assert!(error.report().contains("source 0 of a hybrid source does not end"), "{}", error.report());
}
