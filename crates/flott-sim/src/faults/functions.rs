//! What users would write of a job under faults.

use super::expected::{Numbered, Row};
use super::held::{COUNT, GROUPS, MEMO};
use flott_api::{
    AggregateFunction, BroadcastContext, Collector, KeyedBroadcastProcessFunction, KeyedCoProcessFunction,
    KeyedContext, KeyedProcessFunction, ProcessContext, ProcessFunction, UserResult,
};
use flott_state::{
    BroadcastState, MapState, OperatorListState, OperatorStateBackend, StateTtlConfig, ValueState,
};
use flott_types::Timestamp;
use std::time::Duration;

/// Collects the records of a window.
#[derive(Clone)]
pub(super) struct CollectAll;

impl AggregateFunction<Numbered> for CollectAll {
    type Accumulator = Vec<Numbered>;
    type Output = Vec<Numbered>;
    fn create_accumulator(&self) -> Vec<Numbered> {
        Vec::new()
    }
    fn add(&self, accumulator: &mut Vec<Numbered>, record: &Numbered) {
        accumulator.push(*record);
    }
    fn get_result(&self, accumulator: &Vec<Numbered>) -> Vec<Numbered> {
        let mut records = accumulator.clone();
        records.sort_unstable();
        records
    }
    fn merge(&self, accumulator: &mut Vec<Numbered>, other: &Vec<Numbered>) {
        accumulator.extend(other);
    }
}

/// Records of a timestamp, by a timer.
#[derive(Clone)]
pub(super) struct ByTimer {
    delay_ms: i64,
    groups: Groups,
}

/// The records of a key by their time.
pub(super) type Groups = MapState<i64, Vec<Numbered>>;

impl ByTimer {
    pub(super) fn new(delay_ms: i64) -> Self {
        Self { delay_ms, groups: Groups::new(GROUPS) }
    }

    fn add(&self, record: Numbered, ctx: &mut KeyedContext<'_, u32>) -> UserResult {
        let at = ctx.timestamp();
        self.groups.update_or(ctx, at, Vec::new(), |group| group.push(record))?;
        ctx.register_event_time_timer(at + self.delay_ms);
        Ok(())
    }

    /// The records of the timer at `at`, and their own time.
    fn take(&self, at: Timestamp, ctx: &mut KeyedContext<'_, u32>) -> UserResult<(Timestamp, Vec<Numbered>)> {
        let at = at - self.delay_ms;
        let mut group = self.groups.remove(ctx, &at)?.ok_or("a timer without records")?;
        group.sort_unstable();
        Ok((at, group))
    }

    fn fire(
        &self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Row>,
        known: impl FnOnce(&mut Vec<Numbered>) -> UserResult,
    ) -> UserResult {
        let (at, mut group) = self.take(at, ctx)?;
        known(&mut group)?;
        out.collect(Row::Group(*ctx.current_key(), at, group));
        Ok(())
    }
}

impl KeyedProcessFunction<u32, Numbered, Row> for ByTimer {
    fn process_element(
        &mut self,
        record: Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, Row>,
    ) -> UserResult {
        self.add(record, ctx)
    }
    fn on_timer(
        &mut self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        self.fire(at, ctx, out, |_| Ok(()))
    }
}

/// The same with two inputs.
impl KeyedCoProcessFunction<u32, Numbered, Numbered, Row> for ByTimer {
    fn process_element1(
        &mut self,
        record: Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, Row>,
    ) -> UserResult {
        self.add(record, ctx)
    }
    fn process_element2(
        &mut self,
        record: Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, Row>,
    ) -> UserResult {
        self.add(record, ctx)
    }
    fn on_timer(
        &mut self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        self.fire(at, ctx, out, |_| Ok(()))
    }
}

/// The same, and with them what was broadcast up to the time of the timer.
#[derive(Clone)]
pub(super) struct WithRules {
    pub(super) by_timer: ByTimer,
    pub(super) rules: BroadcastState<Numbered, Timestamp>,
}

