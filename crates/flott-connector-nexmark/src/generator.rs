//! The event with a number, as a function of the seed and the number alone.

use crate::config::NexmarkConfig;
use crate::price::price;
use crate::random::{Divisor, Words, below, below_wide, hot_and_rest, scatter};
use crate::record::{Auction, Bid, CHANNELS, Category, Channel, City, Event, HOT_CHANNELS, Person, State};
use flott_types::{Result, Timestamp};
use std::hint::select_unpredictable;

/// The id of the first person.
pub const FIRST_PERSON_ID: u64 = 1_000;

/// The id of the first auction.
pub const FIRST_AUCTION_ID: u64 = 1_000;

/// The number of the first category.
pub const FIRST_CATEGORY_ID: u64 = 10;

/// The number of categories.
pub const NUM_CATEGORIES: u64 = 5;

/// In so many events, one is a person, three are auctions and the rest are bids, in this order.
pub const EVENTS_PER_EPOCH: u64 = PERSONS_PER_EPOCH + AUCTIONS_PER_EPOCH + BIDS_PER_EPOCH;

pub(crate) const PERSONS_PER_EPOCH: u64 = 1;
pub(crate) const AUCTIONS_PER_EPOCH: u64 = 3;
pub(crate) const BIDS_PER_EPOCH: u64 = 46;

/// The hot auction is the first of the latest so many; the hot seller the first, the hot bidder the second of the
/// latest so many persons.
const HOT_STRIDE: u64 = 100;

/// One bid in so many comes through one of the other channels.
const HOT_CHANNELS_RATIO: u64 = 2;

/// Makes events by their number.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    stream: u64,
    base_time_ms: Timestamp,
    events_per_second: Divisor,
    hot_auction_ratio: u64,
    hot_bidders_ratio: u64,
    hot_sellers_ratio: u64,
    active_people: u64,
    in_flight_auctions: u64,
    id_lead: u64,
}

