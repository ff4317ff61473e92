//! Nexmark query 3.

use super::{EventTime, auctions, persons};
use flott_api::{Collector, KeyedCoProcessFunction, KeyedContext, UserResult};
use flott_connector_nexmark::queries::{LOCAL_CATEGORY, LocalItem, is_local};
use flott_connector_nexmark::{NexmarkConfig, Person};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_state::{ListState, ValueState};
use flott_types::Result;
use serde::{Deserialize, Serialize};

/// What the join needs of an auction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Offer {
    seller: u64,
    auction: u64,
}

/// Local item suggestion: auctions of one category with their sellers, if those live nearby.
///
/// Both sides are filtered before they travel. The join has no window, so a seller is kept for ever; an auction only
/// until its seller is there.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q3(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<LocalItem>> {
    let sellers = persons(env, config, EventTime::Unused)?.filter(|person| is_local(person.state));
    let offers = auctions(env, config, EventTime::Unused)?
        .filter(|auction| auction.category == LOCAL_CATEGORY)
        .map(|auction| Offer { seller: auction.seller, auction: auction.id });
    let join = LocalItems { seller: ValueState::new("seller"), waiting: ListState::new("waiting") };
    let sellers = sellers.key_by(|person| person.id);
    Ok(sellers.connect(&offers.key_by(|offer| offer.seller)).process(join).name("local items"))
}

/// Joins sellers and auctions, whichever comes first.
#[derive(Clone)]
struct LocalItems {
    seller: ValueState<Person>,
    waiting: ListState<u64>,
}

fn item(seller: &Person, auction: u64) -> LocalItem {
    LocalItem { name: seller.name(), city: seller.city, state: seller.state, auction }
}

impl KeyedCoProcessFunction<u64, Person, Offer, LocalItem> for LocalItems {
    fn process_element1(
        &mut self,
        seller: Person,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, LocalItem>,
    ) -> UserResult {
        for auction in self.waiting.take(ctx)? {
            out.collect(item(&seller, auction));
        }
        self.seller.set(ctx, seller)?;
        Ok(())
    }

    fn process_element2(
        &mut self,
        offer: Offer,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, LocalItem>,
    ) -> UserResult {
        match self.seller.get(ctx)? {
            Some(seller) => out.collect(item(seller, offer.auction)),
            None => self.waiting.add(ctx, offer.auction)?,
        }
        Ok(())
    }
}
