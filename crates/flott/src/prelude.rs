//! What programs import: `use flott::prelude::*;`.
//!
//! It leaves out `Result` and `Error`, which would hide those of other crates: say `flott::Result`.

pub use crate::sinks::{BlackholeSink, FnSink, PrintSink, channel_sink, collect_sink};
pub use crate::sources::{
    CollectionSource, FnSource, GeneratorSource, HybridSource, IteratorSource, channel_source,
};
pub use crate::state::{
    AggregatingState, BroadcastState, ListState, MapState, OperatorListState, OperatorStateBackend,
    ReducingState, StateTtlConfig, TtlUpdate, TtlVisibility, ValueState,
};
pub use crate::windowing::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor, CountTrigger, DeltaEvictor,
    DeltaTrigger, EventTimeSessionWindows, EventTimeTrigger, EventTimeoutTrigger, GlobalWindow,
    GlobalWindows, ProcessingTimeSessionWindows, ProcessingTimeTrigger, ProcessingTimeoutTrigger,
    PurgingTrigger, SlidingEventTimeWindows, SlidingProcessingTimeWindows, TimeEvictor, TimeWindow,
    TumblingEventTimeWindows, TumblingProcessingTimeWindows,
};
pub use crate::{
    AggregateFunction, AsyncFunction, AsyncOutputMode, AsyncRetryStrategy, AsyncWaitConfig, BadRecord,
    BroadcastContext, BroadcastProcessFunction, CoProcessFunction, Collector, Configuration, DataStream,
    Either, JobStatus, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext,
    KeyedProcessFunction, KeyedStream, OnError, OutputTag, ProcessContext, ProcessFunction,
    ProcessWindowFunction, RuntimeContext, StartingPosition, StreamExecutionEnvironment, TimeDomain,
    Timestamp, Until, UserResult, Watermark, WatermarkStrategy, WindowContext, WindowedStream, options,
};
pub use std::time::Duration;

#[cfg(feature = "file")]
pub use crate::connectors::file::{FileSink, FileSource};
