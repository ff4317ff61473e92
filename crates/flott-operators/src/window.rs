//! The general window operator: any assigner, trigger and evictor, allowed lateness, merging windows.
//!
//! It is Flink's `WindowOperator`. What evenly spaced event-time windows and sessions over aggregates need is done much
//! faster by [`SliceWindowOperator`](crate::SliceWindowOperator) and [`SessionWindowOperator`](crate::SessionWindowOperator).

mod logic;
mod result;
mod state;
mod timers;
mod windows;

pub use logic::{Aggregate, Firing, KeepRecords, WindowLogic};
pub use result::{AggregateRecords, EmitResult, MapResult, ProcessRecords, ProcessResult, WindowFunction};
pub(crate) use result::{Results, late_record, window_of};
pub(crate) use state::{SESSIONS, SLICES, check_group, check_kind, restore_section, snapshot_entries};

use crate::keyed::{KeyPlacement, local_state};
use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::user_error;
use flott_api::windowing::{Trigger, TriggerResult, TriggerState, Window, WindowAssigner};
use flott_api::{BoxError, OutputTag, TimeDomain, WindowContext};
use flott_state::{
    BegunSnapshot, GroupLayout, HandleTypes, KeyedSchemas, KeyedTable, OperatorSnapshot, SnapshotProgress,
    StateTypes, TimerService,
};
use flott_types::{Data, Error, Key, RecordBatch, Result, Timestamp, Watermark, key_hash};
use state::WINDOWS;
use std::fmt;
use timers::{Lifetime, WallClock, WindowTimers};
use windows::{OpenWindow, OpenWindows, Opened};

/// What a [`WindowOperator`] is made from.
pub struct WindowConfig<T, A: WindowAssigner<T>, S, L> {
    /// The key of a record.
    pub key_selector: S,
    /// The windows of a record.
    pub assigner: A,
    /// When windows fire; mostly the assigner's default trigger.
    pub trigger: Box<dyn Trigger<T, A::Window>>,
    /// How long after the watermark has passed an event-time window records are still added to it.
    pub allowed_lateness_ms: i64,
    /// Where records go that come later than that; without a tag they are counted and dropped.
    pub late_records: Option<OutputTag<T>>,
    /// What windows keep and emit.
    pub logic: L,
}

impl<T, A: WindowAssigner<T>, S: Clone, L: Clone> Clone for WindowConfig<T, A, S, L> {
    fn clone(&self) -> Self {
        Self {
            key_selector: self.key_selector.clone(),
            assigner: self.assigner.clone(),
            trigger: self.trigger.clone(),
            allowed_lateness_ms: self.allowed_lateness_ms,
            late_records: self.late_records.clone(),
            logic: self.logic.clone(),
        }
    }
}

impl<T, A: WindowAssigner<T>, S, L> fmt::Debug for WindowConfig<T, A, S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowConfig")
            .field("allowed_lateness_ms", &self.allowed_lateness_ms)
            .field("late_records", &self.late_records)
            .finish_non_exhaustive()
    }
}

/// Puts records into windows and emits a result whenever a trigger fires one.
///
/// Results carry the window's largest timestamp. A watermark fires what is due in the order of time and is then
/// forwarded. A processing-time timer fires when the clock has gone past it, not when it shows that time: more records may
/// come at that time, and Flink delays by the same millisecond.
///
/// When the input ends, all processing-time timers that are set fire, in the order of time, so that what waits for the wall clock is not
/// lost; those that triggers set then do not. The last watermark says that the input has ended, and what comes out then goes before it:
/// behind it, it would be late downstream.
pub struct WindowOperator<K, T, O, A, S, L>
where
    K: Key,
    A: WindowAssigner<T>,
    L: WindowLogic<T, K, A::Window, O>,
{
    config: WindowConfig<T, A, S, L>,
    lifetime: Lifetime,
    wall_clock: WallClock,
    windows: KeyedTable<K, OpenWindows<A::Window, L::State>>,
    timers: TimerService<K, A::Window>,
    schemas: KeyedSchemas,
    results: Results<O>,
    placement: KeyPlacement,
    progress: usize,
}

/// A key with its windows, as it stands in snapshots.
type Entry<K, T, O, A, L> = (
    K,
    OpenWindows<
        <A as WindowAssigner<T>>::Window,
        <L as WindowLogic<T, K, <A as WindowAssigner<T>>::Window, O>>::State,
    >,
);

