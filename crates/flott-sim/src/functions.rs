//! The user's functions of simulated programs.

use crate::lab::Lab;
use crate::plan::{AsyncPlan, Exchange, KeyedFunction, Windows};
use crate::record::{Record, mix};
use flott_api::windowing::{TimeWindow, Window};
use flott_api::{
    AggregateFunction, AsyncFunction, BroadcastContext, BroadcastProcessFunction, CoProcessFunction,
    Collector, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction,
    OutputTag, ProcessContext, ProcessFunction, ProcessWindowFunction, RuntimeContext, UserResult,
    WindowContext,
};
use flott_env::Env;
use flott_state::{
    BroadcastState, ListState, MapState, OperatorListState, OperatorStateBackend, ReducingState, ValueState,
};
use flott_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a function is, and what it may expect of the records that it sees.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) lab: Lab,
    pub(crate) node: usize,
    /// Records never come behind the watermark.
    pub(crate) on_time: bool,
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
}

impl Place {
    pub(crate) fn new(lab: &Lab, node: usize, on_time: bool) -> Self {
        Self { lab: lab.clone(), node, on_time, subtask: 0, parallelism: 0 }
    }

    fn open(&mut self, ctx: &RuntimeContext) {
        self.subtask = ctx.subtask.0;
        self.parallelism = ctx.parallelism;
    }

    fn record(&self, record: &Record, timestamp: Timestamp, watermark: Timestamp) {
        let Self { lab, node, subtask, .. } = self;
        lab.watermark(*node, *subtask, watermark);
        lab.expect(record.timestamp == timestamp, || {
            format!("n{node} got {record:?} with the timestamp {timestamp}")
        });
        lab.expect(!self.on_time || record.timestamp > watermark, || {
            format!(
                "n{node} subtask {subtask} got the on-time record {record:?} behind the watermark {watermark}"
            )
        });
    }

    fn keyed_record(&self, record: &Record, ctx: &KeyedContext<'_, u32>) {
        self.record(record, ctx.timestamp(), ctx.current_watermark().0);
        self.lab.key(self.node, self.subtask, *ctx.current_key());
        self.lab.expect(*ctx.current_key() == record.key, || {
            format!("n{} got {record:?} in the scope of key {}", self.node, ctx.current_key())
        });
    }
}

/// Stands behind an exchange or union and looks at what arrives.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) place: Place,
    pub(crate) exchange: Option<Exchange>,
}

impl ProcessFunction<Record, Record> for Probe {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.place.open(ctx);
        Ok(())
    }

    fn process_element(
        &mut self,
        mut record: Record,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        let Place { lab, node, subtask, parallelism, .. } = &self.place;
        self.place.record(&record, ctx.timestamp, ctx.watermark.0);
        match self.exchange {
            Some(Exchange::Custom) => lab.expect(record.key % parallelism == *subtask, || {
                format!("n{node}: the custom partition of {record:?} is subtask {subtask}")
            }),
            Some(Exchange::Global) => {
                lab.expect(*subtask == 0, || {
                    format!("n{node}: {record:?} went to subtask {subtask}, not to the first")
                });
            }
            // The copies differ from here on.
            Some(Exchange::Broadcast) => record.uid = mix(record.uid, u64::from(*subtask)),
            _ => {}
        }
        lab.arrival(*node, *subtask);
        out.collect(record);
        Ok(())
    }
}

/// Sends some records to a side output.
#[derive(Clone, Debug)]
pub(crate) struct Divide {
    pub(crate) place: Place,
    pub(crate) modulus: i64,
    pub(crate) side: OutputTag<Record>,
}

impl ProcessFunction<Record, Record> for Divide {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.place.open(ctx);
        Ok(())
    }

    fn process_element(
        &mut self,
        record: Record,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        self.place.record(&record, ctx.timestamp, ctx.watermark.0);
        if record.value.rem_euclid(self.modulus) == 0 {
            out.output(&self.side, record)
        } else {
            out.collect(record)
        }
        Ok(())
    }
}

/// Gives results of an aggregation, which knows no window, the timestamp that the engine gave them.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) node: usize,
    /// The records of all keys went into one window.
    pub(crate) over_all: bool,
    /// The order of the parts counts.
    pub(crate) in_order: bool,
}

