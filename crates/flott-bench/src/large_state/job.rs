//! What the processes do.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use flott_api::sinks::FnSink;
use flott_api::{
    Boundedness, Collector, InputStatus, KeyedContext, KeyedProcessFunction, SourceReaderContext,
    SourceSplit, SplitOutput, SplitReader, SplitSource, UserResult, WatermarkStrategy,
};
use flott_datastream::StreamExecutionEnvironment;
use flott_state::ValueState;
use flott_types::{Configuration, RecordBatch, SplitId};
use serde::{Deserialize, Serialize};

use super::{LargeStateArgs, VALUE_BYTES};
use crate::engine::execute;

/// What a process says that has put every key into state.
pub(crate) const FILLED: &str = "filled";

/// One key of so many is looked at after the restore.
const LOOKED_AT: u64 = 32;

/// What a process says that has found everything as it should be.
pub(super) fn expected(n_keys: u64) -> String {
    format!("found {} keys", n_keys.div_ceil(LOOKED_AT))
}

/// Runs until it is killed, or goes on from a checkpoint of one that was; says what it has done, and waits for the end of its input.
pub(crate) fn run(args: LargeStateArgs, dir: &Path) {
    let env = environment(args, dir);
    let source =
        env.from_source(Passes { n_keys: args.n_keys() }, WatermarkStrategy::no_watermarks(), "keys");
    let counted = source.stream().key_by(|record: &(u64, u32)| record.0).process(Compare::new());
    let found = Arc::new(AtomicU64::new(0));
    let of_sink = Arc::clone(&found);
    counted.sink_to(FnSink::for_batches(move |batch: RecordBatch<u64>| {
        of_sink.fetch_add(batch.records().len() as u64, Ordering::Relaxed);
    }));
    execute(&env);
    println!("found {} keys", found.load(Ordering::Relaxed));
    // Its memory is looked at while it is there.
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

fn environment(args: LargeStateArgs, dir: &Path) -> StreamExecutionEnvironment {
    let mut config = Configuration::default();
    let dir_of = |name: &str| dir.join(name).display().to_string();
    for (key, value) in [
        ("state.backend.type", "disk"),
        ("state.backend.disk.memory", &format!("{}mb", args.table_megabytes())),
        ("state.backend.local-dir", &dir_of("local")),
        ("execution.checkpointing.interval", &format!("{} s", args.interval)),
        ("execution.checkpointing.incremental", &args.incremental.to_string()),
        ("execution.checkpointing.dir", &dir_of("checkpoints")),
        ("restart-strategy.type", "none"),
    ] {
        config.set(key, value).expect("the engine knows the key");
    }
    let env = StreamExecutionEnvironment::with_configuration(config);
    let mut env = env.expect("the operating system has threads");
    env.set_parallelism(1);
    env
}

/// The value of a key that was changed so often.
fn value(key: u64, version: u32) -> String {
    let word = format!("{:016x}", (key + u64::from(version)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word.repeat((VALUE_BYTES as usize).div_ceil(word.len()))
}

/// Puts a value into state in the first pass; compares it in the second, and changes it.
#[derive(Clone, Debug)]
struct Compare {
    state: ValueState<String>,
}

impl Compare {
    fn new() -> Self {
        Self { state: ValueState::new("value") }
    }
}

impl KeyedProcessFunction<u64, (u64, u32), u64> for Compare {
    fn process_element(
        &mut self,
        (key, pass): (u64, u32),
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        let found = self.state.get(ctx)?;
        let expected = (pass > 1).then(|| value(key, pass - 1));
        if found != expected.as_ref() {
            return Err(format!("key {key} has {found:?} in pass {pass}").into());
        }
        self.state.set(ctx, value(key, pass))?;
        if pass == 3 {
            out.collect(key);
        }
        Ok(())
    }
}

/// All keys; then, in a process that was restored behind them, some of them again, twice.
#[derive(Clone, Debug)]
struct Passes {
    n_keys: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Position(u64);

impl SourceSplit for Position {
    fn split_id(&self) -> SplitId {
        SplitId("keys".to_owned())
    }
}

impl SplitSource for Passes {
    type Record = (u64, u32);
    type Split = Position;
    type Reader = Reader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, _: u32) -> flott_types::Result<Vec<Position>> {
        Ok(vec![Position(0)])
    }

    fn open(&self, split: Position, _: &SourceReaderContext) -> flott_types::Result<Reader> {
        Ok(Reader { n_keys: self.n_keys, waits: split.0 < self.n_keys, next: split.0 })
    }
}

struct Reader {
    n_keys: u64,
    /// Behind the first pass.
    waits: bool,
    next: u64,
}

impl SplitReader for Reader {
    type Record = (u64, u32);
    type Split = Position;

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<(u64, u32)>,
    ) -> Poll<flott_types::Result<InputStatus>> {
        let n_looked_at = self.n_keys.div_ceil(LOOKED_AT);
        let end = if self.next < self.n_keys { self.n_keys } else { self.n_keys + 2 * n_looked_at };
        if self.waits && self.next == self.n_keys {
            return Poll::Pending;
        }
        let n_records = (end - self.next).min(records_max as u64);
        let record = |at: u64| match at.checked_sub(self.n_keys) {
            None => (at, 1),
            Some(at) => (at % n_looked_at * LOOKED_AT, 2 + (at / n_looked_at) as u32),
        };
        let records = (self.next..self.next + n_records).map(record).collect();
        out.collect_batch(RecordBatch::untimed(records));
        self.next += n_records;
        if self.waits && self.next == self.n_keys {
            println!("{FILLED}");
        }
        let is_end = self.next == self.n_keys + 2 * n_looked_at;
        Poll::Ready(Ok(if is_end { InputStatus::EndOfInput } else { InputStatus::MoreAvailable }))
    }

    fn split(&self) -> Position {
        Position(self.next)
    }
}
