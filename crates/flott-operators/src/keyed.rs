//! What the operators that call keyed functions have in common: keyed state, timers, and how timers fire.

use crate::operator::{OperatorContext, OperatorOutput};
use crate::user_code::user_error;
use flott_api::{Collector, KeyedContext, TimeDomain, UserResult};
use flott_state::{
    BegunSnapshot, HandleTypes, KeyedEventTime, KeyedSchemas, KeyedStateBackend, LocalState,
    OperatorSnapshot, SnapshotProgress, StateTypes, TimerService,
};
use flott_types::{
    Error, Key, KeyGroupRange, NO_TIMESTAMP, RecordBatch, Result, SubtaskIndex, Timestamp, Watermark,
    key_group, key_group_range,
};

/// What timers emit is sent on when there are this many records: one watermark may fire millions.
const EMIT_AT: usize = 1024;

/// The keyed state and timers of one subtask.
pub(crate) struct KeyedScope<K> {
    state: KeyedStateBackend<K>,
    timers: TimerService<K, ()>,
    max_parallelism: u32,
}

impl<K: Key> KeyedScope<K> {
    /// Empty; [`KeyedScope::open`] tells it its place.
    pub(crate) fn new() -> Self {
        Self {
            state: KeyedStateBackend::new(SubtaskIndex(0), 1, 1),
            timers: TimerService::default(),
            max_parallelism: 1,
        }
    }

    pub(crate) fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.state = KeyedStateBackend::new(ctx.subtask, ctx.parallelism, ctx.max_parallelism)
            .with_local_state(local_state(ctx)?);
        self.timers = TimerService::new(KeyPlacement::new(ctx).event_time());
        TimerService::<K, ()>::bind(self.state.schemas())?;
        self.max_parallelism = ctx.max_parallelism;
        self.set_processing_time(ctx.env.processing_time());
        Ok(())
    }

    fn set_processing_time(&mut self, now: Timestamp) {
        self.timers.processing_time = now;
        self.state.set_processing_time(now);
    }

    pub(crate) fn watermark(&self) -> Watermark {
        self.timers.event_time.watermark()
    }

    /// The context of a record of `key`.
    #[inline]
    pub(crate) fn enter(&mut self, key: K, timestamp: Timestamp) -> KeyedContext<'_, K> {
        self.state.set_current_key(key);
        KeyedContext::new(&mut self.state, &mut self.timers, timestamp, TimeDomain::EventTime)
    }

    /// After the last record of a batch no key is in scope.
    pub(crate) fn leave(&mut self) {
        self.state.clear_current_key();
    }

    /// Event time has advanced: calls `on_timer` for what is due, earliest first, also for timers that these calls
    /// set. After a restore the watermark of the snapshot may be ahead of the one that comes.
    pub(crate) fn advance_event_time<O>(
        &mut self,
        watermark: Watermark,
        out: &mut OperatorOutput<'_, O>,
        on_timer: impl FnMut(Timestamp, &mut KeyedContext<'_, K>, &mut Collector<'_, O>) -> UserResult,
    ) -> Result<()> {
        self.timers.event_time.advance(watermark);
        self.fire(TimeDomain::EventTime, out, on_timer)
    }

    /// The wall clock has advanced: as [`KeyedScope::advance_event_time`].
    pub(crate) fn advance_processing_time<O>(
        &mut self,
        now: Timestamp,
        out: &mut OperatorOutput<'_, O>,
        on_timer: impl FnMut(Timestamp, &mut KeyedContext<'_, K>, &mut Collector<'_, O>) -> UserResult,
    ) -> Result<()> {
        self.set_processing_time(now);
        self.fire(TimeDomain::ProcessingTime, out, on_timer)
    }

    fn pop_due(&mut self, domain: TimeDomain) -> Option<(Timestamp, K, ())> {
        match domain {
            TimeDomain::EventTime => self.timers.event.pop_due(self.watermark().timestamp()),
            TimeDomain::ProcessingTime => self.timers.processing.pop_due(self.timers.processing_time),
        }
    }

    fn fire<O>(
        &mut self,
        domain: TimeDomain,
        out: &mut OperatorOutput<'_, O>,
        mut on_timer: impl FnMut(Timestamp, &mut KeyedContext<'_, K>, &mut Collector<'_, O>) -> UserResult,
    ) -> Result<()> {
        let mut batch = RecordBatch::default();
        while let Some((at, key, ())) = self.pop_due(domain) {
            self.state.set_current_key(key);
            let mut ctx = KeyedContext::new(&mut self.state, &mut self.timers, at, domain);
            // As in Flink: the time of a processing-time timer is no event time.
            let timestamp = if domain == TimeDomain::EventTime { at } else { NO_TIMESTAMP };
            let mut collector = Collector::new(&mut batch, out.sides(), timestamp);
            let fired = on_timer(at, &mut ctx, &mut collector);
            if batch.len() >= EMIT_AT || fired.is_err() {
                out.emit(batch.take())?;
            }
            fired.map_err(|error| user_error("a timer of the function", error))?;
        }
        self.leave();
        out.emit(batch)
    }

    /// When the next processing-time timer is due.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.processing.next_due()
    }

    pub(crate) fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.state.snapshot(snapshot)?;
        self.timers.snapshot(self.max_parallelism, snapshot)
    }

    pub(crate) fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        self.state.begin_snapshot(begun)?;
        self.timers.begin_snapshot(self.max_parallelism, begun)
    }

    pub(crate) fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        match self.state.snapshot_step(places) {
            SnapshotProgress::Complete => self.timers.snapshot_step(places),
            progress => progress,
        }
    }

    pub(crate) fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.state.restore(snapshot)?;
        self.timers.restore(snapshot, self.state.schemas())
    }

    /// The types of what the handles of a function keep, and of timers.
    pub(crate) fn state_types(types: &mut StateTypes, handles: &HandleTypes) {
        types.add_handles::<K>(handles);
        TimerService::<K, ()>::state_types(types);
    }
}