impl ProcessFunction<Record, Record> for Stamp {
    fn process_element(
        &mut self,
        record: Record,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        let Record { key, value, mut parts, .. } = record;
        if !self.in_order {
            parts.sort_unstable();
        }
        let key = if self.over_all { 0 } else { key };
        out.collect(Record::made(self.node, key, ctx.timestamp, 0, value, parts));
        Ok(())
    }
}

/// The keyed functions.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    place: Place,
    function: KeyedFunction,
    count: ValueState<i64>,
    largest: ReducingState<i64>,
    groups: MapState<i64, Vec<(u64, i64)>>,
    waiting: ListState<(u64, i64)>,
    newest: ValueState<Timestamp>,
    seen: MapState<i64, u8>,
}

impl Keyed {
    pub(crate) fn new(place: Place, function: KeyedFunction) -> Self {
        Self {
            place,
            function,
            count: ValueState::new("count"),
            largest: ReducingState::new("largest", |a: i64, b: i64| a.max(b)),
            groups: MapState::new("groups"),
            waiting: ListState::new("waiting"),
            newest: ValueState::new("newest"),
            seen: MapState::new("seen"),
        }
    }

    fn made(&self, key: u32, at: Timestamp, aux: i64, records: Vec<(u64, i64)>) -> Record {
        let value = records.iter().fold(0, |sum: i64, (_, value)| sum.wrapping_add(*value));
        let mut parts: Vec<u64> = records.into_iter().map(|(uid, _)| uid).collect();
        parts.sort_unstable();
        Record::made(self.place.node, key, at, aux, value, parts)
    }
}

impl KeyedProcessFunction<u32, Record, Record> for Keyed {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.place.open(ctx);
        Ok(())
    }

    fn process_element(
        &mut self,
        mut record: Record,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        self.place.keyed_record(&record, ctx);
        match self.function {
            KeyedFunction::Running => {
                self.largest.add(ctx, record.value)?;
                record.aux = self.largest.get(ctx)?.copied().unwrap_or_default();
                record.value = *self.count.update_or(ctx, 0, |count| *count += 1)?;
                out.collect(record);
            }
            KeyedFunction::Groups { delay_ms } => {
                let entry = (record.uid, record.value);
                self.groups.update_or(ctx, record.timestamp, Vec::new(), |group| group.push(entry))?;
                ctx.register_event_time_timer(record.timestamp + delay_ms);
            }
            KeyedFunction::Quiet { gap_ms } => {
                let newest = self.newest.get(ctx)?.copied();
                if let Some(newest) = newest {
                    ctx.delete_event_time_timer(newest + gap_ms);
                }
                let newest = newest.unwrap_or(Timestamp::MIN).max(record.timestamp);
                self.newest.set(ctx, newest)?;
                self.waiting.add(ctx, (record.uid, record.value))?;
                ctx.register_event_time_timer(newest + gap_ms);
            }
            KeyedFunction::Distinct { modulus } => {
                let class = record.value.rem_euclid(modulus);
                if !self.seen.contains(ctx, &class)? {
                    self.seen.put(ctx, class, 0)?;
                    out.collect(record);
                }
            }
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        let Place { lab, node, subtask, .. } = self.place.clone();
        let (key, watermark) = (*ctx.current_key(), ctx.current_watermark().0);
        lab.watermark(node, subtask, watermark);
        lab.key(node, subtask, key);
        lab.expect(at <= watermark, || format!("n{node}: the timer {at} of key {key} fired at {watermark}"));
        match self.function {
            KeyedFunction::Groups { delay_ms } => {
                let group = self.groups.remove(ctx, &(at - delay_ms))?;
                lab.expect(group.is_some(), || format!("n{node}: the timer {at} of key {key} fired twice"));
                out.collect(self.made(key, at, at - delay_ms, group.unwrap_or_default()));
            }
            KeyedFunction::Quiet { gap_ms } => {
                let newest = self.newest.take(ctx)?;
                lab.expect(newest == Some(at - gap_ms), || {
                    format!("n{node}: the timer {at} of key {key} fired though it was deleted, newest is {newest:?}")
                });
                let waiting = self.waiting.take(ctx)?;
                out.collect(self.made(key, at, 0, waiting));
            }
            KeyedFunction::Running | KeyedFunction::Distinct { .. } => {
                lab.expect(false, || format!("n{node}: a timer that nobody has set: {at} of key {key}"));
            }
        }
        Ok(())
    }
}

