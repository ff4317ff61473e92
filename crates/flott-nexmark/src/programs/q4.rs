use super::events;
use flott_api::windowing::{EventTimeTrigger, GlobalWindows};
use flott_api::{AggregateFunction, Collector, KeyedContext, KeyedProcessFunction, UserResult};
use flott_connector_nexmark::queries::CategoryPrice;
use flott_connector_nexmark::{Category, Event, NexmarkConfig};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_state::ValueState;
use flott_types::{Result, Timestamp};
use serde::{Deserialize, Serialize};

/// For how long after its end an auction is remembered, so that the bids that still come for it are not taken for bids
/// for an auction that is yet to open.
const REMEMBERED_MS: i64 = 1_000;

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
                let lot = Lot { opens: auction.date_time, expires: auction.expires, category: auction.category };
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
    let winning = events(env, config)?
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

/// Finds the winning bid of each auction when it ends.
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
        let mut timer = None;
        self.bidding.update_or_else(ctx, Bidding::default, |bidding| match step {
            Step::Open { lot, .. } => {
                bidding.lot = Some(lot);
                let early = std::mem::take(&mut bidding.early);
                early.into_iter().filter(|offer| lot.takes(offer)).for_each(|offer| bidding.bid(offer));
                timer = Some(lot.expires);
            }
            Step::Bid { offer, .. } => match bidding.lot {
                Some(lot) if lot.takes(&offer) => bidding.bid(offer),
                Some(_) => {}
                None => {
                    bidding.early.push(offer);
                    timer = Some(offer.at);
                }
            },
        })?;
        if let Some(at) = timer {
            ctx.register_event_time_timer(at);
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
        match bidding.lot {
            Some(lot) if timestamp == lot.expires => {
                out_winning(bidding, lot.category, out);
                ctx.register_event_time_timer(lot.expires.saturating_add(REMEMBERED_MS));
            }
            Some(lot) if timestamp < lot.expires => {}
            Some(_) => self.bidding.clear(ctx)?,
            // Whatever was open at the time of the early bids would be known by now.
            None if bidding.early.iter().all(|offer| offer.at <= timestamp) => self.bidding.clear(ctx)?,
            None => {}
        }
        Ok(())
    }
}

fn out_winning(bidding: &Bidding, category: Category, out: &mut Collector<'_, WinningBid>) {
    if let Some(price) = bidding.highest {
        out.collect(WinningBid { category, price });
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
