//! What the queries compute, and the records that they return.
//!
//! `bid`, `auction` and `person` are the three kinds of [`Event`](crate::Event); all windows are on `date_time`,
//! except for q12, and are aligned to 1970. Results are multisets: their order says nothing. The SQL is Flink's.
//! Where a typed program differs from it, the text says how; [`oracle`](crate::oracle) is the last word.
//!
//! **q0, pass through.** All bids, untouched: what the engine costs. → [`Bid`](crate::Bid)
//!
//! ```sql
//! SELECT auction, bidder, price, date_time, extra FROM bid;
//! ```
//!
//! **q1, currency conversion.** All bids with the price in euros, as whole cents, rounded down
//! ([`dollars_to_euros`]; the SQL has three decimals). → [`Bid`](crate::Bid)
//!
//! ```sql
//! SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid;
//! ```
//!
//! **q2, selection.** The bids for some auctions ([`is_selected`]). → [`AuctionPrice`]
//!
//! ```sql
//! SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0;
//! ```
//!
//! **q3, local item suggestion.** Who sells what of category 10 in Oregon, Idaho or California ([`is_local`],
//! [`LOCAL_CATEGORY`]). The join has no window: an auction finds its seller whichever comes first.
//! → [`LocalItem`]
//!
//! ```sql
//! SELECT P.name, P.city, P.state, A.id
//! FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
//! WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA');
//! ```
//!
//! **q4, average price for a category.** The winning bid of an auction is the highest that was made while it was
//! open, both ends included. Averages of whole cents, rounded down, over all auctions that had a bid. The result is
//! what holds at the end of the input; the SQL also returns every state on the way. → [`CategoryPrice`]
//!
//! ```sql
//! SELECT Q.category, AVG(Q.final)
//! FROM (
//!   SELECT MAX(B.price) AS final, A.category
//!   FROM auction A, bid B
//!   WHERE A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires
//!   GROUP BY A.id, A.category
//! ) Q
//! GROUP BY Q.category;
//! ```
//!
//! **q5, hot items.** The auctions with the most bids in the last 10 s, every 2 s ([`HOT_ITEMS_SIZE_MS`],
//! [`HOT_ITEMS_SLIDE_MS`]); all of them if several have as many. The first windows begin before the first bid and
//! the last end after the last one. Our records also name the window. → [`HotItem`]
//!
//! ```sql
//! SELECT AuctionBids.auction, AuctionBids.num
//! FROM (
//!   SELECT auction, COUNT(*) AS num, window_start AS starttime, window_end AS endtime
//!   FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
//!   GROUP BY auction, window_start, window_end
//! ) AS AuctionBids
//! JOIN (
//!   SELECT MAX(CountBids.num) AS maxn, CountBids.starttime, CountBids.endtime
//!   FROM (
//!     SELECT COUNT(*) AS num, window_start AS starttime, window_end AS endtime
//!     FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
//!     GROUP BY auction, window_start, window_end
//!   ) AS CountBids
//!   GROUP BY CountBids.starttime, CountBids.endtime
//! ) AS MaxBids
//! ON AuctionBids.starttime = MaxBids.starttime AND AuctionBids.endtime = MaxBids.endtime
//!   AND AuctionBids.num >= MaxBids.maxn;
//! ```
//!
//! **q7, highest bid.** The bids with the highest price of each window of 10 s ([`WINDOW_MS`]); all of them if
//! several have it. (The SQL also returns a bid with that price at the very end of the window, which belongs to the
//! next one.) → [`Bid`](crate::Bid)
//!
//! ```sql
//! SELECT B.auction, B.bidder, B.price, B.date_time, B.extra
//! FROM bid B
//! JOIN (
//!   SELECT MAX(price) AS maxprice, window_end AS date_time
//!   FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
//!   GROUP BY window_start, window_end
//! ) B1
//! ON B.price = B1.maxprice
//! WHERE B.date_time BETWEEN B1.date_time - INTERVAL '10' SECOND AND B1.date_time;
//! ```
//!
//! **q8, monitor new users.** Persons who have opened an auction in the window of 10 s in which they registered,
//! each once. → [`NewSeller`]
//!
//! ```sql
//! SELECT P.id, P.name, P.starttime
//! FROM (
//!   SELECT id, name, window_start AS starttime, window_end AS endtime
//!   FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
//!   GROUP BY id, name, window_start, window_end
//! ) P
//! JOIN (
//!   SELECT seller, window_start AS starttime, window_end AS endtime
//!   FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
//!   GROUP BY seller, window_start, window_end
//! ) A
//! ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime;
//! ```
//!
//! **q11, user sessions.** How many bids a bidder makes until there is none for more than 10 s
//! ([`SESSION_GAP_MS`]; a gap of exactly 10 s does not end a session, as in Flink). → [`BidderSession`]
//!
//! ```sql
//! SELECT bidder, COUNT(*) AS bid_count, SESSION_START(date_time, INTERVAL '10' SECOND) AS starttime,
//!   SESSION_END(date_time, INTERVAL '10' SECOND) AS endtime
//! FROM bid
//! GROUP BY bidder, SESSION(date_time, INTERVAL '10' SECOND);
//! ```
//!
//! **q12, processing-time windows.** How many bids of a bidder are processed in each 10 s ([`WINDOW_MS`]). Which
//! window a bid is in depends on the run; only the sum over all windows does not, and the oracle has that.
//! → [`BidderCount`]
//!
//! ```sql
//! SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
//! FROM TABLE(TUMBLE(TABLE B, DESCRIPTOR(p_time), INTERVAL '10' SECOND)) -- B is bid with PROCTIME() AS p_time
//! GROUP BY bidder, window_start, window_end;
//! ```

