//! The DataStream API: programs are built here, and run embedded in the process that built them.
//!
//! * `environment`: [`StreamExecutionEnvironment`], where a program starts and is executed.
//! * `data_stream`: [`DataStream`] and what can be done with a stream that has no keys.
//! * `keyed_stream`: [`KeyedStream`].
//! * `windowed_stream`: [`WindowedStream`].
//! * `connected`, `join`: two streams.
//! * `program`: what all of these add to: the stream graph and the factories of its operators and edges.
//! * `spans`: what is read of each source.
//! * `job`: executing it: [`JobClient`]. `deployment`: what its master starts and restarts.
//!
//! It sits above operators, runtime and coordinator, because a typed builder has to name the generic operators that it
//! instantiates (docs/design/0001).

#![deny(missing_docs)]

mod config_source;
mod connected;
mod data_stream;
mod deployment;
mod environment;
mod job;
mod join;
mod keyed_stream;
mod program;
mod spans;
mod windowed_stream;

pub use config_source::load_configuration;
pub use connected::{
    BroadcastStream, BroadcastStreams, ConnectedStreams, IntervalJoin, KeyedBroadcastStreams,
    KeyedConnectedStreams,
};
pub use data_stream::{DataStream, DataStreamSink};
pub use deployment::with_object_stores;
pub use environment::{SourceStream, StreamExecutionEnvironment};
pub use flott_checkpoint::{ChangedState, DroppedState, RestoreReport};
pub use job::{AtStop, JobCanceler, JobClient, JobExecutionResult, JobHandle, OperatorReport};
pub use join::JoinedStreams;
pub use keyed_stream::KeyedStream;
pub use windowed_stream::WindowedStream;