/// Where the keyed tables of an operator are.
pub(crate) fn local_state(ctx: &OperatorContext) -> Result<LocalState> {
    LocalState::open(&ctx.env, &ctx.operator, ctx.subtask)
}

/// Which keys belong to a subtask, for operators that keep tables of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyPlacement {
    max_parallelism: u32,
    range: KeyGroupRange,
}

impl KeyPlacement {
    /// The placement of an operator that was not opened yet.
    pub(crate) const ALL: Self = Self { max_parallelism: 1, range: KeyGroupRange { start: 0, end: 1 } };

    pub(crate) fn new(ctx: &OperatorContext) -> Self {
        let range = key_group_range(ctx.subtask, ctx.max_parallelism, ctx.parallelism);
        Self { max_parallelism: ctx.max_parallelism, range }
    }

    pub(crate) fn max_parallelism(self) -> u32 {
        self.max_parallelism
    }

    /// The key groups of the subtask.
    pub(crate) fn range(self) -> KeyGroupRange {
        self.range
    }

    /// For the schemas of the tables of the subtask.
    pub(crate) fn schemas(self) -> KeyedSchemas {
        KeyedSchemas::new(self.range)
    }

    /// The beginning of event time for the keys of the subtask.
    pub(crate) const fn event_time(self) -> KeyedEventTime {
        KeyedEventTime::new(self.range, self.max_parallelism)
    }

    /// Asserts that the partitioner has sent a key with this hash to the right subtask.
    #[inline]
    pub(crate) fn check(self, hash: u64) {
        let group = key_group(hash, self.max_parallelism);
        assert!(
            self.range.contains(group),
            "key group {group} is outside of this subtask's {:?}",
            self.range
        );
    }

    /// As [`KeyPlacement::check`], where a check of every record would cost too much: only in debug builds.
    #[inline(always)]
    pub(crate) fn debug_check(self, hash: u64) {
        if cfg!(debug_assertions) {
            self.check(hash);
        }
    }

    /// Refuses a snapshot with another number of key groups.
    pub(crate) fn check_snapshot(self, snapshot: &OperatorSnapshot) -> Result<()> {
        if snapshot.max_parallelism == 0 || snapshot.max_parallelism == self.max_parallelism {
            return Ok(());
        }
        let (theirs, ours) = (snapshot.max_parallelism, self.max_parallelism);
        let message = format!(
            "the snapshot has {theirs} key groups, the job {ours}: set pipeline.max-parallelism to {theirs}"
        );
        Err(Error::user(message))
    }
}
