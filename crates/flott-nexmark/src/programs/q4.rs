//! Nexmark query 4.

use super::{EventTime, events};
use flott_api::windowing::{EventTimeTrigger, GlobalWindows};
use flott_api::{AggregateFunction, Collector, KeyedContext, KeyedProcessFunction, UserResult};
use flott_connector_nexmark::queries::CategoryPrice;
use flott_connector_nexmark::{Category, Event, NexmarkConfig};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_state::ValueState;
use flott_types::{Result, Timestamp};
use serde::{Deserialize, Serialize};

/// Timers are set for full seconds, so that many auctions share one.
const TIMER_MS: i64 = 1_000;

/// When an auction whose last bid counts at `end` is settled and forgotten: one to two seconds later. Bids that come too
/// late are mostly there by then; one that comes later still would be kept for a while, as if its auction was yet to open.
fn settled_at(end: Timestamp) -> Timestamp {
    end.saturating_sub(end.rem_euclid(TIMER_MS)).saturating_add(2 * TIMER_MS)
}

/// What the query needs of an event.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Step {
    Open { auction: u64, lot: Lot },
    Bid { auction: u64, offer: Offer },
}

/// What is offered, and when it can be bid for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Lot {
    opens: Timestamp,
    expires: Timestamp,
    category: Category,
}

impl Lot {
    fn takes(&self, offer: &Offer) -> bool {
        (self.opens..=self.expires).contains(&offer.at)
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Offer {
    price: u64,
    at: Timestamp,
}

/// The highest valid bid for an auction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct WinningBid {
    category: Category,
    price: u64,
}

impl Step {
    fn of(event: Event) -> Option<Self> {
        match event {
            Event::Person(_) => None,
            Event::Auction(auction) => {
                let lot =
                    Lot { opens: auction.date_time, expires: auction.expires, category: auction.category };
                Some(Self::Open { auction: auction.id, lot })
            }
            Event::Bid(bid) => {
                let offer = Offer { price: bid.price, at: bid.date_time };
                Some(Self::Bid { auction: bid.auction, offer })
            }
        }
    }

    fn auction(&self) -> u64 {
        let (Self::Open { auction, .. } | Self::Bid { auction, .. }) = self;
        *auction
    }
}

/// Average price for a category: the average of the winning bids of all auctions, at the end of the input.
///
/// Auctions and bids come from one source, which keeps them together: the state of an auction lives hardly longer than
/// the auction.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q4(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<CategoryPrice>> {
    let winning = events(env, config, EventTime::Used)?
        .flat_map(Step::of)
        .key_by(Step::auction)
        .process(Auctioneer { bidding: ValueState::new("bidding") })
        .name("winning bids");
    // The only watermark that reaches the end of a global window is the last one.
    let averages = winning
        .key_by(|winning| winning.category.id())
        .window(GlobalWindows)
        .trigger(EventTimeTrigger)
        .aggregate(AveragePrice);
    Ok(averages.flat_map(|average| average).name("averages"))
}

/// What is known of an auction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Bidding {
    lot: Option<Lot>,
    highest: Option<u64>,
    /// Bids that came before the auction.
    early: Vec<Offer>,
}

impl Bidding {
    fn bid(&mut self, offer: Offer) {
        self.highest = self.highest.max(Some(offer.price));
    }
}

/// Finds the winning bid of each auction after its end.
#[derive(Clone)]
struct Auctioneer {
    bidding: ValueState<Bidding>,
}

impl KeyedProcessFunction<u64, Step, WinningBid> for Auctioneer {
    fn process_element(
        &mut self,
        step: Step,
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, WinningBid>,
    ) -> UserResult {
        let mut last = None;
        self.bidding.update_or_else(ctx, Bidding::default, |bidding| match step {
            Step::Open { lot, .. } => {
                bidding.lot = Some(lot);
                let early = std::mem::take(&mut bidding.early);
                early.into_iter().filter(|offer| lot.takes(offer)).for_each(|offer| bidding.bid(offer));
                last = Some(lot.expires);
            }
            Step::Bid { offer, .. } => match bidding.lot {
                Some(lot) if lot.takes(&offer) => bidding.bid(offer),
                Some(_) => {}
                None => {
                    bidding.early.push(offer);
                    last = Some(offer.at);
                }
            },
        })?;
        if let Some(last) = last {
            ctx.register_event_time_timer(settled_at(last));
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, WinningBid>,
    ) -> UserResult {
        let Some(bidding) = self.bidding.get(ctx)? else { return Ok(()) };
        let is_settled = match bidding.lot {
            Some(lot) => timestamp >= settled_at(lot.expires),
            // Whatever was open at the time of the early bids would be known by now.
            None => bidding.early.iter().all(|offer| timestamp >= settled_at(offer.at)),
        };
        if is_settled {
            if let (Some(lot), Some(price)) = (bidding.lot, bidding.highest) {
                out.collect(WinningBid { category: lot.category, price });
            }
            self.bidding.clear(ctx)?;
        }
        Ok(())
    }
}

/// Sum and number of prices.
#[derive(Clone, Copy, Debug)]
struct AveragePrice;

impl AggregateFunction<WinningBid> for AveragePrice {
    type Accumulator = (Option<Category>, u64, u64);
    type Output = Option<CategoryPrice>;

    fn create_accumulator(&self) -> Self::Accumulator {
        (None, 0, 0)
    }

    fn add(&self, (category, sum, count): &mut Self::Accumulator, winning: &WinningBid) {
        *category = Some(winning.category);
        *sum += winning.price;
        *count += 1;
    }

    fn get_result(&self, (category, sum, count): &Self::Accumulator) -> Option<CategoryPrice> {
        let average = sum.checked_div(*count)?;
        category.map(|category| CategoryPrice { category, average })
    }

    fn merge(&self, (category, sum, count): &mut Self::Accumulator, other: &Self::Accumulator) {
        *category = category.or(other.0);
        *sum += other.1;
        *count += other.2;
    }
}
