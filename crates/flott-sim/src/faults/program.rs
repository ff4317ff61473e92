//! The program of a job under faults, for the engine.

use super::cut::JOB_ID;
use super::expected::{Numbered, Row, SECOND};
use super::held::{COUNT, GROUPS};
use super::plan::{Job, Phase, Shape, SinkKind};
use super::store::Store;
use super::world::{CHECKPOINTS, LOCAL_STATE, OUT, SAVEPOINTS, World};
use crate::record::mix;
use flott_api::windowing::{
    EventTimeSessionWindows, SlidingEventTimeWindows, TimeWindow, TumblingEventTimeWindows, WindowAssigner,
};
use flott_api::{
    AggregateFunction, AsyncRetryStrategy, Boundedness, Collector, InputStatus, KeyedContext,
    KeyedProcessFunction, SourceReaderContext, SourceSplit, SplitOutput, SplitReader, SplitSource,
    UserResult, WatermarkStrategy,
};
use flott_connector_file::FileSink;
use flott_datastream::{DataStream, KeyedStream, StreamExecutionEnvironment};
use flott_env::Env;
use flott_operators::{AsyncOutputMode, AsyncWaitConfig};
use flott_state::{MapState, ValueState};
use flott_types::{
    CheckpointingMode, Configuration, Error, ExternalizedCheckpointRetention, MemorySize, RecoveryClaimMode,
    RestartStrategyType, Result, SplitId, StateBackendType, Timestamp, options,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The uids of the sources.
pub(crate) const SOURCES: [&str; 2] = ["source", "second source"];
/// The uids of what sees each record first, of both pipelines.
pub(crate) const PROCESS: [&str; 2] = ["process", "second process"];
/// The uid of what makes rows of records.
pub(crate) const RAW: &str = "raw";
/// The uids of the keyed operator.
pub(crate) const KEYED: [&str; 2] = ["windows", "function"];
/// The uid of what sees each row first.
pub(crate) const FIRE: &str = "fire";
/// The uid of something slow.
pub(crate) const SLOW: &str = "slow";
/// The uid of the sink.
pub(crate) const SINK: &str = "sink";
/// The uid of the sink of a pipeline of its own.
pub(crate) const SECOND_SINK: &str = "second sink";

/// A split: its number, and that of its next record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FaultSplit {
    pub(crate) split: u32,
    pub(crate) next: u64,
}

impl SourceSplit for FaultSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("split-{}", self.split))
    }
}

/// The splits with these numbers of records.
#[derive(Clone)]
struct FaultSource {
    splits: Vec<(u32, u64)>,
    job: Arc<Job>,
    world: World,
    on_barrier: OnBarrier,
}

impl SplitSource for FaultSource {
    type Record = Numbered;
    type Split = FaultSplit;
    type Reader = FaultReader;
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _: u32) -> Result<Vec<FaultSplit>> {
        Ok(self.splits.iter().map(|(split, _)| FaultSplit { split: *split, next: 0 }).collect())
    }
    fn open(&self, split: FaultSplit, ctx: &SourceReaderContext) -> Result<FaultReader> {
        let count =
            self.splits.iter().find(|(number, _)| *number == split.split).map_or(0, |(_, count)| *count);
        let (job, world, on_barrier) =
            (Arc::clone(&self.job), self.world.clone(), Arc::clone(&self.on_barrier));
        Ok(FaultReader { env: ctx.env.clone(), job, world, on_barrier, split, count, pause: None })
    }
}

