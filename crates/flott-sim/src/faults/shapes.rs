//! What a job under faults computes, for the engine.

use super::expected::{Numbered, Row};
use super::functions::{ByTimer, CollectAll, Counter, Holder, Log, WithRules};
use super::held::{LOGGED, RULES};
use super::plan::{Job, Shape};
use super::program::RAW;
use flott_api::windowing::{
    CountTrigger, EventTimeSessionWindows, PurgingTrigger, SlidingEventTimeWindows, TimeWindow,
    TumblingEventTimeWindows, WindowAssigner,
};
use flott_api::{Collector, OutputTag, WindowContext};
use flott_datastream::{DataStream, KeyedStream};
use flott_state::{BroadcastState, OperatorListState};
use std::sync::Arc;
use std::time::Duration;

/// The uids of the keyed operator.
pub(crate) const KEYED: [&str; 6] = ["windows", "function", TRIGGERED, "connected", JOIN, "rules"];
/// The uid of windows with a trigger.
pub(crate) const TRIGGERED: &str = "triggered";
/// The uid of a join.
pub(crate) const JOIN: &str = "join";
/// The uid of the keyed operator before the other.
pub(crate) const HOLDER: &str = "holder";
/// The uids of what chooses the inputs of what has two.
pub(crate) const SIDES: [&str; 2] = ["left", "right"];
/// The uid of what keeps a list.
pub(crate) const LOG: &str = "log";
/// The uid of what makes rows of records that come too late.
pub(crate) const LATE: &str = "late";

/// Records that go straight to the sink.
pub(super) fn raw(job: &Job, records: &DataStream<Numbered>) -> DataStream<Row> {
    if job.logged {
        let logged = records.process(Log(OperatorListState::new(LOGGED))).uid(LOG);
        return logged.map(Row::Record).uid(RAW);
    }
    records.map(Row::Record).uid(RAW)
}

/// The results for `records`, and for `second` if the records of the second source have a way of their own.
pub(super) fn shaped(
    job: &Arc<Job>,
    records: &DataStream<Numbered>,
    second: Option<&DataStream<Numbered>>,
) -> DataStream<Row> {
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let one = || match job.holder() {
        Some(holder) => {
            let hold = Holder(ByTimer::new(job.held_ms.unwrap_or_default()));
            keyed(job, &keyed(&Arc::new(holder), records).process(hold).uid(HOLDER))
        }
        None => keyed(job, records),
    };
    let side = |is_right: bool| match second {
        Some(second) if is_right => second.clone(),
        Some(_) => records.clone(),
        None => {
            let of = Arc::clone(job);
            let side = records.filter(move |record: &Numbered| of.is_right(record) == is_right);
            side.uid(SIDES[usize::from(is_right)])
        }
    };
    match job.shape {
        Shape::Records => raw(job, records),
        Shape::Tumbling { size_ms } => windows(job, &one(), TumblingEventTimeWindows::of(ms(size_ms))),
        Shape::Sliding { size_ms, slide_ms } => {
            windows(job, &one(), SlidingEventTimeWindows::of(ms(size_ms), ms(slide_ms)))
        }
        Shape::Session { gap_ms } => windows(job, &one(), EventTimeSessionWindows::with_gap(ms(gap_ms))),
        Shape::Timers { delay_ms } => one().process(ByTimer::new(delay_ms)).uid(KEYED[1]),
        Shape::Counts => one().process(Counter::new(job.memo_ms)).uid(KEYED[1]),
        Shape::Chunks { size_ms, count } => {
            let windows = one().window(TumblingEventTimeWindows::of(ms(size_ms)));
            let triggered = windows.trigger(PurgingTrigger::of(CountTrigger::of(count)));
            triggered.aggregate_with(CollectAll, group).uid(TRIGGERED)
        }
        Shape::Connected { delay_ms } => {
            let (left, right) = (keyed(job, &side(false)), keyed(job, &side(true)));
            left.connect(&right).process(ByTimer::new(delay_ms)).uid(KEYED[3])
        }
        Shape::Joined { lower_ms, upper_ms } => {
            let (left, right) = (keyed(job, &side(false)), keyed(job, &side(true)));
            let join = left.connect(&right).interval_join(lower_ms..=upper_ms);
            let join = join.expect("a plan has an interval that is one");
            let of = Arc::clone(job);
            let pair = move |left: &Numbered, right: &Numbered, out: &mut Collector<'_, Row>| {
                let at = of.timestamp(*left).max(of.timestamp(*right));
                out.collect(Row::Group(of.key(*left), at, vec![*left, *right]));
                Ok(())
            };
            join.process(pair).uid(JOIN)
        }
        Shape::Rules { delay_ms } => {
            let rules = side(true).to_broadcast();
            let with_rules =
                WithRules { by_timer: ByTimer::new(delay_ms), rules: BroadcastState::new(RULES) };
            keyed(job, &side(false)).connect_broadcast(&rules).process(with_rules).uid(KEYED[5])
        }
    }
}

fn keyed(
    job: &Arc<Job>,
    records: &DataStream<Numbered>,
) -> KeyedStream<u32, Numbered, impl Fn(&Numbered) -> u32 + Clone + Send + Sync + use<>> {
    let of = Arc::clone(job);
    records.key_by(move |record: &Numbered| of.key(*record))
}

fn group(key: &u32, ctx: &WindowContext<'_, TimeWindow>, records: Vec<Numbered>) -> Row {
    Row::Group(*key, ctx.window.start, records)
}

fn windows<S, A>(job: &Job, keyed: &KeyedStream<u32, Numbered, S>, assigner: A) -> DataStream<Row>
where
    S: Fn(&Numbered) -> u32 + Clone + Send + Sync + 'static,
    A: WindowAssigner<Numbered, Window = TimeWindow>,
{
    let (tag, of) = (OutputTag::new("too late"), job.clone());
    let mut windows = keyed.window(assigner);
    if job.late_every.is_some() {
        windows = windows.side_output_late_data(&tag);
    }
    let rows = windows.aggregate_with(CollectAll, move |key: &u32, window, records: Vec<Numbered>| {
        match *records {
            // Whether its window was over depends on who has come before it; both come to the same.
            [record] if of.is_late(&record) => Row::Late(record),
            _ => group(key, window, records),
        }
    });
    let rows = rows.uid(KEYED[0]);
    if job.late_every.is_none() {
        return rows;
    }
    rows.union(&rows.side_output(&tag).map(Row::Late).uid(LATE))
}