impl Generator {
    /// A generator of the events that `config` describes; their number and order are not its business.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn new(config: &NexmarkConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            // The second scatter keeps the streams of seeds that follow each other apart.
            stream: scatter(scatter(config.seed).wrapping_add(1)),
            base_time_ms: config.base_time_ms,
            events_per_second: Divisor::new(config.events_per_second),
            hot_auction_ratio: config.hot_auction_ratio.into(),
            hot_bidders_ratio: config.hot_bidders_ratio.into(),
            hot_sellers_ratio: config.hot_sellers_ratio.into(),
            active_people: config.active_people.into(),
            in_flight_auctions: config.in_flight_auctions.into(),
            id_lead: config.id_lead.into(),
        })
    }

    /// The event with number `n`, which is below [`crate::EVENTS_MAX`].
    #[inline]
    pub fn event(&self, n: u64) -> Event {
        match n % EVENTS_PER_EPOCH {
            0 => Event::Person(self.person(n)),
            1..=AUCTIONS_PER_EPOCH => Event::Auction(self.auction(n)),
            _ => Event::Bid(self.bid(n)),
        }
    }

    /// The time of the event with number `n`.
    #[inline]
    pub fn date_time(&self, n: u64) -> Timestamp {
        self.base_time_ms + self.events_per_second.quotient(n * 1_000) as i64
    }

    /// The number of the first event that is not before `time`.
    pub(crate) fn first_at(&self, time: Timestamp) -> u64 {
        let after_ms = i128::from(time) - i128::from(self.base_time_ms);
        let number = after_ms.max(0) * i128::from(self.events_per_second.get());
        u64::try_from(number.unsigned_abs().div_ceil(1_000)).unwrap_or(u64::MAX)
    }

    /// The person that event `n` is.
    #[inline(always)]
    pub(crate) fn person(&self, n: u64) -> Person {
        let mut words = Words::of_event(self.stream, n);
        let (city, state) = words.halves();
        Person {
            id: FIRST_PERSON_ID + last_person(n),
            date_time: self.date_time(n),
            seed: words.halves().0,
            city: one_of(City::ALL, city, City::Phoenix),
            state: one_of(State::ALL, state, State::Az),
        }
    }

    /// The auction that event `n` is.
    #[inline(always)]
    pub(crate) fn auction(&self, n: u64) -> Auction {
        let mut words = Words::of_event(self.stream, n);
        let (seller, category) = words.halves();
        let (initial_bid, above) = words.halves();
        let length = words.word();
        let initial_bid = price(initial_bid);
        let date_time = self.date_time(n);
        let in_epoch = n % EVENTS_PER_EPOCH - PERSONS_PER_EPOCH;
        Auction {
            id: FIRST_AUCTION_ID + n / EVENTS_PER_EPOCH * AUCTIONS_PER_EPOCH + in_epoch,
            seller: FIRST_PERSON_ID + self.seller(n, seller),
            initial_bid,
            reserve: initial_bid + price(above),
            date_time,
            expires: date_time + self.length_ms(n, date_time, length),
            seed: words.halves().0,
            category: one_of(&Category::ALL, category, Category::ALL[0]),
        }
    }

    /// The bid that event `n` is.
    #[inline(always)]
    pub(crate) fn bid(&self, n: u64) -> Bid {
        let mut words = Words::of_event(self.stream, n);
        let (auction, bidder) = words.halves();
        let (cents, channel) = words.halves();
        Bid {
            auction: FIRST_AUCTION_ID + self.auction_of_bid(n, auction),
            bidder: FIRST_PERSON_ID + self.bidder(n, bidder),
            price: price(cents),
            date_time: self.date_time(n),
            channel: channel_of_bid(channel),
            seed: words.halves().0,
        }
    }

    /// The first of the latest hundred auctions, or one that is likely to be open still or soon.
    #[inline(always)]
    fn auction_of_bid(&self, n: u64, fraction: u32) -> u64 {
        let last = n / EVENTS_PER_EPOCH * AUCTIONS_PER_EPOCH + (AUCTIONS_PER_EPOCH - 1);
        let (is_hot, rest) = hot_and_rest(fraction, self.hot_auction_ratio);
        let first = last.saturating_sub(self.in_flight_auctions);
        let other = first + below(rest, last - first + 1 + self.id_lead);
        select_unpredictable(is_hot, last / HOT_STRIDE * HOT_STRIDE, other)
    }

    /// The second of the latest hundred persons, so that it is not the hot seller; or any active one.
    #[inline(always)]
    fn bidder(&self, n: u64, fraction: u32) -> u64 {
        let last = last_person(n);
        let (is_hot, rest) = hot_and_rest(fraction, self.hot_bidders_ratio);
        let hot = (last / HOT_STRIDE * HOT_STRIDE + 1).min(last + self.id_lead);
        select_unpredictable(is_hot, hot, self.active_person(last, rest))
    }

    /// The first of the latest hundred persons, or any active one.
    #[inline(always)]
    fn seller(&self, n: u64, fraction: u32) -> u64 {
        let last = last_person(n);
        let (is_hot, rest) = hot_and_rest(fraction, self.hot_sellers_ratio);
        select_unpredictable(is_hot, last / HOT_STRIDE * HOT_STRIDE, self.active_person(last, rest))
    }

    /// One of the latest persons, or one that is yet to come.
    #[inline(always)]
    fn active_person(&self, last: u64, fraction: u32) -> u64 {
        let people = last + 1;
        let active = people.min(self.active_people);
        people - active + below(fraction, active + self.id_lead)
    }

    /// How long an auction is open. The mean is the time in which as many auctions are opened as should be open at a
    /// time.
    fn length_ms(&self, n: u64, date_time: Timestamp, fraction: u64) -> i64 {
        let events = self.in_flight_auctions * EVENTS_PER_EPOCH / AUCTIONS_PER_EPOCH;
        let mean_ms = (self.date_time(n + events) - date_time) as u64;
        1 + below_wide(fraction, (2 * mean_ms).max(1)) as i64
    }
}

/// The latest person when event `n` happens, from zero.
#[inline(always)]
const fn last_person(n: u64) -> u64 {
    n / EVENTS_PER_EPOCH
}

#[inline(always)]
fn channel_of_bid(fraction: u32) -> Channel {
    let (is_hot, rest) = hot_and_rest(fraction, HOT_CHANNELS_RATIO);
    let hot = Channel::hot(below(rest, HOT_CHANNELS.len() as u64) as u16);
    let other = Channel(below(rest, CHANNELS.into()) as u16);
    select_unpredictable(is_hot, hot, other)
}

#[inline(always)]
fn one_of<T: Copy>(all: &[T], fraction: u32, default: T) -> T {
    let idx = below(fraction, all.len() as u64) as usize;
    all.get(idx).copied().unwrap_or(default)
}

#[cfg(test)]
mod tests;
