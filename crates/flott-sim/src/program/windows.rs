//! Windows of simulated programs.

use super::Stream;
use crate::functions::{KeyNumber, Stamp, SumUp, WindowRecords, fold, gap, pair};
use crate::lab::Lab;
use crate::plan::{CountWindowPlan, WindowFunction, WindowPlan, WindowTrigger, Windows};
use crate::record::Record;
use flott_api::OutputTag;
use flott_api::windowing::{
    ContinuousEventTimeTrigger, CountTrigger, EventTimeSessionWindows, EventTimeTrigger, EventTimeoutTrigger,
    GlobalWindows, PurgingTrigger, SlidingEventTimeWindows, TimeWindow, TumblingEventTimeWindows, Window,
    WindowAssigner,
};
use flott_datastream::WindowedStream;
use flott_operators::Either;
use flott_types::{Key, Timestamp};
use std::time::Duration;

const fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn tumbling(size_ms: i64, offset_ms: i64) -> TumblingEventTimeWindows {
    TumblingEventTimeWindows::of(ms(size_ms)).with_offset_ms(offset_ms)
}

fn sliding(size_ms: i64, slide_ms: i64, offset_ms: i64) -> SlidingEventTimeWindows {
    SlidingEventTimeWindows::of(ms(size_ms), ms(slide_ms)).with_offset_ms(offset_ms)
}

/// What all event-time windows of a plan have in common.
pub(super) struct Made<'a> {
    pub(super) plan: &'a WindowPlan,
    pub(super) node: usize,
    pub(super) parallelism: u32,
    pub(super) lab: &'a Lab,
}

impl Made<'_> {
    /// Event-time windows; the late records are the second output.
    pub(super) fn window(&self, input: &Stream, settle: impl Fn(Stream) -> Stream) -> Vec<Stream> {
        let made = self;
        let keyed = input.key_by(|record| record.key);
        match (self.plan.windows, self.plan.over_all) {
            (Windows::Tumbling { size_ms, offset_ms }, false) => {
                made.finish(keyed.window(tumbling(size_ms, offset_ms)), settle)
            }
            (Windows::Tumbling { size_ms, offset_ms }, true) => {
                made.finish(input.window_all(tumbling(size_ms, offset_ms)), settle)
            }
            (Windows::Sliding { size_ms, slide_ms, offset_ms }, false) => {
                made.finish(keyed.window(sliding(size_ms, slide_ms, offset_ms)), settle)
            }
            (Windows::Sliding { size_ms, slide_ms, offset_ms }, true) => {
                made.finish(input.window_all(sliding(size_ms, slide_ms, offset_ms)), settle)
            }
            (Windows::Session { gap_ms }, false) => {
                made.finish(keyed.window(EventTimeSessionWindows::with_gap(ms(gap_ms))), settle)
            }
            (Windows::Session { gap_ms }, true) => {
                made.finish(input.window_all(EventTimeSessionWindows::with_gap(ms(gap_ms))), settle)
            }
            (windows @ Windows::DynamicSession { .. }, false) => {
                made.finish(keyed.window(EventTimeSessionWindows::with_dynamic_gap(gap(windows))), settle)
            }
            (windows @ Windows::DynamicSession { .. }, true) => {
                made.finish(input.window_all(EventTimeSessionWindows::with_dynamic_gap(gap(windows))), settle)
            }
        }
    }

    fn finish<K, S, A>(
        &self,
        mut windows: WindowedStream<K, Record, S, A>,
        settle: impl Fn(Stream) -> Stream,
    ) -> Vec<Stream>
    where
        K: Key + KeyNumber,
        S: Fn(&Record) -> K + Clone + Send + Sync + 'static,
        A: WindowAssigner<Record, Window = TimeWindow>,
    {
        let Self { plan, node, parallelism, lab } = *self;
        windows = match plan.trigger {
            WindowTrigger::Default => windows,
            WindowTrigger::Purging => windows.trigger(PurgingTrigger::of(EventTimeTrigger)),
            WindowTrigger::Continuous { interval_ms } => {
                windows.trigger(ContinuousEventTimeTrigger::of(Duration::from_millis(interval_ms)))
            }
            WindowTrigger::Count { n } => windows.trigger(CountTrigger::of(n)),
        };
        if plan.lateness_ms > 0 {
            windows = windows.allowed_lateness(ms(plan.lateness_ms));
        }
        let late = OutputTag::new("late");
        if plan.late_output {
            windows = windows.side_output_late_data(&late);
        }
        let at_end = matches!(plan.trigger, WindowTrigger::Default | WindowTrigger::Purging);
        let stamp = Stamp { node, over_all: plan.over_all, in_order: false };
        let (results, stamp) = match plan.function {
            WindowFunction::Aggregate => (windows.aggregate(SumUp), Some(stamp)),
            WindowFunction::Reduce => (windows.reduce(fold), Some(stamp)),
            WindowFunction::AggregateWith => {
                let results = windows.aggregate_with(SumUp, move |key: &K, ctx, mut sum: Record| {
                    sum.parts.sort_unstable();
                    let (end, start) = (ctx.window.max_timestamp(), ctx.window.start);
                    Record::made(node, key.number(), end, start, sum.value, sum.parts)
                });
                (results, None)
            }
            WindowFunction::Process => {
                let lab = lab.clone();
                (windows.process(WindowRecords { lab, node, at_end, in_order: false }), None)
            }
        };
        let results = settle(results);
        let late = plan.late_output.then(|| results.side_output(&late));
        let main = match stamp {
            Some(stamp) => results.process(stamp).name(format!("n{node}-stamp")).set_parallelism(parallelism),
            None => results,
        };
        [vec![main], late.into_iter().collect()].concat()
    }
}

