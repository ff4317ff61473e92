//! Sources that need nothing outside the process.
//!
//! * [`CollectionSource`]: the records of a vector, dealt out in ranges.
//! * [`IteratorSource`]: what an iterator yields, from one reader.
//! * [`GeneratorSource`]: a function of an index, at full speed or at a rate.
//! * [`FnSource`]: a closure per split; the short way to a source of one's own.
//! * [`HybridSource`]: one source after the other.
//! * [`channel_source`]: records that the host program sends while the job runs.
//!
//! All but the channel, and chains with it, can be replayed: their positions are counts of records.

mod channel;
mod collection;
mod function;
mod generator;
mod hybrid;
mod iterator;
#[cfg(test)]
mod tests;

pub use channel::{
    ChannelReader, ChannelSender, ChannelSource, ChannelSplit, SendError, TrySendError, channel_source,
};
pub use collection::{CollectionReader, CollectionSource, CollectionSplit};
pub use function::{FnReader, FnSource, FnSplit};
pub use generator::{GeneratorReader, GeneratorSource, GeneratorSplit};
pub use hybrid::{HybridSource, HybridSourceBuilder, HybridSplit, SwitchContext};
pub use iterator::{IteratorReader, IteratorSource, IteratorSplit};
