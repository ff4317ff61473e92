//! Bids.

use crate::record::Channel;
use crate::text::{Field, Letters};
use flott_types::Timestamp;
use serde::{Deserialize, Serialize};

/// The mean size of a bid, and of its fields but `extra`, as the benchmark counts them.
const SIZE_MEAN: usize = 100;
const SIZE_OF_NUMBERS: usize = 32;

/// Somebody has bid on an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bid {
    /// The auction.
    pub auction: u64,
    /// The person.
    pub bidder: u64,
    /// What is bid, in cents.
    pub price: u64,
    /// When.
    pub date_time: Timestamp,
    /// Where the bid came from.
    pub channel: Channel,
    /// What the strings are made from.
    pub seed: u32,
}

impl Bid {
    /// The page that the bid came from.
    pub fn url(&self) -> String {
        self.channel.url()
    }

    /// Padding.
    pub fn extra(&self) -> String {
        Letters::new(self.seed, Field::Extra).extra(SIZE_OF_NUMBERS, SIZE_MEAN)
    }
}
