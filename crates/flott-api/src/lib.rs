//! The contracts: what users and connector writers implement.
//!
//! * `source`: [`Source`], [`SplitEnumerator`], [`SourceReader`] and, for simple sources, [`SplitSource`].
//! * `span`: from where and until when a source is read.
//! * `sink`: [`Sink`], [`SinkWriter`].
//! * `bad_record`: what becomes of records that a source cannot read or a sink cannot write: [`OnError`], [`BadRecord`], [`BadRecords`].
//! * `watermark`: [`WatermarkStrategy`], [`WatermarkGenerator`].
//! * `function`: process, aggregate and asynchronous functions with their contexts.
//! * `windowing`: assigners, triggers, evictors.
//! * [`sources`], [`sinks`]: those that need nothing outside the process.
//! * [`format`](mod@format): how records stand in files.
//! * [`message`]: how records stand in messages.
//! * [`testing`]: drives a source without an engine.
//!
//! It is *not* where programs are built (`flott-datastream`) or run: connectors depend on this crate and need
//! nothing above it.

#![deny(missing_docs)]

mod bad_record;
mod collector;
pub mod format;
mod function;
pub mod message;
mod sink;
pub mod sinks;
mod source;
pub mod sources;
mod span;
mod split_source;
pub mod testing;
mod watermark;
pub mod windowing;

pub use bad_record::{BadRecord, BadRecords, OnError, Rejected, bad_records_tag};
pub use collector::{Collector, OutputTag, SideBuffer, SideOutputs};
pub use function::{
    AggregateFunction, AsyncFunction, AsyncRetryStrategy, BroadcastContext, BroadcastProcessFunction,
    CoProcessFunction, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext,
    KeyedProcessFunction, ProcessContext, ProcessFunction, ProcessWindowFunction, RuntimeContext, TimeDomain,
    WindowContext,
};
pub use sink::{Committable, CommittableId, Committer, Sink, SinkContext, SinkGeneration, SinkWriter};
pub use source::{
    Boundedness, EnumeratorInit, InputStatus, Source, SourceOutput, SourceReader, SourceReaderContext,
    SourceSplit, SplitEnumerator, SplitEnumeratorContext, SplitOutput, SplitSpan,
};
pub use span::{SourceSpan, StartingPosition, Until, split_to_json};
pub use split_source::{SplitReader, SplitSource, SplitSourceReader, StaticSplitEnumerator};
pub use watermark::{
    BatchTimestampAssigner, GeneratorContext, Idleness, TimestampMode, WatermarkAlignment,
    WatermarkGenerator, WatermarkStrategy,
};

/// Any error of user code; `?` converts into it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What user functions return: an error fails the job and is reported with operator, subtask and record.
pub type UserResult<T = ()> = Result<T, BoxError>;
