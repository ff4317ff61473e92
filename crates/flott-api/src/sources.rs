//! Sources that need nothing outside the process.
//!
//! * [`CollectionSource`]: the records of a vector, dealt out in ranges.
//! * [`IteratorSource`]: what an iterator yields, from one reader.
//! * [`GeneratorSource`]: a function of an index, at full speed or at a rate.
//! * [`channel_source`]: records that the host program sends while the job runs.
//!
//! All but the channel can be replayed: their positions are counts of records.

mod channel;
mod collection;
mod generator;
mod iterator;
#[cfg(test)]
mod tests;

pub use channel::{
    ChannelReader, ChannelSender, ChannelSource, ChannelSplit, SendError, TrySendError, channel_source,
};
pub use collection::{CollectionReader, CollectionSource, CollectionSplit};
pub use generator::{GeneratorReader, GeneratorSource, GeneratorSplit};
pub use iterator::{IteratorReader, IteratorSource, IteratorSplit};
