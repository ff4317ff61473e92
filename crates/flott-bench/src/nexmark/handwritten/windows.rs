//! q5, q7, q11, q12.

use std::collections::VecDeque;

use flott_api::windowing::TimeWindow;
use flott_connector_nexmark::Bid;
use flott_connector_nexmark::queries::{
    BidderCount, BidderSession, HOT_ITEMS_SIZE_MS, HOT_ITEMS_SLIDE_MS, HotItem, SESSION_GAP_MS, WINDOW_MS,
};
use flott_types::Timestamp;

use super::{KeyMap, Results, for_each, for_each_block};
use crate::clock::wall_clock_ms;
use crate::nexmark::add_bidder_count;
use crate::records::{BLOCK_LEN, Record};
use crate::scenario::Checksum;
use crate::table::FlatTable;

/// More auctions than a slice of q5 has, and bidders than a run of q12: tables that never grow.
const KEYS_PER_SLICE: usize = 2_000;

/// A table per slice, added to and subtracted from totals; a firing looks through the totals.
pub(super) fn q5(events: u64) -> Results {
    let mut state = HotItems {
        slice: FlatTable::with_capacity(KEYS_PER_SLICE),
        slice_end: None,
        closed: VecDeque::new(),
        totals: KeyMap::default(),
        results: Results::default(),
    };
    let mut batch: Vec<Record> = Vec::with_capacity(BLOCK_LEN as usize);
    for_each_block::<Bid>(events, |bids| {
        batch.clear();
        batch.extend(bids.iter().map(|bid| (bid.auction, bid.date_time)));
        state.add(&batch);
    });
    // The last windows end after the last bid.
    for _ in 0..HOT_ITEMS_SIZE_MS / HOT_ITEMS_SLIDE_MS {
        state.close_slice();
    }
    state.results
}

struct HotItems {
    slice: FlatTable<u64>,
    slice_end: Option<Timestamp>,
    closed: VecDeque<Vec<(u64, u64)>>,
    totals: KeyMap<u64>,
    results: Results,
}

impl HotItems {
    fn add(&mut self, mut batch: &[Record]) {
        while let Some(first) = batch.first() {
            let start = first.1 - first.1.rem_euclid(HOT_ITEMS_SLIDE_MS);
            while self.slice_end.is_some_and(|end| end <= start) {
                self.close_slice();
            }
            let end = *self.slice_end.get_or_insert(start + HOT_ITEMS_SLIDE_MS);
            let (run, rest) = batch.split_at(batch.partition_point(|bid| bid.1 < end));
            self.slice.upsert_each(run, |_, count, _| *count += 1);
            batch = rest;
        }
    }

    fn close_slice(&mut self) {
        let Some(end) = self.slice_end else { return };
        let mut counts = Vec::with_capacity(KEYS_PER_SLICE);
        self.slice.reset_each(|auction, count| {
            if count > 0 {
                counts.push((auction, count));
            }
        });
        for (auction, count) in &counts {
            *self.totals.entry(*auction).or_default() += count;
        }
        self.closed.push_back(counts);
        let max = self.totals.values().copied().max();
        let window = TimeWindow { start: end - HOT_ITEMS_SIZE_MS, end };
        for (auction, bids) in self.totals.iter().filter(|total| Some(*total.1) == max) {
            self.results.add(&HotItem { window, auction: *auction, bids: *bids });
        }
        if self.closed.len() as i64 == HOT_ITEMS_SIZE_MS / HOT_ITEMS_SLIDE_MS {
            for (auction, count) in self.closed.pop_front().into_iter().flatten() {
                if let hashbrown::hash_map::Entry::Occupied(mut total) = self.totals.entry(auction) {
                    *total.get_mut() -= count;
                    if *total.get() == 0 {
                        total.remove();
                    }
                }
            }
        }
        self.slice_end = Some(end + HOT_ITEMS_SLIDE_MS);
    }
}

/// The highest bids of the window at hand.
pub(super) fn q7(events: u64) -> Results {
    let mut results = Results::default();
    let mut highest: Vec<Bid> = Vec::new();
    let (mut price, mut window_end) = (0, Timestamp::MIN);
    for_each::<Bid>(events, |bid| {
        if bid.date_time >= window_end {
            highest.drain(..).for_each(|bid| results.add(&bid));
            price = 0;
            window_end = bid.date_time - bid.date_time.rem_euclid(WINDOW_MS) + WINDOW_MS;
        }
        if bid.price >= price {
            if bid.price > price {
                highest.clear();
            }
            price = bid.price;
            highest.push(*bid);
        }
    });
    highest.iter().for_each(|bid| results.add(bid));
    results
}

struct Session {
    start: Timestamp,
    last: Timestamp,
    bids: u64,
}

/// A table of open sessions, swept once per gap.
pub(super) fn q11(events: u64) -> Results {
    let mut results = Results::default();
    let mut open = KeyMap::<Session>::default();
    let mut sweep_at = Timestamp::MIN;
    let emit = |results: &mut Results, bidder: u64, session: &Session| {
        let window = TimeWindow { start: session.start, end: session.last + SESSION_GAP_MS };
        results.add(&BidderSession { bidder, window, bids: session.bids });
    };
    for_each::<Bid>(events, |bid| {
        let now = bid.date_time;
        if now >= sweep_at {
            sweep_at = now + SESSION_GAP_MS;
            let ended = open.extract_if(|_, session| session.last + SESSION_GAP_MS < now);
            ended.for_each(|(bidder, session)| emit(&mut results, bidder, &session));
        }
        let session = open.entry(bid.bidder).or_insert(Session { start: now, last: now, bids: 0 });
        if session.last + SESSION_GAP_MS < now {
            emit(&mut results, bid.bidder, session);
            *session = Session { start: now, last: now, bids: 0 };
        }
        session.last = now;
        session.bids += 1;
    });
    open.iter().for_each(|(bidder, session)| emit(&mut results, *bidder, session));
    results
}

/// A table for the window at hand; the clock is read once per block.
pub(super) fn q12(events: u64) -> Checksum {
    let mut checksum = Checksum::default();
    let mut counts = FlatTable::<u64>::with_capacity(KEYS_PER_SLICE);
    let mut close = |counts: &mut FlatTable<u64>| {
        counts.reset_each(|bidder, bids| {
            if bids > 0 {
                add_bidder_count(&mut checksum, &BidderCount { bidder, bids });
            }
        });
    };
    let mut batch: Vec<Record> = Vec::with_capacity(BLOCK_LEN as usize);
    let mut window_end = Timestamp::MIN;
    for_each_block::<Bid>(events, |bids| {
        let now = wall_clock_ms();
        if now >= window_end {
            close(&mut counts);
            window_end = now - now.rem_euclid(WINDOW_MS) + WINDOW_MS;
        }
        batch.clear();
        batch.extend(bids.iter().map(|bid| (bid.bidder, now)));
        counts.upsert_each(&batch, |_, count, _| *count += 1);
    });
    close(&mut counts);
    checksum
}
