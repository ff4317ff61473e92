//! Whatever dies, each record is in the table once, in each mode and at each parallelism.

use flott_api::{
    Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput, SplitReader, SplitSource,
    WatermarkStrategy,
};
use flott_connector_sqlite::{SqliteSink, SqliteValue};
use flott_coordinator::JobStatus;
use flott_datastream::StreamExecutionEnvironment;
use flott_env::Env;
use flott_types::{CheckpointStorageType, Configuration, RestartStrategyType, Result, SplitId, options};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

const N_SPLITS: i64 = 3;
const COUNT: i64 = 300;

type Row = (i64, i64);

/// Numbered records with a pause after every tenth.
#[derive(Clone, Debug)]
struct PacedSource;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PacedSplit {
    split: i64,
    next: i64,
}

impl SourceSplit for PacedSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("paced-{}", self.split))
    }
}

struct PacedReader {
    env: Env,
    split: PacedSplit,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl SplitSource for PacedSource {
    type Record = Row;
    type Split = PacedSplit;
    type Reader = PacedReader;
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _: u32) -> Result<Vec<PacedSplit>> {
        Ok((0..N_SPLITS).map(|split| PacedSplit { split, next: 0 }).collect())
    }
    fn open(&self, split: PacedSplit, ctx: &SourceReaderContext) -> Result<PacedReader> {
        Ok(PacedReader { env: ctx.env.clone(), split, pause: None })
    }
}

impl SplitReader for PacedReader {
    type Record = Row;
    type Split = PacedSplit;
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _: usize,
        out: &mut SplitOutput<Row>,
    ) -> Poll<Result<InputStatus>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        for _ in 0..10 {
            if self.split.next >= COUNT {
                return Poll::Ready(Ok(InputStatus::EndOfInput));
            }
            out.collect((self.split.split, self.split.next));
            self.split.next += 1;
        }
        self.pause = Some(self.env.sleep(Duration::from_millis(4)));
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }
    fn split(&self) -> PacedSplit {
        self.split.clone()
    }
}

fn rows(path: &Path, table: &str) -> Vec<Row> {
    let connection = Connection::open(path).unwrap();
    let mut statement =
        connection.prepare(&format!("SELECT source, n FROM {table} ORDER BY source, n")).unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(|row| row.unwrap()).collect()
}

fn check(name: &str, committed: &str, with_mode: impl Fn(SqliteSink<Row>) -> SqliteSink<Row>) {
    let expected: Vec<Row> = (0..N_SPLITS).flat_map(|split| (0..COUNT).map(move |n| (split, n))).collect();
    for parallelism in [1, 4] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.db");
        let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
        env.set_parallelism(parallelism).enable_checkpointing(Duration::from_millis(10));
        env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::JobManager);
        env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
        env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 10);
        env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(3));
        let passed = Arc::new(AtomicU64::new(0));
        let row = |(source, n): &Row| vec![SqliteValue::from(*source), SqliteValue::from(*n)];
        let sink = SqliteSink::with_row(&path, "results", ["source", "n"], row)
            .create_table(
                "CREATE TABLE IF NOT EXISTS results(source INTEGER, n INTEGER, PRIMARY KEY(source, n))",
            )
            .buffer_flush_interval(Duration::from_millis(5));
        env.from_source(PacedSource, WatermarkStrategy::no_watermarks(), "numbers")
            .stream()
            .uid("numbers")
            .map(move |record| {
                let n = passed.fetch_add(1, Ordering::Relaxed);
                assert!(![350, 700, 1000].contains(&n), "killed at record {n}");
                record
            })
            .rebalance()
            .sink_to(with_mode(sink))
            .uid("database");
        let result = env.execute(name).unwrap();
        assert_eq!(result.status, JobStatus::Finished);
        assert!(result.restarts >= 2, "{} restarts", result.restarts);
        assert_eq!(rows(&path, "results"), expected, "{name} at parallelism {parallelism}");
        assert_eq!(rows(&path, committed), expected, "{name} at parallelism {parallelism}");
    }
}

#[test]
fn a_transactional_table_has_each_record_once() {
    check("transactional", "results", SqliteSink::transactional);
}

#[test]
fn an_eager_table_has_each_record_once() {
    check("eager", "results_committed", SqliteSink::eager);
}

#[test]
fn an_upserted_table_has_each_record_once() {
    check("upsert", "results", |sink| sink.upsert_by(["source", "n"]));
}
