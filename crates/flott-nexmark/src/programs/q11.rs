//! Nexmark query 11.

use super::{Count, EventTime, bids};
use flott_api::windowing::EventTimeSessionWindows;
use flott_connector_nexmark::NexmarkConfig;
use flott_connector_nexmark::queries::{BidderSession, SESSION_GAP_MS};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;
use std::time::Duration;

/// User sessions: how many bids a bidder makes until there is none for 10 s.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q11(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<BidderSession>> {
    let sessions = bids(env, config, EventTime::Used)?
        .map(|bid| bid.bidder)
        .key_by(|bidder| *bidder)
        .window(EventTimeSessionWindows::with_gap(Duration::from_millis(SESSION_GAP_MS.unsigned_abs())))
        .aggregate_with(Count, |bidder, ctx, bids| BidderSession {
            bidder: *bidder,
            window: *ctx.window,
            bids,
        });
    Ok(sessions.name("sessions"))
}
