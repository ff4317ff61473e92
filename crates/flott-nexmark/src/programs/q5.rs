//! Nexmark query 5.

use super::highest::{Highest, Ranked, may_be_highest};
use super::{Count, EventTime, bids};
use flott_api::windowing::{SlidingEventTimeWindows, TumblingEventTimeWindows};
use flott_connector_nexmark::NexmarkConfig;
use flott_connector_nexmark::queries::{HOT_ITEMS_SIZE_MS, HOT_ITEMS_SLIDE_MS, HotItem};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;
use std::time::Duration;

impl Ranked for HotItem {
    fn rank(&self) -> u64 {
        self.bids
    }
}

/// Hot items: the auctions with the most bids in the last 10 s, every 2 s.
///
/// The auctions of a window are counted where they are, and of each subtask's counts only those travel that may be the
/// highest.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q5(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<HotItem>> {
    let size = Duration::from_millis(HOT_ITEMS_SIZE_MS.unsigned_abs());
    let slide = Duration::from_millis(HOT_ITEMS_SLIDE_MS.unsigned_abs());
    let counts = bids(env, config, EventTime::Used)?
        .map(|bid| bid.auction)
        .key_by(|auction| *auction)
        .window(SlidingEventTimeWindows::of(size, slide))
        .aggregate_with(Count, |auction, ctx, bids| HotItem { window: *ctx.window, auction: *auction, bids });
    // A count has the last moment of its window, so each of these windows has the counts of exactly one of those.
    let hottest = counts
        .filter(may_be_highest(HOT_ITEMS_SLIDE_MS, |item: &HotItem| item.window.end - 1))
        .window_all(TumblingEventTimeWindows::of(slide))
        .aggregate(Highest);
    Ok(hottest.flat_map(|items| items).name("hot items"))
}