/// Adds the side to records of two streams.
#[derive(Clone, Debug)]
pub(crate) struct Sides;

impl Sides {
    pub(crate) fn first(record: Record) -> Record {
        Record { uid: mix(record.uid, 1), value: record.value.wrapping_add(1), ..record }
    }

    pub(crate) fn second(record: Record) -> Record {
        Record { uid: mix(record.uid, 2), value: record.value.wrapping_mul(2), ..record }
    }
}

impl CoProcessFunction<Record, Record, Record> for Sides {
    fn process_element1(
        &mut self,
        record: Record,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        out.collect(Self::first(record));
        Ok(())
    }

    fn process_element2(
        &mut self,
        record: Record,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        out.collect(Self::second(record));
        Ok(())
    }
}

/// What a join makes of a pair.
pub(crate) fn pair(node: usize, left: &Record, right: &Record) -> Record {
    let value = left.value.wrapping_sub(right.value);
    let parts = vec![left.uid, right.uid];
    Record::made(node, left.key, left.timestamp.max(right.timestamp), 0, value, parts)
}

/// Joins every record of one stream with every record of the other that has the same key.
#[derive(Clone, Debug)]
pub(crate) struct JoinAll {
    node: usize,
    left: ListState<Record>,
    right: ListState<Record>,
}

impl JoinAll {
    pub(crate) fn new(node: usize) -> Self {
        Self { node, left: ListState::new("left"), right: ListState::new("right") }
    }
}

impl KeyedCoProcessFunction<u32, Record, Record, Record> for JoinAll {
    fn process_element1(
        &mut self,
        left: Record,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        for right in self.right.get(ctx)? {
            let joined = pair(self.node, &left, right);
            let timestamp = joined.timestamp;
            out.collect_with_timestamp(joined, timestamp);
        }
        self.left.add(ctx, left)?;
        Ok(())
    }

    fn process_element2(
        &mut self,
        right: Record,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        for left in self.left.get(ctx)? {
            let joined = pair(self.node, left, &right);
            let timestamp = joined.timestamp;
            out.collect_with_timestamp(joined, timestamp);
        }
        self.right.add(ctx, right)?;
        Ok(())
    }
}

/// What is left of the records of a window when it fires.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sum {
    key: u32,
    value: i64,
    parts: Vec<u64>,
}

/// Adds records up and remembers which they were.
#[derive(Clone, Debug)]
pub(crate) struct SumUp;

impl AggregateFunction<Record> for SumUp {
    type Accumulator = Sum;
    type Output = Record;

    fn create_accumulator(&self) -> Sum {
        Sum::default()
    }

    fn add(&self, sum: &mut Sum, record: &Record) {
        sum.key = record.key;
        sum.value = sum.value.wrapping_add(record.value);
        sum.parts.push(record.uid);
    }

    fn get_result(&self, sum: &Sum) -> Record {
        Record::made(0, sum.key, 0, 0, sum.value, sum.parts.clone())
    }

    fn merge(&self, sum: &mut Sum, other: &Sum) {
        sum.key = other.key;
        sum.value = sum.value.wrapping_add(other.value);
        sum.parts.extend_from_slice(&other.parts);
    }
}

/// The uid and value of a record, for a window that reduces: what it folds must look like a sum from the beginning.
pub(crate) fn lift(record: Record) -> Record {
    Record { parts: vec![record.uid], ..record }
}

/// Folds lifted records.
pub(crate) fn fold(sum: &mut Record, record: Record) {
    sum.value = sum.value.wrapping_add(record.value);
    sum.parts.extend(record.parts);
}

/// The running sum of a key: everything but sum and count is that of the last record.
pub(crate) fn running(sum: &mut Record, record: Record) {
    let parts = vec![record.uid];
    let (uid, value, aux) =
        (mix(sum.uid, record.uid), sum.value.wrapping_add(record.value), sum.aux.wrapping_add(1));
    *sum = Record { uid, value, aux, parts, ..record };
}

