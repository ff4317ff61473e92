//! Stateful computations over data streams, in one process, in Rust: what Apache Flink's DataStream API is in Java.
//!
//! A program makes a [`StreamExecutionEnvironment`], builds a dataflow from sources, transformations and sinks, and
//! executes it. This one counts words in windows of ten seconds of event time:
//!
//! ```
//! use flott::prelude::*;
//!
//! fn main() -> flott::Result<()> {
//!     let env = StreamExecutionEnvironment::new()?;
//!     let lines = [(1_000, "to be or not to be"), (4_000, "that is the question"), (11_000, "to be")];
//!     let lines = lines.map(|(at, line)| (at, line.to_owned()));
//!     let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_secs(5))
//!         .with_timestamp_assigner(|line: &(i64, String), _| line.0);
//!
//!     let (sink, counts) = collect_sink();
//!     env.from_source(CollectionSource::new(lines), strategy, "lines")
//!         .flat_map(|(_, line)| line.split(' ').map(|word| (word.to_owned(), 1_u64)).collect::<Vec<_>>())
//!         .key_by(|(word, _)| word.clone())
//!         .window(TumblingEventTimeWindows::of(Duration::from_secs(10)))
//!         .reduce_with(|sum, word| sum.1 += word.1, |_, ctx, (word, count)| (ctx.window.start, word, count))
//!         .sink_to(sink);
//!     env.execute("word count")?;
//!
//!     let mut counts = counts.take();
//!     counts.sort();
//!     assert_eq!(counts[0], (0, "be".to_owned(), 2));
//!     assert_eq!(counts.last(), Some(&(10_000, "to".to_owned(), 1)));
//!     Ok(())
//! }
//! ```
//!
//! # Where things are
//!
//! * [`guide`]: every topic with examples that compile; start there.
//! * [`prelude`]: what programs import.
//! * This level: the environment, streams, functions, watermark strategies, configuration, errors.
//! * [`windowing`]: assigners, triggers, evictors. [`state`]: handles of keyed, operator and broadcast state.
//! * [`sources`], [`sinks`]: those that need nothing outside the process. [`connectors`]: the others, each behind a
//!   cargo feature. [`mod@format`]: how records stand in files; [`message`], [`mod@formats`]: in messages.
//! * [`mod@env`]: the seam to clock, files and tasks, with a simulated version for tests.
//!
//! It is *not* where anything is implemented: this crate re-exports the crates below it, so that programs need not know
//! how the engine is divided.
//!
//! # Cargo features
//!
//! | feature | gives | default |
//! |---|---|---|
//! | `file` | [`connectors::file`]: text lines, CSV, JSON lines, gzip and zstd; log files as they grow | yes |
//! | `json`, `csv`, `avro`, `protobuf` | [`mod@formats`]: JSON, Debezium JSON, CSV, Avro and Protocol Buffers in messages | no |
//! | `arrow` | `formats::arrow`: those formats to Arrow batches | no |
//! | `http` | `connectors::http`: records that clients post, acknowledged when they are in a durable log | no |
//! | `kafka` | `connectors::kafka`: topics of Apache Kafka; builds a C library, librdkafka, with a C compiler and `make` | no |
//! | `kafka-ssl` | the same with TLS and SCRAM; links the system's OpenSSL | no |
//! | `nexmark` | `connectors::nexmark`: the generator of the Nexmark benchmark | no |
//! | `parquet` | `connectors::parquet`: Parquet files for the file source and sink; builds Arrow | no |
//! | `s3`, `gcs`, `azure` | checkpoints, savepoints and files under `s3:`, `gs:`, `abfs:` URIs; each builds an HTTP client | no |
//! | `postgres` | `connectors::postgres`: PostgreSQL databases; builds rustls | no |
//! | `socket` | `connectors::socket`: text lines from a TCP connection | no |
//! | `sqlite` | `connectors::sqlite`: a sink for SQLite databases; builds SQLite | no |

#![deny(missing_docs)]

pub mod connectors;
pub mod formats;
pub mod guide;
pub mod prelude;

pub use flott_api::{
    AggregateFunction, AsyncFunction, AsyncRetryStrategy, BadRecord, BadRecords, BatchTimestampAssigner,
    Boundedness, BoxError, BroadcastContext, BroadcastProcessFunction, CoProcessFunction, Collector,
    Committable, CommittableId, Committer, EnumeratorInit, GeneratorContext, Idleness, InputStatus,
    KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, OnError,
    OutputTag, ProcessContext, ProcessFunction, ProcessWindowFunction, Rejected, RuntimeContext, Sink,
    SinkContext, SinkGeneration, SinkWriter, Source, SourceOutput, SourceReader, SourceReaderContext,
    SourceSpan, SourceSplit, SplitEnumerator, SplitEnumeratorContext, SplitOutput, SplitReader, SplitSource,
    SplitSourceReader, StartingPosition, StaticSplitEnumerator, TimeDomain, TimestampMode, Until, UserResult,
    WatermarkAlignment, WatermarkGenerator, WatermarkStrategy, WindowContext, bad_records_tag,
};
pub use flott_coordinator::{JobCounts, JobStatus};
pub use flott_datastream::{
    AtStop, BroadcastStream, BroadcastStreams, ChangedState, ConnectedStreams, DataStream, DataStreamSink,
    DroppedState, IntervalJoin, JobCanceler, JobClient, JobExecutionResult, JobHandle, JoinedStreams,
    KeyedBroadcastStreams, KeyedConnectedStreams, KeyedStream, OperatorReport, RestoreReport, SourceStream,
    StreamExecutionEnvironment, WindowedStream, load_configuration, with_object_stores,
};
pub use flott_operators::{AsyncOutputMode, AsyncWaitConfig, Either};
pub use flott_types::{
    ConfigOption, ConfigValue, Configuration, Data, Error, ErrorKind, JobId, Key, MemorySize, NO_TIMESTAMP,
    RecordBatch, Result, RowChange, RowKind, SplitId, SubtaskIndex, Timestamp, TimestampText, Watermark,
    options,
};

pub use flott_api::{format, message, sinks, sources, windowing};

/// Handles of state: keyed (value, list, map, reducing, aggregating), operator (list, union) and broadcast; time to live.
pub mod state {
    pub use flott_state::{
        AggregatingState, BroadcastState, KeyedStateStore, ListState, MapState, OperatorListState,
        OperatorStateBackend, OperatorStateStore, OperatorStateStoreMut, ReducingState, StateTtlConfig,
        TtlUpdate, TtlVisibility, ValueState,
    };
}

/// The seam to the outside world: [`Env`](env::Env) is clock, randomness, tasks, files and network of a job, and
/// [`sim`](env::sim) a deterministic world for tests.
pub mod env {
    pub use flott_env::{
        AsyncStream, Env, FileSystem, FileWrite, Instant, Metadata, ReadSeek, TaskHandle, sim,
    };
}
