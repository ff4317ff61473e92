//! Auctions.

use crate::generator::{FIRST_CATEGORY_ID, NUM_CATEGORIES};
use crate::text::{Field, Letters};
use flott_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The mean size of an auction, and of its numbers, as the benchmark counts them.
const SIZE_MEAN: usize = 500;
const SIZE_OF_NUMBERS: usize = 48;

/// Somebody offers an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Auction {
    /// The auction.
    pub id: u64,
    /// The person who offers.
    pub seller: u64,
    /// The least price, in cents.
    pub initial_bid: u64,
    /// The price, in cents, below which the item is not sold.
    pub reserve: u64,
    /// When the auction opens.
    pub date_time: Timestamp,
    /// When it closes: the last moment at which a bid counts.
    pub expires: Timestamp,
    /// What the strings are made from.
    pub seed: u32,
    /// What kind of item it is.
    pub category: Category,
}

impl Auction {
    /// The item.
    pub fn item_name(&self) -> String {
        Letters::new(self.seed, Field::ItemName).string(20, ' ')
    }

    /// What is said about it.
    pub fn description(&self) -> String {
        Letters::new(self.seed, Field::Description).string(100, ' ')
    }

    /// Padding.
    pub fn extra(&self) -> String {
        let size = SIZE_OF_NUMBERS + self.item_name().len() + self.description().len();
        Letters::new(self.seed, Field::Extra).extra(size, SIZE_MEAN)
    }
}

/// A kind of items: 10 to 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Category(CategoryIdx);

/// An enum, because its unused values are where [`crate::Event`] notes the kind of the event: eight bytes less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum CategoryIdx {
    First,
    Second,
    Third,
    Fourth,
    Fifth,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; NUM_CATEGORIES as usize] = [
        Self(CategoryIdx::First),
        Self(CategoryIdx::Second),
        Self(CategoryIdx::Third),
        Self(CategoryIdx::Fourth),
        Self(CategoryIdx::Fifth),
    ];

    /// The category with the number `id`, if there is one.
    pub fn new(id: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.id() == id)
    }

    /// The number.
    #[inline]
    pub const fn id(self) -> u64 {
        FIRST_CATEGORY_ID + self.0 as u64
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id())
    }
}

impl From<Category> for u64 {
    fn from(category: Category) -> Self {
        category.id()
    }
}

impl TryFrom<u64> for Category {
    type Error = String;

    fn try_from(id: u64) -> Result<Self, String> {
        Self::new(id).ok_or_else(|| format!("there is no category {id}"))
    }
}