impl<K, T, O, A, S, L> fmt::Debug for WindowOperator<K, T, O, A, S, L>
where
    K: Key,
    A: WindowAssigner<T>,
    L: WindowLogic<T, K, A::Window, O>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<K, T, O, A, S, L> WindowOperator<K, T, O, A, S, L>
where
    K: Key,
    T: Data,
    O: Send,
    A: WindowAssigner<T>,
    S: Fn(&T) -> K + Send,
    L: WindowLogic<T, K, A::Window, O>,
{
    /// An operator without open windows.
    ///
    /// # Errors
    /// If the assigner's windows merge and the trigger cannot do that, or the lateness is negative.
    pub fn new(config: WindowConfig<T, A, S, L>) -> Result<Self> {
        if config.assigner.is_merging() && !config.trigger.can_merge() {
            return Err(Error::user("the trigger cannot be used with windows that merge, such as sessions"));
        }
        if config.allowed_lateness_ms < 0 {
            let lateness = config.allowed_lateness_ms;
            return Err(Error::user(format!(
                "the allowed lateness is {lateness} ms: it must not be negative"
            )));
        }
        let lifetime = Lifetime {
            is_event_time: config.assigner.is_event_time(),
            allowed_lateness_ms: config.allowed_lateness_ms,
        };
        Ok(Self {
            config,
            lifetime,
            wall_clock: WallClock::Running,
            windows: KeyedTable::default(),
            timers: TimerService::default(),
            schemas: KeyedSchemas::default(),
            results: Results::default(),
            placement: KeyPlacement::ALL,
            progress: 0,
        })
    }

    /// Adds a record to its windows; `assigned` holds them and is left empty.
    fn add(
        &mut self,
        record: T,
        timestamp: Timestamp,
        assigned: &mut Vec<A::Window>,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()> {
        let processing_time = self.timers.processing_time;
        self.config
            .assigner
            .assign_windows(&record, timestamp, processing_time, assigned)
            .map_err(|error| user_error("the window assigner", error))?;
        if assigned.is_empty() {
            return Ok(());
        }
        let key = (self.config.key_selector)(&record);
        let hash = key_hash(&key);
        self.placement.check(hash);
        if !self.config.assigner.is_merging() {
            // A merging window may be kept alive by what it merges with.
            let reached = self.timers.event_time.of_hash(hash);
            assigned.retain(|window| !self.lifetime.has_ended(window, reached));
        }
        let mut at_hand = AtHand {
            config: &mut self.config,
            lifetime: self.lifetime,
            wall_clock: self.wall_clock,
            timers: &mut self.timers,
            results: &mut self.results,
            key: &key,
        };
        let Some(last) = assigned.pop() else {
            late_record(record, timestamp, at_hand.config.late_records.as_ref(), out);
            return Ok(());
        };
        let windows = self.windows.load_mut(hash, &key)?.get_or_insert_with(hash, &key, OpenWindows::default);
        for window in assigned.drain(..) {
            at_hand.add(windows, record.clone(), timestamp, &window, out)?;
        }
        at_hand.add(windows, record, timestamp, &last, out)?;
        if windows.is_empty() {
            self.windows.remove(hash, &key);
        }
        Ok(())
    }

    fn fire_event_time(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let reached = self.timers.event_time.watermark().timestamp();
        while let Some((at, key, window)) = self.timers.event.pop_due(reached) {
            self.on_timer(TimeDomain::EventTime, at, &key, window, out)?;
        }
        Ok(())
    }

    fn fire_processing_time(&mut self, until: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        while let Some((at, key, window)) = self.timers.processing.pop_due(until) {
            self.on_timer(TimeDomain::ProcessingTime, at, &key, window, out)?;
        }
        Ok(())
    }

    /// Fires all that waits for the wall clock.
    fn end_wall_clock(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.wall_clock = WallClock::Over;
        self.fire_processing_time(Timestamp::MAX, out)?;
        // A trigger may have set one for a time that has been reached.
        self.fire_event_time(out)?;
        self.wall_clock = WallClock::Running;
        Ok(())
    }

    fn on_timer(
        &mut self,
        domain: TimeDomain,
        at: Timestamp,
        key: &K,
        window: A::Window,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()> {
        let hash = key_hash(key);
        let windows = self.windows.load_mut(hash, key)?.get_or_insert_with(hash, key, OpenWindows::default);
        let idx = match windows.find(&window) {
            Some(idx) => Some(idx),
            None if self.config.assigner.is_merging() => None,
            // The window was purged. Its trigger may still have plans.
            None => Some(windows.insert(OpenWindow::new(window))),
        };
        if let Some(idx) = idx {
            let mut at_hand = AtHand {
                config: &mut self.config,
                lifetime: self.lifetime,
                wall_clock: self.wall_clock,
                timers: &mut self.timers,
                results: &mut self.results,
                key,
            };
            at_hand.on_timer(windows, idx, domain, at, out)?;
        }
        if windows.is_empty() {
            self.windows.remove(hash, key);
        }
        Ok(())
    }
}

/// What it takes to work on the windows of one key.
struct AtHand<'a, T, K: Key, O, A: WindowAssigner<T>, S, L> {
    config: &'a mut WindowConfig<T, A, S, L>,
    lifetime: Lifetime,
    wall_clock: WallClock,
    timers: &'a mut TimerService<K, A::Window>,
    results: &'a mut Results<O>,
    key: &'a K,
}

impl<T, K, O, A, S, L> AtHand<'_, T, K, O, A, S, L>
where
    K: Key,
    T: Data,
    A: WindowAssigner<T>,
    L: WindowLogic<T, K, A::Window, O>,
{
    /// Calls the trigger on behalf of a window.
    fn ask<R>(
        &mut self,
        window: &A::Window,
        state: &mut TriggerState,
        call: impl FnOnce(&dyn Trigger<T, A::Window>, &mut WindowTimers<'_, K, A::Window>) -> Result<R, BoxError>,
    ) -> Result<R> {
        let Self { config, lifetime, wall_clock, timers, key, .. } = self;
        let mut ctx =
            WindowTimers { timers, key, window, state, lifetime: *lifetime, wall_clock: *wall_clock };
        call(config.trigger.as_ref(), &mut ctx).map_err(|error| user_error("the window trigger", error))
    }

    fn add(
        &mut self,
        windows: &mut OpenWindows<A::Window, L::State>,
        record: T,
        timestamp: Timestamp,
        window: &A::Window,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()> {
        let idx = if self.config.assigner.is_merging() {
            let (n_touched, merged) = windows.merged_with(window);
            if self.lifetime.has_ended(&merged, self.timers.event_time.of_key(self.key)) {
                late_record(record, timestamp, self.config.late_records.as_ref(), out);
                return Ok(());
            }
            match windows.find(&merged) {
                Some(idx) if n_touched == 1 => idx,
                _ => self.open_merged(windows, merged)?,
            }
        } else {
            let opened = windows.open(window);
            if let Opened::New(_) = opened {
                self.lifetime.register(self.timers, self.key, window);
            }
            opened.idx()
        };
        let open = windows.get_mut(idx);
        let result = self.ask(&open.window, &mut open.trigger, |trigger, ctx| {
            trigger.on_element(&record, timestamp, ctx.window, ctx)
        })?;
        let logic = &mut self.config.logic;
        logic.add(open.contents.get_or_insert_with(|| logic.create()), record, timestamp);
        self.act(open, result, out)?;
        if open.is_blank() && !self.config.assigner.is_merging() {
            windows.remove(idx);
        }
        Ok(())
    }

    /// Makes one window of those that lie in `merged`, of which there may be none.
    fn open_merged(
        &mut self,
        windows: &mut OpenWindows<A::Window, L::State>,
        merged: A::Window,
    ) -> Result<usize> {
        let mut open = OpenWindow::new(merged);
        let mut trigger_states = Vec::new();
        for mut part in windows.take_touching(&open.window) {
            trigger_states.push(part.trigger.clone());
            self.ask(&part.window, &mut part.trigger, |trigger, ctx| trigger.clear(ctx.window, ctx))?;
            self.lifetime.delete(self.timers, self.key, &part.window);
            open.contents = match (open.contents, part.contents) {
                (Some(mut contents), Some(later)) => {
                    self.config.logic.merge(&mut contents, later);
                    Some(contents)
                }
                (contents, later) => contents.or(later),
            };
        }
        self.lifetime.register(self.timers, self.key, &open.window);
        if !trigger_states.is_empty() {
            self.ask(&open.window, &mut open.trigger, |trigger, ctx| {
                trigger.on_merge(ctx.window, &trigger_states, ctx)
            })?;
        }
        Ok(windows.insert(open))
    }

    fn on_timer(
        &mut self,
        windows: &mut OpenWindows<A::Window, L::State>,
        idx: usize,
        domain: TimeDomain,
        at: Timestamp,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()> {
        let open = windows.get_mut(idx);
        let result = self.ask(&open.window, &mut open.trigger, |trigger, ctx| match domain {
            TimeDomain::EventTime => trigger.on_event_time(at, ctx.window, ctx),
            TimeDomain::ProcessingTime => trigger.on_processing_time(at, ctx.window, ctx),
        })?;
        let is_own_clock = self.lifetime.is_event_time == (domain == TimeDomain::EventTime);
        if is_own_clock && self.lifetime.end(&open.window) == Some(at) {
            self.act(open, if result.is_fire() { TriggerResult::FireAndPurge } else { result }, out)?;
            let mut open = windows.remove(idx);
            return self.ask(&open.window, &mut open.trigger, |trigger, ctx| trigger.clear(ctx.window, ctx));
        }
        self.act(open, result, out)?;
        if open.is_blank() && !self.config.assigner.is_merging() {
            windows.remove(idx);
        }
        Ok(())
    }

    /// Does what the trigger said.
    fn act(
        &mut self,
        open: &mut OpenWindow<A::Window, L::State>,
        result: TriggerResult,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()> {
        let firing = match result {
            TriggerResult::Continue => return Ok(()),
            TriggerResult::Fire => open.contents.as_mut().map(Firing::Keep),
            TriggerResult::Purge => {
                open.contents = None;
                return Ok(());
            }
            TriggerResult::FireAndPurge => open.contents.take().map(Firing::Discard),
        };
        let Some(firing) = firing else { return Ok(()) };
        let ctx = WindowContext {
            window: &open.window,
            watermark: self.timers.event_time.of_key(self.key),
            processing_time: self.timers.processing_time,
        };
        let (key, logic) = (self.key, &mut self.config.logic);
        self.results.fire(open.window.max_timestamp(), out, |out| logic.fire(key, &ctx, firing, out))
    }
}

impl<K, T, O, A, S, L> Operator<T, O> for WindowOperator<K, T, O, A, S, L>
where
    K: Key,
    T: Data,
    O: Send,
    A: WindowAssigner<T>,
    S: Fn(&T) -> K + Send,
    L: WindowLogic<T, K, A::Window, O>,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.placement = KeyPlacement::new(ctx);
        self.windows = local_state(ctx)?.table();
        self.timers = TimerService::new(self.placement.event_time());
        self.timers.processing_time = ctx.env.processing_time();
        self.schemas = self.placement.schemas();
        self.schemas.bind::<Entry<K, T, O, A, L>>(WINDOWS)?;
        TimerService::<K, A::Window>::bind(&mut self.schemas)
    }

    fn process_batch(&mut self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let mut assigned = Vec::new();
        for (idx, (record, timestamp)) in batch.into_iter().enumerate() {
            self.progress = idx;
            self.add(record, timestamp, &mut assigned, out)?;
        }
        self.results.flush(out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.timers.event_time.advance(watermark);
        self.fire_event_time(out)?;
        if watermark == Watermark::MAX {
            self.end_wall_clock(out)?;
        }
        self.results.flush(out)?;
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.timers.processing_time = now;
        self.fire_processing_time(now.saturating_sub(1), out)?;
        self.results.flush(out)
    }

    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.end_wall_clock(out)?;
        self.results.flush(out)?;
        out.emit_end_of_data()
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.timers.processing.next_due().map(|due| due.saturating_add(1))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        self.timers.snapshot(max_parallelism, snapshot)?;
        snapshot.keyed.insert(WINDOWS.to_owned(), self.windows.snapshot(WINDOWS, max_parallelism)?);
        self.schemas.snapshot(snapshot)
    }

    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        self.schemas.snapshot(&mut begun.snapshot)?;
        self.windows.begin_snapshot_of_pairs(&begun.stream(
            WINDOWS,
            max_parallelism,
            GroupLayout::Entries,
        ))?;
        self.timers.begin_snapshot(max_parallelism, begun)
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        match self.windows.snapshot_step(places) {
            SnapshotProgress::Complete => self.timers.snapshot_step(places),
            progress => progress,
        }
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.placement.check_snapshot(snapshot)?;
        check_kind(WINDOWS, snapshot)?;
        self.schemas.restore(snapshot)?;
        self.timers.restore(snapshot, &mut self.schemas)?;
        let reader = self.schemas.bind::<Entry<K, T, O, A, L>>(WINDOWS)?;
        match snapshot.keyed.get(WINDOWS) {
            Some(groups) => self.windows.restore(WINDOWS, self.placement.max_parallelism(), groups, &reader),
            None => Ok(()),
        }
    }

    fn state_types(&self, types: &mut StateTypes, _: &HandleTypes) {
        types.add::<Entry<K, T, O, A, L>>(WINDOWS);
        TimerService::<K, A::Window>::state_types(types);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
pub(crate) mod tests;
