//! Timestamps and watermarks in the middle of a stream.

use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::watermark_state;
use flott_api::{GeneratorContext, Idleness, TimestampMode, WatermarkGenerator, WatermarkStrategy};
use flott_state::OperatorSnapshot;
use flott_types::{
    Configuration, NO_TIMESTAMP, RecordBatch, Result, StreamStatus, Timestamp, Watermark, duration_ms,
    options,
};
use std::fmt;
use std::time::Duration;

/// In how many steps the time without records is measured.
const IDLE_CHECKS: i64 = 8;

/// What the configuration says about watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatermarkSettings {
    /// How often generators are asked for a watermark although no record came; zero for never.
    pub auto_interval: Duration,
    /// Watermarks of the built-in generators are multiples of it.
    pub granularity: Duration,
    /// When a stream without records is idle, for strategies that do not say; zero for never.
    pub idle_timeout: Duration,
}

impl WatermarkSettings {
    /// Reads `pipeline.auto-watermark-interval`, `pipeline.watermark-granularity` and `pipeline.source-idle-timeout`.
    pub fn from_configuration(configuration: &Configuration) -> Self {
        Self {
            auto_interval: configuration.get(options::AUTO_WATERMARK_INTERVAL),
            granularity: configuration.get(options::WATERMARK_GRANULARITY),
            idle_timeout: configuration.get(options::SOURCE_IDLE_TIMEOUT),
        }
    }
}

/// Tells when no record has come for a while.
///
/// The clock may jump while the subtask waits for room downstream, and a stream is not idle because it was not read: a
/// step between two checks counts for little more than its planned length.
#[derive(Debug)]
struct IdleTimer {
    timeout_ms: i64,
    step_ms: i64,
    last_check: Timestamp,
    quiet_ms: i64,
    is_idle: bool,
}

impl IdleTimer {
    /// `None` for a timeout of zero, which is never.
    fn new(timeout: Duration, now: Timestamp) -> Option<Self> {
        let timeout_ms = duration_ms(timeout);
        let step_ms = (timeout_ms / IDLE_CHECKS).max(1);
        (timeout_ms > 0).then_some(Self { timeout_ms, step_ms, last_check: now, quiet_ms: 0, is_idle: false })
    }

    fn next_check(&self) -> Option<Timestamp> {
        (!self.is_idle).then(|| self.last_check.saturating_add(self.step_ms))
    }

    /// The clock has advanced; says whether the stream has become idle.
    fn check(&mut self, now: Timestamp) -> bool {
        if self.next_check().is_none_or(|at| at > now) {
            return false;
        }
        let step_ms = now.saturating_sub(self.last_check).min(2 * self.step_ms);
        self.quiet_ms = self.quiet_ms.saturating_add(step_ms);
        self.last_check = now;
        self.is_idle = self.quiet_ms >= self.timeout_ms;
        self.is_idle
    }

    /// Records have come; says whether the stream had been idle.
    fn reset(&mut self, now: Timestamp) -> bool {
        self.quiet_ms = 0;
        self.last_check = now;
        std::mem::replace(&mut self.is_idle, false)
    }
}

/// Gives records timestamps and the stream watermarks, both anew: those from upstream are ignored, as are its idle
/// times, except for the watermark that ends event time.
pub struct TimestampsAndWatermarksOperator<T> {
    strategy: WatermarkStrategy<T>,
    settings: WatermarkSettings,
    generator: Option<Box<dyn WatermarkGenerator<T>>>,
    watermark: Watermark,
    processing_time: Timestamp,
    next_emit: Option<Timestamp>,
    idle: Option<IdleTimer>,
    jumps: Vec<(usize, Watermark)>,
}

