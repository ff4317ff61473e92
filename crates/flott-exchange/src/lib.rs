//! Between tasks: batches are divided among channels, wait there in bounded memory, and are merged again.
//!
//! * `partitioner`: which channel a record takes.
//! * `result_partition`: collects records per channel, and holds what a full channel does not take yet.
//! * `channel`: bounded in bytes; a full channel stops its producer, and so on back to the source.
//! * `aligner`: when the barriers of a checkpoint have come on all channels, and which channels wait for that.
//! * `recorder`: what barriers overtake, which then is part of the snapshot.
//! * `watermark_valve`: the watermark of a task is the least of its active channels.
//!
//! Local channels move batches by ownership: nothing is serialized or copied. Nothing here spawns or sleeps; it runs on
//! any executor.

#![deny(missing_docs)]

mod aligner;
mod channel;
mod partitioner;
mod recorder;
mod result_partition;
mod watermark_valve;

pub use aligner::{AlignerOutput, BarrierAligner};
pub use channel::{ChannelClosed, ChannelSender, InputGate, Outgoing, Recorded, input_gate};
pub use partitioner::{
    BroadcastPartitioner, CustomPartitioner, HashPartitioner, Partitioner, RandomPartitioner,
    RoundRobinPartitioner, SinglePartitioner,
};
pub use recorder::Recorder;
pub use result_partition::ResultPartition;
pub use watermark_valve::{ValveOutput, WatermarkValve};
