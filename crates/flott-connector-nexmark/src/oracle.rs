//! The queries, naively: what a program's result must be, whatever the order of its input.
//!
//! Each function takes all events and returns all results, sorted. Nothing is clever or fast here; inputs of some
//! hundred thousand events are fine. For larger results compare [`Fingerprint`]s.

use crate::queries::{
    AuctionPrice, BidderCount, BidderSession, CategoryPrice, HOT_ITEMS_SIZE_MS, HOT_ITEMS_SLIDE_MS, HotItem,
    LOCAL_CATEGORY, LocalItem, NewSeller, SESSION_GAP_MS, WINDOW_MS, dollars_to_euros, is_local, is_selected,
};
use crate::record::{Auction, Bid, Category, Event, Person};
use flott_api::windowing::TimeWindow;
use flott_types::{Timestamp, key_hash};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Tells multisets of results apart without sorting them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many results there are.
    pub records: u64,
    /// The wrapping sum of their hashes.
    pub hash: u64,
}

impl Fingerprint {
    /// The fingerprint of `records` in any order.
    pub fn of<T: Serialize>(records: impl IntoIterator<Item = T>) -> Self {
        let mut fingerprint = Self::default();
        records.into_iter().for_each(|record| fingerprint.add(&record));
        fingerprint
    }

    /// Adds one more result.
    pub fn add<T: Serialize>(&mut self, record: &T) {
        self.merge(Self { records: 1, hash: key_hash(record) });
    }

