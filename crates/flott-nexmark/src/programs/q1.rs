//! Nexmark query 1.

use super::{EventTime, bids};
use flott_connector_nexmark::queries::dollars_to_euros;
use flott_connector_nexmark::{Bid, NexmarkConfig};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;

/// Currency conversion: all bids in euros.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q1(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<Bid>> {
    let in_euros =
        bids(env, config, EventTime::Unused)?.map(|bid| Bid { price: dollars_to_euros(bid.price), ..bid });
    Ok(in_euros.seal())
}
