//! Nexmark: people open auctions and bid on them. The event generator as a source, and the queries over it.
//!
//! The distribution and the meaning of the fields are those of the generators of Apache Beam and of
//! `nexmark/nexmark` for Flink: of 50 events one is a person, three are auctions and 46 are bids. Unlike there,
//! the event with number `n` is a pure function of the seed and `n`, so a split is a stride of event numbers with an
//! exact position, and runs repeat. Strings are made only when a query asks for them; records are `Copy`.
//!
//! It is *not* where the queries run: [`queries`] says what each query computes and what its result records are,
//! [`oracle`] computes results naively, and the programs are written above the engine.
//!
//! Differences from `nexmark/nexmark` for Flink, all deliberate:
//! * Bidders start at [`FIRST_PERSON_ID`], where that generator adds the offset twice so that bidders and persons
//!   hardly meet.
//! * The last out-of-order group of a bounded stream is shuffled within itself, so that the first `n` events are
//!   the same set whatever the size of the groups.
//! * URLs of channels are the same in every run.
//!
//! Invariants: the event of a number never depends on parallelism, batch size, position of restart or the kind of
//! source; a source of one kind of record reads what the source of all reads, without the rest.
//!
//! Reading order: `config`, `record`, `generator` (with `random`, `price`, `text`), `sequence`, `source`, `split`,
//! `reader`, [`queries`], [`oracle`].

#![deny(missing_docs)]

mod config;
mod generator;
pub mod oracle;
mod price;
pub mod queries;
mod random;
mod reader;
mod record;
mod sequence;
mod source;
mod split;
mod text;

pub use config::{EVENTS_MAX, NexmarkConfig};
pub use generator::{
    EVENTS_PER_EPOCH, FIRST_AUCTION_ID, FIRST_CATEGORY_ID, FIRST_PERSON_ID, Generator, NUM_CATEGORIES,
};
pub use reader::NexmarkReader;
pub use record::{Auction, Bid, CHANNELS, Category, Channel, City, Event, HOT_CHANNELS, Person, State};
pub use sequence::{NexmarkRecord, Sequence};
pub use source::NexmarkSource;
pub use split::NexmarkSplit;