/// Windows by number of records; their timestamps are all the end of time.
pub(super) fn count_window(
    input: &Stream,
    plan: CountWindowPlan,
    node: usize,
    lab: &Lab,
    settle: impl Fn(Stream) -> Stream,
) -> Stream {
    let keyed = input.key_by(|record| record.key);
    let windows = match (plan.slide, plan.timeout_ms) {
        (Some(slide), _) => keyed.sliding_count_window(plan.size as usize, slide),
        (None, None) => keyed.count_window(plan.size),
        (None, Some(timeout)) => keyed.window(GlobalWindows).trigger(PurgingTrigger::of(
            EventTimeoutTrigger::of(CountTrigger::of(plan.size), Duration::from_millis(timeout)),
        )),
    };
    let results = if plan.process {
        windows.process(WindowRecords { lab: lab.clone(), node, at_end: false, in_order: true })
    } else {
        windows.aggregate_with(SumUp, move |key: &u32, _, sum: Record| {
            Record::made(node, *key, Timestamp::MAX, 0, sum.value, sum.parts)
        })
    };
    settle(results)
}

/// Pairs of a window, or one record with all its uids.
pub(super) fn window_join(
    left: &Stream,
    right: &Stream,
    windows: Windows,
    co_group: bool,
    node: usize,
) -> Stream {
    match windows {
        Windows::Tumbling { size_ms, offset_ms } => {
            join_in(left, right, tumbling(size_ms, offset_ms), co_group, node)
        }
        Windows::Sliding { size_ms, slide_ms, offset_ms } => {
            join_in(left, right, sliding(size_ms, slide_ms, offset_ms), co_group, node)
        }
        Windows::Session { gap_ms } => {
            join_in(left, right, EventTimeSessionWindows::with_gap(ms(gap_ms)), co_group, node)
        }
        windows @ Windows::DynamicSession { .. } => {
            let gap = gap(windows);
            let gap = move |record: &Either<Record, Record>| record.either(&gap, &gap);
            join_in(left, right, EventTimeSessionWindows::with_dynamic_gap(gap), co_group, node)
        }
    }
}

fn join_in<A>(left: &Stream, right: &Stream, assigner: A, co_group: bool, node: usize) -> Stream
where
    A: WindowAssigner<Either<Record, Record>, Window = TimeWindow>,
{
    let (left, right) = (left.key_by(|record| record.key), right.key_by(|record| record.key));
    let windows = left.join(&right).window(assigner);
    if !co_group {
        return windows.apply_join(move |left, right, out| {
            out.collect(pair(node, left, right));
            Ok(())
        });
    }
    windows.apply_co_group(move |key: &u32, ctx, left: Vec<Record>, right: Vec<Record>, out| {
        out.collect(co_grouped(node, *key, *ctx.window, &left, &right));
        Ok(())
    })
}

/// What a co-group makes of the records of a window.
pub(crate) fn co_grouped(
    node: usize,
    key: u32,
    window: TimeWindow,
    left: &[Record],
    right: &[Record],
) -> Record {
    let value = left.iter().map(|record| record.value).fold(0, i64::wrapping_add);
    let value = right.iter().map(|record| record.value).fold(value, i64::wrapping_sub);
    let mut parts: Vec<u64> = left.iter().chain(right).map(|record| record.uid).collect();
    parts.sort_unstable();
    Record::made(node, key, window.max_timestamp(), window.start, value, parts)
}