impl KeyedBroadcastProcessFunction<u32, Numbered, Numbered, Row> for WithRules {
    fn process_element(
        &mut self,
        record: Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        _: &OperatorStateBackend,
        _: &mut Collector<'_, Row>,
    ) -> UserResult {
        self.by_timer.add(record, ctx)
    }
    fn process_broadcast_element(
        &mut self,
        rule: Numbered,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, Row>,
    ) -> UserResult {
        let at = ctx.timestamp;
        Ok(self.rules.put(ctx.state, rule, at)?)
    }
    fn on_timer(
        &mut self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        self.by_timer.fire(at, ctx, out, |group| {
            let known = self.rules.iter(broadcast)?.filter(|(_, of)| **of <= at);
            group.extend(known.map(|(rule, _)| *rule));
            Ok(())
        })
    }
}

/// Puts records out again when their time has come.
#[derive(Clone)]
pub(super) struct Holder(pub(super) ByTimer);

impl KeyedProcessFunction<u32, Numbered, Numbered> for Holder {
    fn process_element(
        &mut self,
        record: Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, Numbered>,
    ) -> UserResult {
        self.0.add(record, ctx)
    }
    fn on_timer(
        &mut self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Numbered>,
    ) -> UserResult {
        self.0.take(at, ctx)?.1.into_iter().for_each(|record| out.collect(record));
        Ok(())
    }
}

/// Lets records pass and keeps a list of them.
#[derive(Clone)]
pub(super) struct Log(pub(super) OperatorListState<Numbered>);

impl ProcessFunction<Numbered, Numbered> for Log {
    fn process_element(
        &mut self,
        record: Numbered,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Numbered>,
    ) -> UserResult {
        self.0.add(ctx.state, record)?;
        out.collect(record);
        Ok(())
    }
}

/// What is remembered of a key for a while: something that follows from the key, and when it was written.
pub(crate) type Memo = (u64, Timestamp);

/// What is remembered of a key.
pub(crate) fn memo_of(key: u32) -> u64 {
    u64::from(key) * 7
}

/// Counts the records of a key.
#[derive(Clone)]
pub(super) struct Counter {
    pub(super) count: ValueState<(u64, u64)>,
    /// And for how long it lives.
    pub(super) memo: Option<(ValueState<Memo>, i64)>,
}

impl Counter {
    pub(super) fn new(memo_ms: Option<u64>) -> Self {
        let memo = memo_ms.map(|ms| {
            let ttl = StateTtlConfig::new(Duration::from_millis(ms));
            (ValueState::new(MEMO).with_ttl(ttl), ms as i64)
        });
        Self { count: ValueState::new(COUNT), memo }
    }

    /// What is remembered is right, and not older than it may be; what is forgotten is remembered anew.
    fn check_memo(&self, ctx: &mut KeyedContext<'_, u32>) -> UserResult<bool> {
        let Some((memo, ttl_ms)) = &self.memo else { return Ok(true) };
        let (now, of) = (ctx.current_processing_time(), memo_of(*ctx.current_key()));
        if let Some((known, since)) = memo.get(ctx)? {
            return Ok(*known == of && now - since < *ttl_ms);
        }
        memo.set(ctx, (of, now))?;
        Ok(true)
    }
}

impl KeyedProcessFunction<u32, Numbered, Row> for Counter {
    fn process_element(
        &mut self,
        (_, number): Numbered,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        if !self.check_memo(ctx)? {
            // No job has a row like this.
            out.collect(Row::Count(*ctx.current_key(), 0, 0));
        }
        let (count, sum) = *self.count.update_or(ctx, (0, 0), |(count, sum)| {
            *count += 1;
            *sum += number;
        })?;
        out.collect(Row::Count(*ctx.current_key(), count, sum));
        Ok(())
    }
}
