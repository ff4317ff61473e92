//! A program with every keyed operator, over a record type that changes from version to version.

use crate::checkpoints::{COUNT, source};
use crate::transactional::{Numbered, Transactions};
use flott_api::windowing::{
    EventTimeSessionWindows, SlidingEventTimeWindows, TumblingEventTimeWindows, Window,
};
use flott_api::{
    AggregateFunction, Collector, KeyedContext, KeyedProcessFunction, UserResult, WindowContext,
};
use flott_datastream::{DataStream, KeyedStream, StreamExecutionEnvironment};
use flott_state::{AggregatingState, ListState, MapState, ReducingState, ValueState};
use flott_types::{Data, Key, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

/// Behind all records.
const LATER: Timestamp = 1_000_000;

/// So many that three runs share them.
const RECORDS: u64 = 3 * COUNT;

/// What flows, what is kept by key, and what windows aggregate.
pub(crate) trait Reading: Data + Debug + Sync {
    type Key: Key + Debug + Sync;
    fn of(number: u64) -> Self;
    fn key(&self) -> Self::Key;
    /// The sum of what was added.
    fn sum(&self) -> u64;
    fn add(&mut self, other: &Self);
}

/// `Reading` for a struct with a key and a sum, whatever else it has.
macro_rules! reading {
    ($type:ty, $key:ident: $key_type:ty, $sum:ident: $sum_type:ty, $make:expr) => {
        impl Reading for $type {
            type Key = $key_type;
            fn of(number: u64) -> Self {
                let make: fn($key_type, $sum_type) -> Self = $make;
                make((number * number % 7) as $key_type, number as $sum_type)
            }
            fn key(&self) -> $key_type {
                self.$key
            }
            fn sum(&self) -> u64 {
                self.$sum as u64
            }
            fn add(&mut self, other: &Self) {
                self.$sum += other.$sum;
            }
        }
    };
}

pub(crate) use reading;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Origin {
    Sensor,
    Copy(u8),
}

/// The first version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct First {
    pub(crate) key: u16,
    pub(crate) sum: u32,
    pub(crate) origin: Origin,
    pub(crate) unit: String,
}

reading!(First, key: u16, sum: u32, |key, sum| First { key, sum, origin: origin(key.into()), unit: "m".to_owned() });

pub(crate) fn origin(key: u64) -> Origin {
    if key.is_multiple_of(2) { Origin::Sensor } else { Origin::Copy(key as u8) }
}

/// All handles of keyed state.
#[derive(Clone)]
struct Totals<R> {
    last: ValueState<R>,
    all: ListState<R>,
    by_rest: MapState<u8, R>,
    reduced: ReducingState<R>,
    aggregated: AggregatingState<R, R, u64>,
}

fn totals<R: Reading>() -> Totals<R> {
    Totals {
        last: ValueState::new("last"),
        all: ListState::new("all"),
        by_rest: MapState::new("by rest"),
        reduced: ReducingState::new("reduced", |mut sum: R, new: R| {
            sum.add(&new);
            sum
        }),
        aggregated: AggregatingState::new(
            "aggregated",
            || R::of(0),
            |sum: &mut R, new: R| sum.add(&new),
            R::sum,
        ),
    }
}

impl<R: Reading> KeyedProcessFunction<R::Key, R, String> for Totals<R> {
    fn process_element(
        &mut self,
        record: R,
        ctx: &mut KeyedContext<'_, R::Key>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        self.last.set(ctx, record.clone())?;
        self.all.add(ctx, record.clone())?;
        let rest = (record.sum() % 4) as u8;
        let mut kept = self.by_rest.get(ctx, &rest)?.cloned().unwrap_or_else(|| R::of(0));
        kept.add(&record);
        self.by_rest.put(ctx, rest, kept)?;
        self.reduced.add(ctx, record.clone())?;
        self.aggregated.add(ctx, record)?;
        ctx.register_event_time_timer(LATER);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        ctx: &mut KeyedContext<'_, R::Key>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let last = self.last.get(ctx)?.map(R::sum);
        let all: Vec<u64> = self.all.get(ctx)?.map(R::sum).collect();
        let by_rest: Vec<(u8, u64)> =
            self.by_rest.iter(ctx)?.map(|(rest, kept)| (*rest, kept.sum())).collect();
        let (reduced, aggregated) = (self.reduced.get(ctx)?.map(R::sum), self.aggregated.get(ctx)?);
        let key = ctx.current_key();
        out.collect(format!("total {key:?} {last:?} {reduced:?} {aggregated:?} {by_rest:?} {all:?}"));
        Ok(())
    }
}

