//! Nexmark query 2.

use super::{EventTime, bids};
use flott_connector_nexmark::NexmarkConfig;
use flott_connector_nexmark::queries::{AuctionPrice, is_selected};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;

/// Selection: the bids for some auctions.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q2(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<AuctionPrice>> {
    let selected = bids(env, config, EventTime::Unused)?.filter(|bid| is_selected(bid.auction));
    Ok(selected.map(|bid| AuctionPrice { auction: bid.auction, price: bid.price }).seal())
}