    /// Adds the results of another part.
    pub fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// Pass through.
pub fn q0(events: &[Event]) -> Vec<Bid> {
    sorted(bids(events).copied())
}

/// Currency conversion.
pub fn q1(events: &[Event]) -> Vec<Bid> {
    sorted(bids(events).map(|bid| Bid { price: dollars_to_euros(bid.price), ..*bid }))
}

/// Selection.
pub fn q2(events: &[Event]) -> Vec<AuctionPrice> {
    let selected = bids(events).filter(|bid| is_selected(bid.auction));
    sorted(selected.map(|bid| AuctionPrice { auction: bid.auction, price: bid.price }))
}

/// Local item suggestion.
pub fn q3(events: &[Event]) -> Vec<LocalItem> {
    let local: BTreeMap<u64, &Person> =
        persons(events).filter(|person| is_local(person.state)).map(|person| (person.id, person)).collect();
    let suggested = auctions(events).filter(|auction| auction.category == LOCAL_CATEGORY);
    sorted(suggested.filter_map(|auction| {
        let seller = local.get(&auction.seller)?;
        Some(LocalItem { name: seller.name(), city: seller.city, state: seller.state, auction: auction.id })
    }))
}

/// Average price for a category.
pub fn q4(events: &[Event]) -> Vec<CategoryPrice> {
    let opened: BTreeMap<u64, &Auction> = auctions(events).map(|auction| (auction.id, auction)).collect();
    let mut winning: BTreeMap<u64, u64> = BTreeMap::new();
    for bid in bids(events) {
        let Some(auction) = opened.get(&bid.auction) else { continue };
        if (auction.date_time..=auction.expires).contains(&bid.date_time) {
            let price = winning.entry(auction.id).or_default();
            *price = bid.price.max(*price);
        }
    }
    let mut finals: BTreeMap<Category, Vec<u64>> = BTreeMap::new();
    for (auction, price) in winning {
        if let Some(auction) = opened.get(&auction) {
            finals.entry(auction.category).or_default().push(price);
        }
    }
    let average = |prices: Vec<u64>| prices.iter().sum::<u64>() / prices.len() as u64;
    sorted(finals.into_iter().map(|(category, prices)| CategoryPrice { category, average: average(prices) }))
}

/// Hot items.
pub fn q5(events: &[Event]) -> Vec<HotItem> {
    let mut counts: BTreeMap<TimeWindow, BTreeMap<u64, u64>> = BTreeMap::new();
    for bid in bids(events) {
        for window in hop(bid.date_time, HOT_ITEMS_SIZE_MS, HOT_ITEMS_SLIDE_MS) {
            *counts.entry(window).or_default().entry(bid.auction).or_default() += 1;
        }
    }
    let hottest = |(window, counts): (TimeWindow, BTreeMap<u64, u64>)| {
        let max = counts.values().copied().max();
        let items = counts.into_iter().map(move |(auction, bids)| HotItem { window, auction, bids });
        items.filter(move |item| Some(item.bids) == max)
    };
    sorted(counts.into_iter().flat_map(hottest))
}

/// Highest bid.
pub fn q7(events: &[Event]) -> Vec<Bid> {
    let mut highest: BTreeMap<TimeWindow, u64> = BTreeMap::new();
    for bid in bids(events) {
        let price = highest.entry(tumble(bid.date_time, WINDOW_MS)).or_default();
        *price = bid.price.max(*price);
    }
    let is_highest = |bid: &&Bid| highest.get(&tumble(bid.date_time, WINDOW_MS)) == Some(&bid.price);
    sorted(bids(events).filter(is_highest).copied())
}

/// Monitor new users.
pub fn q8(events: &[Event]) -> Vec<NewSeller> {
    let sellers: BTreeSet<(u64, TimeWindow)> =
        auctions(events).map(|auction| (auction.seller, tumble(auction.date_time, WINDOW_MS))).collect();
    sorted(persons(events).filter_map(|person| {
        let window = tumble(person.date_time, WINDOW_MS);
        sellers.contains(&(person.id, window)).then(|| NewSeller {
            window,
            id: person.id,
            name: person.name(),
        })
    }))
}

/// User sessions.
pub fn q11(events: &[Event]) -> Vec<BidderSession> {
    let by_time = sorted(bids(events).map(|bid| (bid.bidder, bid.date_time)));
    let mut sessions: Vec<BidderSession> = Vec::new();
    for (bidder, at) in by_time {
        let end = at + SESSION_GAP_MS;
        match sessions.last_mut() {
            Some(session) if session.bidder == bidder && at <= session.window.end => {
                session.window.end = end;
                session.bids += 1;
            }
            _ => sessions.push(BidderSession { bidder, window: TimeWindow { start: at, end }, bids: 1 }),
        }
    }
    sessions
}

/// Bids per bidder over all processing-time windows.
pub fn q12(events: &[Event]) -> Vec<BidderCount> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    bids(events).for_each(|bid| *counts.entry(bid.bidder).or_default() += 1);
    sorted(counts.into_iter().map(|(bidder, bids)| BidderCount { bidder, bids }))
}

fn persons(events: &[Event]) -> impl Iterator<Item = &Person> {
    events.iter().filter_map(Event::person)
}

fn auctions(events: &[Event]) -> impl Iterator<Item = &Auction> {
    events.iter().filter_map(Event::auction)
}

fn bids(events: &[Event]) -> impl Iterator<Item = &Bid> {
    events.iter().filter_map(Event::bid)
}

fn sorted<T: Ord>(records: impl Iterator<Item = T>) -> Vec<T> {
    let mut records: Vec<T> = records.collect();
    records.sort_unstable();
    records
}

/// The window of `size_ms` that `at` is in.
fn tumble(at: Timestamp, size_ms: i64) -> TimeWindow {
    let start = at - at.rem_euclid(size_ms);
    TimeWindow { start, end: start + size_ms }
}

/// The windows of `size_ms`, every `slide_ms`, that `at` is in.
fn hop(at: Timestamp, size_ms: i64, slide_ms: i64) -> impl Iterator<Item = TimeWindow> {
    let last = at - at.rem_euclid(slide_ms);
    let starts = (0..).map(move |n| last - n * slide_ms).take_while(move |start| start + size_ms > at);
    starts.map(move |start| TimeWindow { start, end: start + size_ms })
}

#[cfg(test)]
mod tests;