use crate::record::{Category, City, State};
use flott_api::windowing::TimeWindow;
use serde::{Deserialize, Serialize};

/// The size of the windows of q7, q8 and q12.
pub const WINDOW_MS: i64 = 10_000;

/// The size of the windows of q5.
pub const HOT_ITEMS_SIZE_MS: i64 = 10_000;

/// The distance of the windows of q5.
pub const HOT_ITEMS_SLIDE_MS: i64 = 2_000;

/// The gap that q11's sessions bridge.
pub const SESSION_GAP_MS: i64 = 10_000;

/// The category of q3.
pub const LOCAL_CATEGORY: Category = Category::ALL[0];

/// The price conversion of q1.
#[inline]
pub const fn dollars_to_euros(price: u64) -> u64 {
    price * 908 / 1_000
}

/// The filter of q2.
#[inline]
pub const fn is_selected(auction: u64) -> bool {
    auction.is_multiple_of(123)
}

/// The filter of q3 on persons.
#[inline]
pub const fn is_local(state: State) -> bool {
    matches!(state, State::Or | State::Id | State::Ca)
}

/// A result of q2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuctionPrice {
    /// The auction.
    pub auction: u64,
    /// What was bid.
    pub price: u64,
}

/// A result of q3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LocalItem {
    /// The name of the seller.
    pub name: String,
    /// The city of the seller.
    pub city: City,
    /// The state of the seller.
    pub state: State,
    /// The auction.
    pub auction: u64,
}

/// A result of q4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CategoryPrice {
    /// The category.
    pub category: Category,
    /// The average of the winning bids, rounded down.
    pub average: u64,
}

/// A result of q5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HotItem {
    /// The window.
    pub window: TimeWindow,
    /// The auction.
    pub auction: u64,
    /// How many bids it got in the window.
    pub bids: u64,
}

/// A result of q8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NewSeller {
    /// The window.
    pub window: TimeWindow,
    /// The person.
    pub id: u64,
    /// The name of the person.
    pub name: String,
}

/// A result of q11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BidderSession {
    /// The bidder.
    pub bidder: u64,
    /// From the first bid to the gap after the last one.
    pub window: TimeWindow,
    /// How many bids the session has.
    pub bids: u64,
}

/// A result of q12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BidderCount {
    /// The bidder.
    pub bidder: u64,
    /// How many bids were processed.
    pub bids: u64,
}