/// Makes a record of the records of a window.
#[derive(Clone, Debug)]
pub(crate) struct WindowRecords {
    pub(crate) lab: Lab,
    pub(crate) node: usize,
    /// The window may only fire when the watermark has passed it.
    pub(crate) at_end: bool,
    /// The order of the records counts.
    pub(crate) in_order: bool,
}

impl WindowRecords {
    fn made(&self, key: u32, timestamp: Timestamp, aux: i64, records: &[Record]) -> Record {
        let value = records.iter().fold(0, |sum: i64, record| sum.wrapping_add(record.value));
        let mut parts: Vec<u64> = records.iter().map(|record| record.uid).collect();
        if !self.in_order {
            parts.sort_unstable();
        }
        Record::made(self.node, key, timestamp, aux, value, parts)
    }
}

impl<K: KeyNumber> ProcessWindowFunction<Record, Record, K, TimeWindow> for WindowRecords {
    fn process(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, TimeWindow>,
        records: Vec<Record>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        let (node, end, watermark) = (self.node, ctx.window.max_timestamp(), ctx.watermark.0);
        self.lab.expect(!self.at_end || end <= watermark, || {
            format!("n{node}: the window {:?} fired at the watermark {watermark}", ctx.window)
        });
        self.lab.expect(!records.is_empty(), || format!("n{node}: the empty window {:?} fired", ctx.window));
        out.collect(self.made(key.number(), end, ctx.window.start, &records));
        Ok(())
    }
}

impl<K: KeyNumber> ProcessWindowFunction<Record, Record, K, flott_api::windowing::GlobalWindow>
    for WindowRecords
{
    fn process(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, flott_api::windowing::GlobalWindow>,
        records: Vec<Record>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        out.collect(self.made(key.number(), ctx.window.max_timestamp(), 0, &records));
        Ok(())
    }
}

/// The number of a key; that of all records is 0.
pub(crate) trait KeyNumber: Send + 'static {
    fn number(&self) -> u32;
}

impl KeyNumber for u32 {
    fn number(&self) -> u32 {
        *self
    }
}

impl KeyNumber for () {
    fn number(&self) -> u32 {
        0
    }
}

/// The gap of a dynamic session.
pub(crate) fn gap(windows: Windows) -> impl Fn(&Record) -> Duration + Clone + Send + Sync + 'static {
    move |record| Duration::from_millis(windows.gap_ms(record).unsigned_abs())
}

/// Keeps records until all broadcast records have come, which is certain at the end of event time only.
#[derive(Clone, Debug)]
pub(crate) struct LookUpAtEnd {
    place: Place,
    waiting: ListState<Record>,
    table: BroadcastState<u32, i64>,
}

/// The last timer that can fire: at the watermark that ends event time.
pub(crate) const AT_THE_END: Timestamp = Timestamp::MAX - 1;

impl LookUpAtEnd {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, waiting: ListState::new("waiting"), table: BroadcastState::new("table") }
    }
}

impl KeyedBroadcastProcessFunction<u32, Record, Record, Record> for LookUpAtEnd {
    fn process_element(
        &mut self,
        record: Record,
        ctx: &mut KeyedContext<'_, u32>,
        _: &OperatorStateBackend,
        _: &mut Collector<'_, Record>,
    ) -> UserResult {
        self.waiting.add(ctx, record)?;
        ctx.register_event_time_timer(AT_THE_END);
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        record: Record,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, Record>,
    ) -> UserResult {
        let largest = self.table.get(ctx.state, &record.key)?.copied().unwrap_or(i64::MIN);
        self.table.put(ctx.state, record.key, largest.max(record.value))?;
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        let found = self.table.get(broadcast, ctx.current_key())?.copied().unwrap_or(i64::MIN);
        let entries = self.table.iter(broadcast)?.count() as i64;
        for record in self.waiting.take(ctx)? {
            let made = looked_up(self.place.node, &record, found, entries);
            out.collect_with_timestamp(made, record.timestamp);
        }
        Ok(())
    }
}

/// What a broadcast join makes of a record.
pub(crate) fn looked_up(node: usize, record: &Record, found: i64, entries: i64) -> Record {
    Record::made(node, record.key, record.timestamp, entries, found, vec![record.uid])
}

/// Notes in each record how many broadcast records its subtask has seen.
#[derive(Clone, Debug)]
pub(crate) struct CountBroadcast {
    table: BroadcastState<u64, i64>,
    passed: OperatorListState<u64>,
}

