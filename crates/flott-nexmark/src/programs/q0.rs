//! Nexmark query 0.

use super::{EventTime, bids};
use flott_connector_nexmark::{Bid, NexmarkConfig};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;

/// Pass through: all bids, untouched.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q0(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<Bid>> {
    bids(env, config, EventTime::Unused)
}