impl<T> fmt::Debug for TimestampsAndWatermarksOperator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watermark = self.watermark;
        f.debug_struct("TimestampsAndWatermarksOperator")
            .field("watermark", &watermark)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> TimestampsAndWatermarksOperator<T> {
    /// An operator that follows `strategy`.
    pub fn new(strategy: WatermarkStrategy<T>, settings: WatermarkSettings) -> Self {
        Self {
            strategy,
            settings,
            generator: None,
            watermark: Watermark::MIN,
            processing_time: 0,
            next_emit: None,
            idle: None,
            jumps: Vec::new(),
        }
    }

    fn assign(&self, records: &[T], timestamps: &mut Vec<Timestamp>) {
        match self.strategy.timestamps() {
            TimestampMode::Source => {}
            TimestampMode::Assigner(assigner) => assigner.assign(records, timestamps),
            TimestampMode::Ingestion => {
                timestamps.clear();
                timestamps.resize(records.len(), self.processing_time);
            }
        }
    }

    /// Asks the generator after how many records of the batch the watermark advances, and to what.
    fn find_jumps(&mut self, records: &[T], timestamps: &[Timestamp]) -> Vec<(usize, Watermark)> {
        let mut jumps = std::mem::take(&mut self.jumps);
        jumps.clear();
        let generator = self.generator.as_mut().expect("an operator is opened before it gets records");
        if timestamps.len() == records.len() {
            generator.on_batch(records, timestamps, &mut jumps);
        } else {
            // A punctuated generator finds its watermarks in records that have no timestamp.
            generator.on_batch(records, &vec![NO_TIMESTAMP; records.len()], &mut jumps);
        }
        let mut reached = self.watermark;
        jumps.retain(|(_, watermark)| {
            let advances = *watermark > reached;
            reached = reached.max(*watermark);
            advances
        });
        jumps
    }

    fn advance(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, T>) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        out.emit_watermark(watermark)
    }

    fn become_active(&mut self, out: &mut OperatorOutput<'_, T>) -> Result<()> {
        let now = self.processing_time;
        if self.idle.as_mut().is_some_and(|idle| idle.reset(now)) {
            out.emit_status(StreamStatus::Active)?;
        }
        Ok(())
    }
}

impl<T: Send + 'static> Operator<T, T> for TimestampsAndWatermarksOperator<T> {
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        let granularity_ms = duration_ms(self.settings.granularity).max(1);
        self.generator = Some(self.strategy.create_generator(GeneratorContext { granularity_ms }));
        self.processing_time = ctx.env.processing_time();
        let interval_ms = duration_ms(self.settings.auto_interval);
        self.next_emit = (interval_ms > 0).then(|| self.processing_time.saturating_add(interval_ms));
        let idle_timeout = match self.strategy.idleness() {
            Idleness::Default => self.settings.idle_timeout,
            Idleness::After(timeout) => timeout,
            Idleness::Never => Duration::ZERO,
        };
        self.idle = IdleTimer::new(idle_timeout, self.processing_time);
        Ok(())
    }

    fn process_batch(&mut self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, T>) -> Result<()> {
        self.become_active(out)?;
        let (records, mut timestamps) = batch.into_columns();
        self.assign(&records, &mut timestamps);
        let jumps = self.find_jumps(&records, &timestamps);
        let mut batch = RecordBatch::from_columns(records, timestamps);
        // From the end, so that each record moves once.
        let tails: Vec<_> = jumps.iter().rev().map(|(at, _)| batch.split_off(*at)).collect();
        out.emit(batch)?;
        for ((_, watermark), tail) in jumps.iter().zip(tails.into_iter().rev()) {
            self.advance(*watermark, out)?;
            out.emit(tail)?;
        }
        self.jumps = jumps;
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, T>) -> Result<()> {
        if watermark == Watermark::MAX {
            self.become_active(out)?;
            self.advance(watermark, out)?;
        }
        Ok(())
    }

    fn on_status(&mut self, _: StreamStatus, _: &mut OperatorOutput<'_, T>) -> Result<()> {
        Ok(())
    }

    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, T>) -> Result<()> {
        self.processing_time = now;
        if self.next_emit.is_some_and(|at| at <= now) {
            self.next_emit = Some(now.saturating_add(duration_ms(self.settings.auto_interval)));
            let generator =
                self.generator.as_mut().filter(|_| !self.idle.as_ref().is_some_and(|idle| idle.is_idle));
            if let Some(watermark) = generator.and_then(|generator| generator.on_periodic_emit()) {
                self.advance(watermark, out)?;
            }
        }
        if self.idle.as_mut().is_some_and(|idle| idle.check(now)) {
            out.emit_status(StreamStatus::Idle)?;
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let idle = self.idle.as_ref().and_then(IdleTimer::next_check);
        self.next_emit.into_iter().chain(idle).min()
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        watermark_state::save(self.watermark, snapshot)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.watermark = watermark_state::load(snapshot)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
