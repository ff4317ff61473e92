//! What the Flott contenders share: an environment, a source that makes the records of the bench, and a sink.
//!
//! Everything is on that a real program has: event time, watermarks, keyed state by key group, batches of the default
//! size, a thread for each subtask. At parallelism 1 the keyed scenarios are one chain each, so one thread; at 2 they
//! have two that read and two that count.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use flott_api::sinks::FnSink;
use flott_api::{
    AggregateFunction, Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput, SplitReader,
    SplitSource, WatermarkStrategy,
};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::{Configuration, Data, RecordBatch, SplitId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::records::{BLOCK_LEN, generator_blocks};
use crate::scenario::Checksum;

/// A real environment with default settings but for the parallelism.
pub(crate) fn environment(parallelism: usize) -> StreamExecutionEnvironment {
    let env = StreamExecutionEnvironment::with_configuration(Configuration::default());
    let mut env = env.expect("the operating system has threads");
    env.set_parallelism(u32::try_from(parallelism).expect("the command line allows 64"));
    env
}

/// The sum over all subtasks of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedChecksum(Arc<Mutex<Checksum>>);

impl SharedChecksum {
    pub(crate) fn add(&self, part: Checksum) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += part;
    }

    /// The sum when nobody else can add to it any more: subtasks are dropped soon after the job has ended.
    pub(crate) fn get_when_alone(&self) -> Checksum {
        while Arc::strong_count(&self.0) > 1 {
            std::thread::yield_now();
        }
        self.get()
    }

    pub(crate) fn get(&self) -> Checksum {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a program whose results `add` puts into a checksum.
pub(crate) fn run<T: Data>(
    env: &StreamExecutionEnvironment,
    results: &DataStream<T>,
    add: impl Fn(&mut Checksum, &T) + Clone + Send + Sync + 'static,
) -> Checksum {
    let total = SharedChecksum::default();
    let of_job = total.clone();
    results.sink_to(FnSink::for_batches(move |batch: RecordBatch<T>| {
        let mut part = Checksum::default();
        batch.records().iter().for_each(|record| add(&mut part, record));
        total.add(part);
    }));
    execute(env);
    of_job.get()
}

/// Runs what was added to `env`.
pub(crate) fn execute(env: &StreamExecutionEnvironment) {
    if let Err(error) = env.execute("bench") {
        panic!("the job failed: {}", error.report());
    }
}

/// Records that a function makes of their index, block by block, as the other contenders make them.
pub(crate) struct BlockSource<T, F> {
    records: u64,
    make: F,
    has_timestamps: bool,
    types: PhantomData<fn() -> T>,
}

impl<T: Data, F: Fn(u64) -> (T, Timestamp) + Copy + Send + Sync + 'static> BlockSource<T, F> {
    /// A source of records with timestamps of its own.
    pub(crate) fn timed(records: u64, make: F) -> Self {
        Self { records, make, has_timestamps: true, types: PhantomData }
    }

    /// A source of records without.
    pub(crate) fn untimed(records: u64, make: F) -> Self {
        Self { records, make, has_timestamps: false, types: PhantomData }
    }

    /// The stream of it; timestamps never go back.
    pub(crate) fn stream(self, env: &StreamExecutionEnvironment) -> DataStream<T> {
        let strategy = if self.has_timestamps {
            WatermarkStrategy::for_monotonous_timestamps()
        } else {
            WatermarkStrategy::no_watermarks()
        };
        env.from_source(self, strategy, "records").stream()
    }
}

impl<T, F: Clone> Clone for BlockSource<T, F> {
    fn clone(&self) -> Self {
        Self {
            records: self.records,
            make: self.make.clone(),
            has_timestamps: self.has_timestamps,
            types: PhantomData,
        }
    }
}

/// The blocks of one generator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BlockSplit {
    generator: u32,
    parallelism: u32,
    blocks_read: u64,
}

impl SourceSplit for BlockSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("generator-{}", self.generator))
    }
}

impl<T, F> SplitSource for BlockSource<T, F>
where
    T: Data,
    F: Fn(u64) -> (T, Timestamp) + Copy + Send + Sync + 'static,
{
    type Record = T;
    type Split = BlockSplit;
    type Reader = BlockReader<T, F>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, parallelism: u32) -> flott_types::Result<Vec<BlockSplit>> {
        Ok((0..parallelism).map(|generator| BlockSplit { generator, parallelism, blocks_read: 0 }).collect())
    }

    fn open(&self, split: BlockSplit, _: &SourceReaderContext) -> flott_types::Result<BlockReader<T, F>> {
        Ok(BlockReader { source: self.clone(), split })
    }
}

/// Reads a block at a time, whatever the batch size: blocks are as long as batches are by default.
pub(crate) struct BlockReader<T, F> {
    source: BlockSource<T, F>,
    split: BlockSplit,
}

impl<T, F> SplitReader for BlockReader<T, F>
where
    T: Data,
    F: Fn(u64) -> (T, Timestamp) + Copy + Send + Sync + 'static,
{
    type Record = T;
    type Split = BlockSplit;

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<flott_types::Result<InputStatus>> {
        let BlockSplit { generator, parallelism, blocks_read } = self.split;
        // All blocks of the generator lie behind those that were read.
        let skipped = blocks_read * u64::from(parallelism) * BLOCK_LEN;
        let left = self.source.records.saturating_sub(skipped);
        let block = generator_blocks(left, generator as usize, parallelism as usize).next();
        let Some(block) = block else { return Poll::Ready(Ok(InputStatus::EndOfInput)) };
        let indices = block.start + skipped..block.end + skipped;
        let make = self.source.make;
        let batch = if self.source.has_timestamps {
            let n_records = (indices.end - indices.start) as usize;
            let (mut records, mut timestamps) =
                (Vec::with_capacity(n_records), Vec::with_capacity(n_records));
            for index in indices {
                let (record, timestamp) = make(index);
                records.push(record);
                timestamps.push(timestamp);
            }
            RecordBatch::from_columns(records, timestamps)
        } else {
            RecordBatch::untimed(indices.map(|index| make(index).0).collect())
        };
        out.collect_batch(batch);
        self.split.blocks_read += 1;
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }

    fn split(&self) -> BlockSplit {
        self.split.clone()
    }
}

/// Counts records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count;

impl<T: Data> AggregateFunction<T> for Count {
    type Accumulator = u64;
    type Output = u64;

    fn create_accumulator(&self) -> u64 {
        0
    }

    fn add(&self, count: &mut u64, _: &T) {
        *count += 1;
    }

    fn get_result(&self, count: &u64) -> u64 {
        *count
    }

    fn merge(&self, count: &mut u64, other: &u64) {
        *count += other;
    }
}

/// How far apart watermarks are, in the time units of the keyed scenarios.
///
/// The default, 100, is meant as milliseconds of real event time; here a record comes each unit of time, so it would
/// be a watermark for every hundred records. This is one for every ten blocks of a generator and a hundredth of a window.
pub(crate) const WATERMARK_GRANULARITY: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_generators_together_make_each_record_once() {
        for (records, parallelism) in [(0, 1), (1, 1), (5_000, 1), (10_000, 2), (10_241, 3)] {
            let env = environment(parallelism);
            let stream = BlockSource::untimed(records, |index| (index, 0)).stream(&env);
            let found = run(&env, &stream, |sum, index| sum.add(*index, 0, 0));
            let mut expected = Checksum::default();
            (0..records).for_each(|index| expected.add(index, 0, 0));
            assert_eq!(found, expected);
        }
    }
}