/// Accumulates in a reading.
#[derive(Clone)]
struct Sum<R>(PhantomData<fn() -> R>);

impl<R: Reading> AggregateFunction<R> for Sum<R> {
    type Accumulator = R;
    type Output = u64;
    fn create_accumulator(&self) -> R {
        R::of(0)
    }
    fn add(&self, accumulator: &mut R, record: &R) {
        accumulator.add(record);
    }
    fn get_result(&self, accumulator: &R) -> u64 {
        accumulator.sum()
    }
    fn merge(&self, accumulator: &mut R, other: &R) {
        accumulator.add(other);
    }
}

fn line<K: Debug, W: Window>(
    what: &'static str,
) -> impl Fn(&K, &WindowContext<'_, W>, u64) -> String + Clone + Send + Sync {
    move |key, ctx, sum| format!("{what} {key:?} until {} {sum}", ctx.window.max_timestamp())
}

type KeyOf<R> = fn(&R) -> <R as Reading>::Key;

fn tumbling<R: Reading>(keyed: &KeyedStream<R::Key, R, KeyOf<R>>) -> DataStream<String> {
    let tumbling = TumblingEventTimeWindows::of(Duration::from_millis(100));
    keyed.window(tumbling).aggregate_with(Sum::<R>(PhantomData), line("tumbling")).uid("tumbling")
}

fn windows<R: Reading>(keyed: &KeyedStream<R::Key, R, KeyOf<R>>) -> Vec<DataStream<String>> {
    let ms = Duration::from_millis;
    let sum = || Sum::<R>(PhantomData);
    vec![
        tumbling(keyed),
        keyed
            .window(SlidingEventTimeWindows::of(ms(200), ms(50)))
            .aggregate_with(sum(), line("sliding"))
            .uid("sliding"),
        keyed
            .window(EventTimeSessionWindows::with_gap(ms(90)))
            .aggregate_with(sum(), line("session"))
            .uid("sessions"),
        keyed.count_window(10).aggregate_with(sum(), line("counted")).uid("counted"),
        keyed
            .window(TumblingEventTimeWindows::of(ms(150)))
            .process(
                |key: &R::Key,
                 ctx: &WindowContext<'_, _>,
                 records: Vec<R>,
                 out: &mut Collector<'_, String>| {
                    let sums: Vec<_> = records.iter().map(R::sum).collect();
                    let window: &flott_api::windowing::TimeWindow = ctx.window;
                    out.collect(format!("whole {key:?} from {} {sums:?}", window.start));
                    Ok(())
                },
            )
            .uid("whole"),
    ]
}

/// Only what has handles, a reduction and slices, under the same uids: it takes a third of the time to compile.
pub(crate) fn build_small<R: Reading>(env: &StreamExecutionEnvironment, sink: &Transactions<String>) {
    let readings =
        source(env, 1, RECORDS, "numbers").map(|(_, number): Numbered| R::of(number)).uid("readings");
    let keyed = readings.key_by(R::key as KeyOf<R>);
    let reduced = keyed.reduce(|sum, record| sum.add(&record)).uid("reduced");
    let lines = keyed.process(totals::<R>()).uid("totals");
    let lines = lines.union(&reduced.map(|sum| format!("reduced {:?} {}", sum.key(), sum.sum())).seal());
    lines.union(&tumbling(&keyed)).sink_to(sink.clone()).uid("sink");
}

/// Adds version `R` of the program to `env`.
pub(crate) fn build<R: Reading>(env: &StreamExecutionEnvironment, sink: &Transactions<String>) {
    let readings =
        source(env, 1, RECORDS, "numbers").map(|(_, number): Numbered| R::of(number)).uid("readings");
    let keyed = readings.key_by(R::key as KeyOf<R>);
    let joined = keyed.connect(&keyed).interval_join(-10..=10).unwrap().process(
        |left: &R, right: &R, out: &mut Collector<'_, String>| {
            out.collect(format!("joined {} {}", left.sum(), right.sum()));
            Ok(())
        },
    );
    let reduced = keyed.reduce(|sum, record| sum.add(&record)).uid("reduced");
    let reduced = reduced.map(|sum| format!("reduced {:?} {}", sum.key(), sum.sum())).seal();
    let lines = [keyed.process(totals::<R>()).uid("totals"), joined.uid("joined"), reduced];
    let lines = lines.into_iter().chain(windows(&keyed)).reduce(|all, next| all.union(&next));
    lines.unwrap().sink_to(sink.clone()).uid("sink");
}
