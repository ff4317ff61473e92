//! Nexmark query 7.

use super::highest::{Highest, Ranked, may_be_highest};
use super::{EventTime, bids};
use flott_api::windowing::TumblingEventTimeWindows;
use flott_connector_nexmark::queries::WINDOW_MS;
use flott_connector_nexmark::{Bid, NexmarkConfig};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;
use std::time::Duration;

impl Ranked for Bid {
    fn rank(&self) -> u64 {
        self.price
    }
}

/// Highest bid: the bids with the highest price of each window of 10 s.
///
/// One subtask has to decide, but few bids need to travel there.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q7(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<Bid>> {
    let highest = bids(env, config, EventTime::Used)?
        .filter(may_be_highest(WINDOW_MS, |bid: &Bid| bid.date_time))
        .window_all(TumblingEventTimeWindows::of(Duration::from_millis(WINDOW_MS.unsigned_abs())))
        .aggregate(Highest);
    Ok(highest.flat_map(|bids| bids).name("highest bids"))
}