impl CountBroadcast {
    pub(crate) fn new() -> Self {
        Self { table: BroadcastState::new("table"), passed: OperatorListState::new("passed") }
    }
}

impl BroadcastProcessFunction<Record, Record, Record> for CountBroadcast {
    fn process_element(
        &mut self,
        record: Record,
        ctx: &mut ProcessContext<'_>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        self.passed.add(ctx.state, record.uid)?;
        out.collect(Record { aux: self.table.iter(broadcast)?.count() as i64, ..record });
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        record: Record,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, Record>,
    ) -> UserResult {
        self.table.put(ctx.state, record.uid, record.value)?;
        Ok(())
    }
}

/// A call that takes virtual time and may fail at first or never come back.
#[derive(Clone, Debug)]
pub(crate) struct SlowCall {
    pub(crate) lab: Lab,
    pub(crate) env: Env,
    pub(crate) node: usize,
    pub(crate) plan: AsyncPlan,
}

/// What a call makes of a record.
pub(crate) fn answered(record: Record) -> Vec<Record> {
    vec![Record { value: record.value.wrapping_add(7), ..record }]
}

/// What a call makes of a record that takes too long.
pub(crate) fn timed_out(record: &Record) -> Vec<Record> {
    vec![Record { value: i64::MIN, ..record.clone() }]
}

impl AsyncFunction<Record, Record> for SlowCall {
    fn async_invoke(&self, record: Record) -> impl Future<Output = UserResult<Vec<Record>>> + Send + 'static {
        let Self { lab, env, node, plan } = self.clone();
        async move {
            let calls = lab.call(node, record.uid);
            match plan.delay_ms(&record) {
                Some(ms) => env.sleep(Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
            if calls < plan.failures(&record) {
                return Err("not yet".into());
            }
            Ok(answered(record))
        }
    }

    fn timeout(&self, record: &Record, _: Duration) -> UserResult<Vec<Record>> {
        Ok(timed_out(record))
    }
}

/// A mistake that is put into a running program to see whether the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A record is lost.
    Lose,
    /// A record comes twice.
    Double,
    /// A record's value is wrong.
    Falsify,
    /// A record's timestamp is a millisecond later.
    Delay,
    /// A record is held back until the next one has passed.
    Swap,
    /// A source promises less disorder than there is.
    Hurry,
}

/// Makes a [`Mistake`] at the record number `at` that a subtask sees.
#[derive(Clone, Debug)]
pub(crate) struct Saboteur {
    pub(crate) lab: Lab,
    pub(crate) mistake: Mistake,
    pub(crate) at: u64,
    pub(crate) seen: u64,
    pub(crate) held: Option<Record>,
}

impl ProcessFunction<Record, Record> for Saboteur {
    fn process_element(
        &mut self,
        record: Record,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Record>,
    ) -> UserResult {
        let has_effect = self.mistake != Mistake::Delay || record.timestamp < Timestamp::MAX;
        let is_due = self.seen == self.at && has_effect && !self.lab.notes().sabotaged;
        self.seen += 1;
        if !is_due {
            let timestamp = record.timestamp;
            out.collect(record);
            if let Some(held) = self.held.take() {
                // Behind the next one, and not later than it.
                let timestamp = held.timestamp.min(timestamp).max(held.timestamp);
                out.collect_with_timestamp(held, timestamp);
            }
            return Ok(());
        }
        self.lab.notes().sabotaged = true;
        match self.mistake {
            Mistake::Lose => {}
            Mistake::Double => {
                out.collect(record.clone());
                out.collect(record);
            }
            Mistake::Falsify => out.collect(Record { value: record.value.wrapping_add(1), ..record }),
            Mistake::Delay => {
                let timestamp = record.timestamp.saturating_add(1);
                out.collect_with_timestamp(Record { timestamp, ..record }, timestamp);
            }
            Mistake::Swap => self.held = Some(record),
            Mistake::Hurry => out.collect(record),
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Collector<'_, Record>) -> UserResult {
        if let Some(held) = self.held.take() {
            let timestamp = held.timestamp;
            out.collect_with_timestamp(held, timestamp);
        }
        Ok(())
    }
}