struct FaultReader {
    env: Env,
    job: Arc<Job>,
    world: World,
    on_barrier: OnBarrier,
    split: FaultSplit,
    count: u64,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for FaultReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl SplitReader for FaultReader {
    type Record = Numbered;
    type Split = FaultSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<Numbered>,
    ) -> Poll<Result<InputStatus>> {
        if self.world.is_still {
            return Poll::Pending;
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let Self { split, job, world, count, .. } = self;
        if split.next >= *count {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        let read = world.event(Phase::Read, || {
            let chance = mix(u64::from(split.split) + 7, split.next);
            let until = split.next + (1 + chance % job.chunk).min(records_max as u64);
            let until = until.min(*count);
            for number in split.next..until {
                let record = (split.split, number);
                out.collect_with_timestamp(record, job.timestamp(record));
            }
            split.next = until;
            Ok(chance >> 32)
        });
        let chance = match read {
            Ok(chance) => chance,
            Err(error) => return Poll::Ready(Err(Error::subtask("cannot read").with_source(error))),
        };
        // Whole milliseconds, as the intervals of checkpoints: only what happens at the same time is interleaved.
        let ms = chance % (2 * job.pause_ms + 1);
        if ms <= job.pause_ms && ms > 0 {
            self.pause = Some(self.env.sleep(Duration::from_millis(ms)));
        }
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }

    fn split(&self) -> FaultSplit {
        (self.on_barrier)();
        self.split.clone()
    }
}

/// Collects the records of a window.
#[derive(Clone)]
struct CollectAll;

impl AggregateFunction<Numbered> for CollectAll {
    type Accumulator = Vec<Numbered>;
    type Output = Vec<Numbered>;
    fn create_accumulator(&self) -> Vec<Numbered> {
        Vec::new()
    }
    fn add(&self, accumulator: &mut Vec<Numbered>, record: &Numbered) {
        accumulator.push(*record);
    }
    fn get_result(&self, accumulator: &Vec<Numbered>) -> Vec<Numbered> {
        let mut records = accumulator.clone();
        records.sort_unstable();
        records
    }
    fn merge(&self, accumulator: &mut Vec<Numbered>, other: &Vec<Numbered>) {
        accumulator.extend(other);
    }
}

/// Records of a timestamp, by a timer.
#[derive(Clone)]
struct ByTimer {
    delay_ms: i64,
    groups: MapState<i64, Vec<Numbered>>,
}

impl KeyedProcessFunction<u32, Numbered, Row> for ByTimer {
    fn process_element(
        &mut self,
        record: Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, Row>,
    ) -> UserResult {
        let at = ctx.timestamp();
        self.groups.update_or(ctx, at, Vec::new(), |group| group.push(record))?;
        ctx.register_event_time_timer(at + self.delay_ms);
        Ok(())
    }
    fn on_timer(
        &mut self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        let at = at - self.delay_ms;
        let mut group = self.groups.remove(ctx, &at)?.ok_or("a timer without records")?;
        group.sort_unstable();
        out.collect(Row::Group(*ctx.current_key(), at, group));
        Ok(())
    }
}

/// Counts the records of a key.
#[derive(Clone)]
struct Counter(ValueState<(u64, u64)>);

impl KeyedProcessFunction<u32, Numbered, Row> for Counter {
    fn process_element(
        &mut self,
        (_, number): Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        let (count, sum) = *self.0.update_or(ctx, (0, 0), |(count, sum)| {
            *count += 1;
            *sum += number;
        })?;
        out.collect(Row::Count(*ctx.current_key(), count, sum));
        Ok(())
    }
}

/// How a life runs the job.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) parallelism: u32,
    /// The snapshot to start from.
    pub(crate) recovery_path: Option<String>,
    /// What all directories are below.
    pub(crate) base: String,
}

pub(crate) fn configuration(job: &Job, launch: &Launch) -> Configuration {
    let ms = Duration::from_millis;
    let mut config = Configuration::default();
    config.set_option(options::PARALLELISM_DEFAULT, &launch.parallelism);
    config.set_option(options::MAX_PARALLELISM, &job.max_parallelism);
    config.set_option(options::OPERATOR_CHAINING_ENABLED, &job.chaining);
    config.set_option(options::BATCH_SIZE, &job.batch_size);
    config.set_option(options::CHANNEL_MEMORY, &MemorySize(job.gate_bytes));
    config.set_option(options::WATERMARK_GRANULARITY, &ms(1));
    config.set_option(options::SOURCE_IDLE_TIMEOUT, &Duration::ZERO);
    config.set_option(options::JOB_ID, &Some(format!("{:032x}", JOB_ID.0)));
    config.set_option(options::CHECKPOINTING_INTERVAL, &Some(ms(job.interval_ms)));
    config.set_option(options::CHECKPOINTING_TIMEOUT, &ms(job.timeout_ms));
    config.set_option(options::CHECKPOINTING_MIN_PAUSE, &ms(job.min_pause_ms));
    config.set_option(options::CHECKPOINTING_MAX_CONCURRENT, &job.concurrent);
    config.set_option(options::CHECKPOINTING_NUM_RETAINED, &job.retained);
    config.set_option(options::CHECKPOINTING_TOLERABLE_FAILED, &job.tolerable);
    config.set_option(options::CHECKPOINTING_DIR, &Some(launch.base.clone() + CHECKPOINTS));
    config.set_option(options::CHECKPOINTING_SAVEPOINT_DIR, &Some(launch.base.clone() + SAVEPOINTS));
    config
        .set_option(options::CHECKPOINTING_RETENTION, &ExternalizedCheckpointRetention::RetainOnCancellation);
    config.set_option(options::STATE_RECOVERY_PATH, &launch.recovery_path);
    config.set_option(options::RESTART_STRATEGY, &Some(RestartStrategyType::FixedDelay));
    // Far more than a job needs; one that never gets anywhere is to say so soon.
    config.set_option(options::RESTART_FIXED_DELAY_ATTEMPTS, &200);
    config.set_option(options::RESTART_FIXED_DELAY_DELAY, &ms(3));
    config.set_option(options::STATE_SNAPSHOT_PLACES, &job.snapshot_places);
    if job.claims {
        config.set_option(options::STATE_RECOVERY_CLAIM_MODE, &RecoveryClaimMode::Claim);
    }
    config.set_option(options::STATE_SNAPSHOT_SECTION, &MemorySize(job.section_bytes));
    if let Some(memory) = job.disk_memory {
        config.set_option(options::STATE_BACKEND, &StateBackendType::Disk);
        config.set_option(options::STATE_DISK_MEMORY, &MemorySize(memory));
        config.set_option(options::STATE_LOCAL_DIR, &Some(launch.base.clone() + LOCAL_STATE));
    }
    if let Some(after) = job.unaligned_ms {
        config.set_option(options::CHECKPOINTING_UNALIGNED, &true);
        config.set_option(options::CHECKPOINTING_ALIGNED_TIMEOUT, &ms(after));
    }
    config.set_option(options::CHECKPOINTING_INCREMENTAL, &job.incremental);
    if job.at_least_once {
        config.set_option(options::CHECKPOINTING_MODE, &CheckpointingMode::AtLeastOnce);
    }
    config
}

/// Builds the program of `job` in `env`.
pub(crate) fn build(
    job: &Arc<Job>,
    world: &World,
    store: &Store,
    env: Env,
    launch: &Launch,
) -> StreamExecutionEnvironment {
    let clock = env.clone();
    let program = StreamExecutionEnvironment::with_env(env, configuration(job, launch));
    let on_barrier: OnBarrier = Arc::new(|| ());
    let mut rows = rows(job, world, &program, Arc::clone(&on_barrier));
    if let Some(slow_ms) = job.slow_ms {
        rows = slowed(&rows, slow_ms, clock);
    }
    write(job, store, launch, rows, SINK);
    if job.apart {
        let passing = world.clone();
        let second = second_source(job, world, &program, &on_barrier)
            .try_map(move |record: Numbered| passing.event(Phase::Process, || Ok(record)));
        let second = second.map(Row::Record).uid(PROCESS[1]);
        write(job, store, launch, second, SECOND_SINK);
    }
    program
}

fn write(job: &Job, store: &Store, launch: &Launch, rows: DataStream<Row>, uid: &str) {
    match job.sink {
        SinkKind::Store => rows.sink_to(store.clone()).uid(uid),
        SinkKind::Files => rows.sink_to(FileSink::json(launch.base.clone() + OUT)).uid(uid),
    };
}

/// Told when a reader says where it is: the barrier of a checkpoint has come.
pub(crate) type OnBarrier = Arc<dyn Fn() + Send + Sync>;

fn source(
    job: &Arc<Job>,
    world: &World,
    program: &StreamExecutionEnvironment,
    on_barrier: &OnBarrier,
    uid: &str,
    splits: Vec<(u32, u64)>,
) -> DataStream<Numbered> {
    let bound = Duration::from_millis(job.disorder_ms.unsigned_abs());
    let strategy = WatermarkStrategy::for_bounded_out_of_orderness(bound).without_idleness();
    let on_barrier = Arc::clone(on_barrier);
    let source = FaultSource { splits, job: Arc::clone(job), world: world.clone(), on_barrier };
    program.from_source(source, strategy, uid).stream().uid(uid)
}

fn second_source(
    job: &Arc<Job>,
    world: &World,
    program: &StreamExecutionEnvironment,
    on_barrier: &OnBarrier,
) -> DataStream<Numbered> {
    let splits = job.splits().filter(|(split, _)| *split == SECOND).collect();
    source(job, world, program, on_barrier, SOURCES[1], splits)
}

/// The part of the program before the sinks; without a second source that has a pipeline of its own.
pub(crate) fn rows(
    job: &Arc<Job>,
    world: &World,
    program: &StreamExecutionEnvironment,
    on_barrier: OnBarrier,
) -> DataStream<Row> {
    let splits = job.splits().filter(|(split, _)| *split < SECOND).collect();
    let mut records = source(job, world, program, &on_barrier, SOURCES[0], splits);
    if job.second.is_some() && !job.apart {
        records = records.union(&second_source(job, world, program, &on_barrier));
    }
    if job.rebalance {
        records = records.rebalance();
    }
    let passing = world.clone();
    let records =
        records.try_map(move |record: Numbered| passing.event(Phase::Process, || Ok(record))).uid(PROCESS[0]);
    let mut rows = shaped(job, &records);
    if job.raw && job.shape != Shape::Records {
        rows = rows.union(&records.map(Row::Record).uid(RAW));
    }
    let firing = world.clone();
    rows.try_map(move |row: Row| firing.event(Phase::Fire, || Ok(row))).uid(FIRE)
}

/// Rows that wait, one or two at a time and in order, so that what is before them is pushed back.
fn slowed(rows: &DataStream<Row>, slow_ms: u64, clock: Env) -> DataStream<Row> {
    let config = AsyncWaitConfig {
        output_mode: AsyncOutputMode::Ordered,
        capacity: 2,
        timeout: None,
        retry: AsyncRetryStrategy::NoRetry,
    };
    let wait = move |row: Row| {
        let clock = clock.clone();
        async move {
            let chance = clock.random_u64();
            if chance.is_multiple_of(2) {
                clock.sleep(Duration::from_millis((chance >> 8) % (slow_ms + 1))).await;
            }
            Ok(vec![row])
        }
    };
    rows.async_wait(wait, config).uid(SLOW)
}

fn shaped(job: &Arc<Job>, records: &DataStream<Numbered>) -> DataStream<Row> {
    let of = Arc::clone(job);
    let keyed = records.key_by(move |record: &Numbered| of.key(*record));
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    match job.shape {
        Shape::Records => records.map(Row::Record).uid(RAW),
        Shape::Tumbling { size_ms } => windows(&keyed, TumblingEventTimeWindows::of(ms(size_ms))),
        Shape::Sliding { size_ms, slide_ms } => {
            windows(&keyed, SlidingEventTimeWindows::of(ms(size_ms), ms(slide_ms)))
        }
        Shape::Session { gap_ms } => windows(&keyed, EventTimeSessionWindows::with_gap(ms(gap_ms))),
        Shape::Timers { delay_ms } => {
            keyed.process(ByTimer { delay_ms, groups: MapState::new(GROUPS) }).uid(KEYED[1])
        }
        Shape::Counts => keyed.process(Counter(ValueState::new(COUNT))).uid(KEYED[1]),
    }
}

fn windows<S, A>(keyed: &KeyedStream<u32, Numbered, S>, assigner: A) -> DataStream<Row>
where
    S: Fn(&Numbered) -> u32 + Clone + Send + Sync + 'static,
    A: WindowAssigner<Numbered, Window = TimeWindow>,
{
    let collected = keyed.window(assigner).aggregate_with(CollectAll, |key: &u32, window, records| {
        Row::Group(*key, window.window.start, records)
    });
    collected.uid(KEYED[0])
}
