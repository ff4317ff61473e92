//! The oracles on an input that one can follow by hand.

use super::*;
use crate::config::NexmarkConfig;
use crate::record::{Channel, City, State};
use crate::sequence::Sequence;

fn person(id: u64, state: State, date_time: Timestamp) -> Event {
    Event::Person(Person { id, date_time, seed: id as u32, city: City::Bend, state })
}

fn auction(id: u64, seller: u64, category: usize, date_time: Timestamp, expires: Timestamp) -> Event {
    let category = Category::ALL[category];
    Event::Auction(Auction { id, seller, initial_bid: 1, reserve: 2, date_time, expires, seed: 0, category })
}

fn bid(auction: u64, bidder: u64, price: u64, date_time: Timestamp) -> Event {
    Event::Bid(Bid { auction, bidder, price, date_time, channel: Channel(0), seed: 0 })
}

fn name(id: u64) -> String {
    person(id, State::Or, 0).person().unwrap().name()
}

fn window(start: Timestamp, end: Timestamp) -> TimeWindow {
    TimeWindow { start, end }
}

/// Two sellers, three auctions, eight bids; not in order.
fn house() -> Vec<Event> {
    vec![
        auction(123, 1, 0, 1_000, 5_000),
        person(1, State::Or, 900),
        person(2, State::Wa, 9_500),
        auction(246, 2, 0, 10_000, 12_000),
        auction(300, 1, 4, 11_000, 30_000),
        bid(123, 7, 500, 999),
        bid(123, 7, 100, 1_000),
        bid(123, 8, 301, 5_000),
        bid(123, 7, 900, 5_001),
        bid(300, 8, 200, 15_000),
        bid(300, 7, 200, 15_001),
        bid(246, 7, 50, 25_001),
        bid(246, 7, 50, 35_002),
    ]
}

#[test]
fn q0_q1_and_q2_take_each_bid_for_itself() {
    let events = house();
    assert_eq!(q0(&events).len(), 8);
    let prices = |bids: Vec<Bid>| sorted(bids.into_iter().map(|bid| bid.price));
    assert_eq!(prices(q0(&events)), [50, 50, 100, 200, 200, 301, 500, 900]);
    assert_eq!(prices(q1(&events)), [45, 45, 90, 181, 181, 273, 454, 817]);
    let found = q2(&events).into_iter().map(|found| (found.auction, found.price)).collect::<Vec<_>>();
    assert_eq!(found, [(123, 100), (123, 301), (123, 500), (123, 900), (246, 50), (246, 50)]);
}

#[test]
fn q3_joins_an_auction_with_its_local_seller_whichever_comes_first() {
    // 246 is sold in Washington, 300 is of category 14.
    let (city, state) = (City::Bend, State::Or);
    assert_eq!(q3(&house()), [LocalItem { name: name(1), city, state, auction: 123 }]);
}

#[test]
fn q4_counts_bids_while_the_auction_is_open_both_ends_included() {
    // 246 had no bid while it was open.
    let of = |idx: usize, average| CategoryPrice { category: Category::ALL[idx], average };
    assert_eq!(q4(&house()), [of(0, 301), of(4, 200)]);
    let mut events = house();
    events.push(bid(246, 1, 100, 12_000));
    assert_eq!(q4(&events), [of(0, 200), of(4, 200)], "(301 + 100) / 2, rounded down");
}

#[test]
fn q5_finds_the_auctions_with_the_most_bids_of_each_sliding_window() {
    let item = |start, auction, bids| HotItem { window: window(start, start + 10_000), auction, bids };
    let events = [bid(1, 0, 0, 0), bid(2, 0, 0, 1_999), bid(2, 0, 0, 2_000)];
    let expected = [
        item(-8_000, 1, 1),
        item(-8_000, 2, 1),
        item(-6_000, 2, 2),
        item(-4_000, 2, 2),
        item(-2_000, 2, 2),
        item(0, 2, 2),
        item(2_000, 2, 1),
    ];
    assert_eq!(q5(&events), expected);
}

#[test]
fn q7_finds_the_highest_bids_of_each_window() {
    let found = q7(&house()).into_iter().map(|bid| (bid.date_time, bid.price));
    let by_time = [(5_001, 900), (15_000, 200), (15_001, 200), (25_001, 50), (35_002, 50)];
    assert_eq!(sorted(found), by_time);
}

#[test]
fn q8_finds_those_who_sell_in_the_window_in_which_they_came() {
    // Person 2 came at 9.5 s and sold at 10 s.
    assert_eq!(q8(&house()), [NewSeller { window: window(0, 10_000), id: 1, name: name(1) }]);
}

#[test]
fn q11_ends_a_session_after_more_than_the_gap() {
    let session = |bidder, start, last, bids| BidderSession {
        bidder,
        window: window(start, last + SESSION_GAP_MS),
        bids,
    };
    let expected = [session(7, 999, 25_001, 5), session(7, 35_002, 35_002, 1), session(8, 5_000, 15_000, 2)];
    assert_eq!(q11(&house()), expected);
}

#[test]
fn q12_counts_bids_per_bidder() {
    assert_eq!(q12(&house()), [BidderCount { bidder: 7, bids: 6 }, BidderCount { bidder: 8, bids: 2 }]);
}

#[test]
fn every_query_finds_something_in_a_minute_of_the_standard_stream_whatever_its_order() {
    let config = NexmarkConfig { events_per_second: 1_000, ..NexmarkConfig::bounded(60_000) };
    let shuffled = NexmarkConfig { out_of_order_group_size: 1_000, ..config.clone() };
    let [in_order, shuffled] =
        [config, shuffled].map(|config| -> Vec<Event> { Sequence::new(&config).unwrap().iter().collect() });
    assert_ne!(in_order, shuffled);
    let counts = |events: &[Event]| {
        [
            q0(events).len(),
            q1(events).len(),
            q2(events).len(),
            q3(events).len(),
            q4(events).len(),
            q5(events).len(),
            q7(events).len(),
            q8(events).len(),
            q11(events).len(),
            q12(events).len(),
        ]
    };
    let all = |events: &[Event]| {
        let mut all = Fingerprint::of(q3(events));
        all.merge(Fingerprint::of(q4(events)));
        all.merge(Fingerprint::of(q5(events)));
        all.merge(Fingerprint::of(q7(events)));
        all.merge(Fingerprint::of(q8(events)));
        all.merge(Fingerprint::of(q11(events)));
        all.merge(Fingerprint::of(q12(events)));
        all
    };
    assert_eq!(counts(&in_order), counts(&shuffled));
    assert_eq!(all(&in_order), all(&shuffled));
    assert!(counts(&in_order).iter().all(|n| *n > 0), "{:?}", counts(&in_order));
}

#[test]
fn a_fingerprint_depends_on_the_records_and_not_on_their_order_or_parts() {
    let whole = Fingerprint::of([1, 2, 2, 3]);
    assert_eq!(whole, Fingerprint::of([2, 3, 1, 2]));
    assert_ne!(whole, Fingerprint::of([1, 2, 3, 3]));
    let mut parts = Fingerprint::of([3, 2]);
    parts.merge(Fingerprint::of([1]));
    parts.add(&2);
    assert_eq!(whole, parts);
}
