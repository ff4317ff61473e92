//! Nexmark query 12.

use super::{Count, EventTime, bids};
use flott_api::UserResult;
use flott_api::windowing::{
    ProcessingTimeTrigger, Trigger, TriggerContext, TriggerResult, TriggerState,
    TumblingProcessingTimeWindows, Window,
};
use flott_connector_nexmark::NexmarkConfig;
use flott_connector_nexmark::queries::{BidderCount, WINDOW_MS};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::{Result, Timestamp};
use std::time::Duration;

/// Processing-time windows: how many bids of a bidder are processed in each 10 s.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q12(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<BidderCount>> {
    let counts = bids(env, config, EventTime::Unused)?
        .map(|bid| bid.bidder)
        .key_by(|bidder| *bidder)
        .window(TumblingProcessingTimeWindows::of(Duration::from_millis(WINDOW_MS.unsigned_abs())))
        .trigger(AtEndOfInputToo)
        .aggregate_with(Count, |bidder, _, bids| BidderCount { bidder: *bidder, bids });
    Ok(counts.name("counts"))
}

/// The clock does not wait for the end of a window that the input does not fill: as in Flink, what is open then would
/// be lost. So windows also fire on the last watermark.
#[derive(Clone, Copy, Debug)]
struct AtEndOfInputToo;

/// The state that says that the window waits for the end of the input.
const REGISTERED: &str = "registered";

impl<T: 'static, W: Window> Trigger<T, W> for AtEndOfInputToo {
    fn on_element(
        &self,
        record: &T,
        timestamp: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        // Once per window: a record costs a look at the state and no timer.
        if ctx.state().is_empty() {
            ctx.state().set(REGISTERED, &())?;
            ctx.register_event_time_timer(Timestamp::MAX);
        }
        ProcessingTimeTrigger.on_element(record, timestamp, window, ctx)
    }

    fn on_event_time(&self, _: Timestamp, _: &W, _: &mut dyn TriggerContext) -> UserResult<TriggerResult> {
        Ok(TriggerResult::FireAndPurge)
    }

    fn on_processing_time(
        &self,
        at: Timestamp,
        window: &W,
        ctx: &mut dyn TriggerContext,
    ) -> UserResult<TriggerResult> {
        Trigger::<T, W>::on_processing_time(&ProcessingTimeTrigger, at, window, ctx)
    }

    fn can_merge(&self) -> bool {
        false
    }

    fn on_merge(&self, _: &W, _: &[TriggerState], _: &mut dyn TriggerContext) -> UserResult {
        Ok(())
    }

    fn clear(&self, window: &W, ctx: &mut dyn TriggerContext) -> UserResult {
        ctx.delete_event_time_timer(Timestamp::MAX);
        Trigger::<T, W>::clear(&ProcessingTimeTrigger, window, ctx)
    }

    fn clone_box(&self) -> Box<dyn Trigger<T, W>> {
        Box::new(*self)
    }
}
