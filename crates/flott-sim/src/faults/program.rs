//! The program of a job under faults, for the engine.

use super::cut::JOB_ID;
use super::expected::{Numbered, Row, SECOND};
use super::plan::{Job, Phase, Shape, SinkKind};
use super::shapes::{raw, shaped};
use super::source::{FaultSource, OnBarrier};
use super::store::Store;
use super::world::{CHECKPOINTS, LOCAL_STATE, OUT, SAVEPOINTS, World};
use flott_api::{AsyncRetryStrategy, WatermarkStrategy};
use flott_connector_file::FileSink;
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_env::Env;
use flott_operators::{AsyncOutputMode, AsyncWaitConfig};
use flott_types::{
    CheckpointingMode, Configuration, ExternalizedCheckpointRetention, MemorySize, RecoveryClaimMode,
    RestartStrategyType, StateBackendType, options,
};
use std::sync::Arc;
use std::time::Duration;

/// The uids of the sources.
pub(crate) const SOURCES: [&str; 2] = ["source", "second source"];
/// The uids of what sees each record first, of both pipelines.
pub(crate) const PROCESS: [&str; 2] = ["process", "second process"];
/// The uid of what makes rows of records.
pub(crate) const RAW: &str = "raw";
/// The uid of what sees each row first.
pub(crate) const FIRE: &str = "fire";
/// The uid of something slow.
pub(crate) const SLOW: &str = "slow";
/// The uid of the sink.
pub(crate) const SINK: &str = "sink";
/// The uid of the sink of a pipeline of its own.
pub(crate) const SECOND_SINK: &str = "second sink";

/// How a life runs the job.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) parallelism: u32,
    /// The memory of keyed state that is on disk.
    pub(crate) disk_memory: Option<u64>,
    /// The snapshot to start from.
    pub(crate) recovery_path: Option<String>,
    /// What all directories are below.
    pub(crate) base: String,
}

impl Launch {
    /// The first of a job.
    pub(crate) fn first(job: &Job) -> Self {
        let (parallelism, disk_memory) = (job.parallelism, job.disk_memory);
        Self { parallelism, disk_memory, recovery_path: None, base: String::new() }
    }

    /// The same with keyed state on the other backend.
    pub(crate) fn on_other_backend(&self, job: &Job) -> Self {
        let disk_memory = if self.disk_memory.is_some() { None } else { Some(job.disk_memory.unwrap_or(0)) };
        Self { disk_memory, ..self.clone() }
    }
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
    if let Some(memory) = launch.disk_memory {
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

fn source(
    job: &Arc<Job>,
    world: &World,
    program: &StreamExecutionEnvironment,
    on_barrier: &OnBarrier,
    uid: &str,
    splits: Vec<(u32, u64)>,
) -> DataStream<Numbered> {
    let bound = Duration::from_millis(job.disorder_ms.unsigned_abs());
    let strategy = WatermarkStrategy::for_bounded_out_of_orderness(bound);
    let strategy = match job.idle_ms.filter(|_| uid == SOURCES[1]) {
        Some(idle_ms) => strategy.with_idleness(Duration::from_millis(idle_ms)),
        None => strategy.without_idleness(),
    };
    let on_barrier = Arc::clone(on_barrier);
    let source = FaultSource { splits, job: Arc::clone(job), world: world.clone(), on_barrier };
    program.from_source(source, strategy, uid).stream().uid(uid)
}

fn passing(world: &World, records: &DataStream<Numbered>, uid: &str) -> DataStream<Numbered> {
    let world = world.clone();
    records.try_map(move |record: Numbered| world.event(Phase::Process, || Ok(record))).uid(uid)
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
    let mut second = job.has_second().then(|| second_source(job, world, program, &on_barrier));
    if !job.shape.is_two_sided() {
        records = second.take().map_or(records.clone(), |second| records.union(&second));
    }
    if job.rebalance {
        records = records.rebalance();
    }
    let records = passing(world, &records, PROCESS[0]);
    let second = second.map(|second| passing(world, &second, PROCESS[1]));
    let mut rows = shaped(job, &records, second.as_ref());
    if job.raw && job.shape != Shape::Records {
        let all = second.map_or(records.clone(), |second| records.union(&second));
        rows = rows.union(&raw(job, &all));
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
