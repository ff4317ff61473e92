//! q0, q1, q2.

use flott_connector_nexmark::Bid;
use flott_connector_nexmark::queries::{AuctionPrice, dollars_to_euros, is_selected};

use super::{Results, for_each};

pub(super) fn q0(events: u64) -> Results {
    let mut results = Results::default();
    for_each::<Bid>(events, |bid| results.add(bid));
    results
}

pub(super) fn q1(events: u64) -> Results {
    let mut results = Results::default();
    for_each::<Bid>(events, |bid| results.add(&Bid { price: dollars_to_euros(bid.price), ..*bid }));
    results
}

pub(super) fn q2(events: u64) -> Results {
    let mut results = Results::default();
    for_each::<Bid>(events, |bid| {
        if is_selected(bid.auction) {
            results.add(&AuctionPrice { auction: bid.auction, price: bid.price });
        }
    });
    results
}
