//! Sinks that need nothing outside the process.
//!
//! * [`PrintSink`]: a line per record on standard output.
//! * [`CollectSink`]: a vector that the host program reads.
//! * [`channel_sink`]: a bounded channel to the host program.
//! * [`BlackholeSink`]: counts and forgets.
//! * [`FnSink`]: a closure per record or per batch.
//!
//! They promise what Flink's namesakes do: each record at least once. A job that restarts from a snapshot writes again
//! what it had written after the snapshot.

mod blackhole;
mod channel;
mod collect;
mod function;
mod print;
#[cfg(test)]
mod tests;

pub use blackhole::{BlackholeSink, BlackholeWriter, RecordCounter};
pub use channel::{ChannelReceiver, ChannelSink, ChannelWriter, TryRecvError, channel_sink};
pub use collect::{CollectHandle, CollectSink, CollectWriter, collect_sink};
pub use function::{FnSink, FnWriter, SinkOutcome};
pub use print::{PrintSink, PrintWriter};
