//! Nexmark query 12.

use super::{Count, EventTime, bids};
use flott_api::windowing::TumblingProcessingTimeWindows;
use flott_connector_nexmark::NexmarkConfig;
use flott_connector_nexmark::queries::{BidderCount, WINDOW_MS};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;
use std::time::Duration;

/// Processing-time windows: how many bids of a bidder are processed in each 10 s, and in the rest when the input ends.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q12(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<BidderCount>> {
    let counts = bids(env, config, EventTime::Unused)?
        .map(|bid| bid.bidder)
        .key_by(|bidder| *bidder)
        .window(TumblingProcessingTimeWindows::of(Duration::from_millis(WINDOW_MS.unsigned_abs())))
        .aggregate_with(Count, |bidder, _, bids| BidderCount { bidder: *bidder, bids });
    Ok(counts.name("counts"))
}
