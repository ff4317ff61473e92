//! The records: persons, auctions, bids.
//!
//! They hold numbers only. Strings are functions of a seed in the record, so a record is small and `Copy`, and a
//! query pays for the strings that it reads.

mod auction;
mod bid;
mod channel;
mod person;
mod place;

pub use auction::{Auction, Category};
pub use bid::Bid;
pub use channel::{CHANNELS, Channel, HOT_CHANNELS};
pub use person::Person;
pub use place::{City, State};

use flott_types::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that happened in the auction house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Event {
    /// Somebody has registered.
    Person(Person),
    /// Somebody offers an item.
    Auction(Auction),
    /// Somebody has bid.
    Bid(Bid),
}

impl Event {
    /// When it happened.
    #[inline]
    pub const fn date_time(&self) -> Timestamp {
        match self {
            Self::Person(person) => person.date_time,
            Self::Auction(auction) => auction.date_time,
            Self::Bid(bid) => bid.date_time,
        }
    }

    /// The person, if it is one.
    #[inline]
    pub const fn person(&self) -> Option<&Person> {
        if let Self::Person(person) = self { Some(person) } else { None }
    }

    /// The auction, if it is one.
    #[inline]
    pub const fn auction(&self) -> Option<&Auction> {
        if let Self::Auction(auction) = self { Some(auction) } else { None }
    }

    /// The bid, if it is one.
    #[inline]
    pub const fn bid(&self) -> Option<&Bid> {
        if let Self::Bid(bid) = self { Some(bid) } else { None }
    }
}

impl From<Person> for Event {
    fn from(person: Person) -> Self {
        Self::Person(person)
    }
}

impl From<Auction> for Event {
    fn from(auction: Auction) -> Self {
        Self::Auction(auction)
    }
}

impl From<Bid> for Event {
    fn from(bid: Bid) -> Self {
        Self::Bid(bid)
    }
}

#[cfg(test)]
mod tests;
