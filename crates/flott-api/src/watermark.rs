//! Event time: where timestamps come from and how far event time has got.

use flott_types::{Timestamp, Watermark, duration_ms};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Derives watermarks from the records of one split.
///
/// The watermark that a call returns takes effect *after* the record it was called with. Watermarks that go back are
/// ignored. The generator starts anew after a restart; the operator's watermark is part of the snapshot.
pub trait WatermarkGenerator<T>: Send {
    /// Called for each record in order; returns a watermark when it has advanced.
    fn on_record(&mut self, record: &T, timestamp: Timestamp) -> Option<Watermark>;

    /// Called every `pipeline.auto-watermark-interval` of processing time, whether records come or not.
    fn on_periodic_emit(&mut self) -> Option<Watermark> {
        None
    }

    /// Whether [`WatermarkGenerator::on_periodic_emit`] has to be called while no record comes.
    fn is_periodic(&self) -> bool {
        true
    }

    /// Calls [`WatermarkGenerator::on_record`] for a batch and notes after how many records which watermark holds.
    fn on_batch(&mut self, records: &[T], timestamps: &[Timestamp], jumps: &mut Vec<(usize, Watermark)>) {
        for (idx, (record, timestamp)) in records.iter().zip(timestamps).enumerate() {
            if let Some(watermark) = self.on_record(record, *timestamp) {
                jumps.push((idx + 1, watermark));
            }
        }
    }
}

/// What a generator is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct GeneratorContext {
    /// `pipeline.watermark-granularity` in milliseconds, at least 1.
    pub granularity_ms: i64,
}

/// Trails the largest timestamp by a bound. Rounded down to the granularity, the watermark depends on the records alone
/// and not on the batches they came in or on the clock.
struct BoundedOutOfOrderness {
    bound_ms: i64,
    granularity_ms: i64,
    max: Timestamp,
    /// The timestamp that lifts the watermark over the next multiple of the granularity.
    next: Timestamp,
}

impl BoundedOutOfOrderness {
    fn advance(&mut self) -> Watermark {
        // "Up to and including": a record at 10,000 with bound 0 makes 9,999 complete, so a window that ends at
        // 10,000 fires; hence the rounding of the first timestamp that is *not* complete.
        let incomplete_from = self.max.saturating_sub(self.bound_ms);
        let rounded = incomplete_from.saturating_sub(incomplete_from.rem_euclid(self.granularity_ms));
        self.next = rounded.saturating_add(self.granularity_ms).saturating_add(self.bound_ms);
        Watermark(rounded.saturating_sub(1))
    }
}

impl<T> WatermarkGenerator<T> for BoundedOutOfOrderness {
    fn on_record(&mut self, _: &T, timestamp: Timestamp) -> Option<Watermark> {
        self.max = self.max.max(timestamp);
        (timestamp >= self.next).then(|| self.advance())
    }

    fn is_periodic(&self) -> bool {
        false
    }

    fn on_batch(&mut self, _: &[T], timestamps: &[Timestamp], jumps: &mut Vec<(usize, Watermark)>) {
        let batch_max = max_of(timestamps);
        if batch_max < self.next {
            self.max = self.max.max(batch_max);
            return;
        }
        for (idx, timestamp) in timestamps.iter().enumerate() {
            if *timestamp >= self.next {
                self.max = *timestamp;
                jumps.push((idx + 1, self.advance()));
            }
        }
        self.max = self.max.max(batch_max);
    }
}

/// The largest, or the smallest possible of none. Eight at a time, so that one comparison need not wait for another.
fn max_of(timestamps: &[Timestamp]) -> Timestamp {
    let mut maxima = [Timestamp::MIN; 8];
    let (chunks, rest) = timestamps.as_chunks();
    for chunk in chunks {
        let chunk: &[Timestamp; 8] = chunk;
        maxima.iter_mut().zip(chunk).for_each(|(max, timestamp)| *max = (*max).max(*timestamp));
    }
    maxima.iter().chain(rest).fold(Timestamp::MIN, |max, timestamp| max.max(*timestamp))
}

struct Punctuated<F>(F);

impl<T, F: FnMut(&T, Timestamp) -> Option<Timestamp> + Send> WatermarkGenerator<T> for Punctuated<F> {
    fn on_record(&mut self, record: &T, timestamp: Timestamp) -> Option<Watermark> {
        (self.0)(record, timestamp).map(Watermark)
    }
    fn is_periodic(&self) -> bool {
        false
    }
}

struct NoWatermarks;

impl<T> WatermarkGenerator<T> for NoWatermarks {
    fn on_record(&mut self, _: &T, _: Timestamp) -> Option<Watermark> {
        None
    }
    fn is_periodic(&self) -> bool {
        false
    }
    fn on_batch(&mut self, _: &[T], _: &[Timestamp], _: &mut Vec<(usize, Watermark)>) {}
}

/// Computes the timestamps of a batch, one virtual call for all of them.
pub trait BatchTimestampAssigner<T>: Send + Sync {
    /// Replaces `timestamps`, which are the source's own and may be empty, by one for each record.
    fn assign(&self, records: &[T], timestamps: &mut Vec<Timestamp>);
}

struct Assigner<F>(F);

impl<T, F: Fn(&T, Timestamp) -> Timestamp + Send + Sync> BatchTimestampAssigner<T> for Assigner<F> {
    fn assign(&self, records: &[T], timestamps: &mut Vec<Timestamp>) {
        if timestamps.is_empty() {
            timestamps.extend(records.iter().map(|record| (self.0)(record, flott_types::NO_TIMESTAMP)));
        } else {
            let pairs = records.iter().zip(timestamps.iter_mut());
            pairs.for_each(|(record, timestamp)| *timestamp = (self.0)(record, *timestamp));
        }
    }
}

/// Where the timestamps of records come from.
pub enum TimestampMode<T> {
    /// From the source, if it knows any.
    Source,
    /// From a function of the record.
    Assigner(Arc<dyn BatchTimestampAssigner<T>>),
    /// The wall clock when the record enters the job.
    Ingestion,
}

impl<T> TimestampMode<T> {
    /// Whether timestamps are those of the source.
    pub fn is_source(&self) -> bool {
        matches!(self, Self::Source)
    }
}

impl<T> fmt::Debug for TimestampMode<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "Source",
            Self::Assigner(_) => "Assigner",
            Self::Ingestion => "Ingestion",
        })
    }
}

impl<T> Clone for TimestampMode<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Source => Self::Source,
            Self::Assigner(assigner) => Self::Assigner(Arc::clone(assigner)),
            Self::Ingestion => Self::Ingestion,
        }
    }
}

/// When a split stops holding event time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idleness {
    /// After `pipeline.source-idle-timeout`.
    Default,
    /// After this time without anything to read.
    After(Duration),
    /// Never.
    Never,
}

/// A group of splits, of any sources, that keep together in event time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkAlignment {
    /// The name of the group.
    pub group: String,
    /// How far a split may be ahead of the group's slowest before it pauses.
    pub max_drift: Duration,
}

type GeneratorFactory<T> = Arc<dyn Fn(GeneratorContext) -> Box<dyn WatermarkGenerator<T>> + Send + Sync>;

/// Timestamps, watermarks, idleness and alignment of a source.
pub struct WatermarkStrategy<T> {
    timestamps: TimestampMode<T>,
    generator: GeneratorFactory<T>,
    idleness: Idleness,
    alignment: Option<WatermarkAlignment>,
}

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        Self {
            timestamps: self.timestamps.clone(),
            generator: Arc::clone(&self.generator),
            idleness: self.idleness,
            alignment: self.alignment.clone(),
        }
    }
}

impl<T> fmt::Debug for WatermarkStrategy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatermarkStrategy").field("idleness", &self.idleness).finish_non_exhaustive()
    }
}

impl<T: 'static> WatermarkStrategy<T> {
    /// Watermarks from a generator of one's own, made for each split by `factory`.
    pub fn for_generator<G: WatermarkGenerator<T> + 'static>(
        factory: impl Fn(GeneratorContext) -> G + Send + Sync + 'static,
    ) -> Self {
        Self {
            timestamps: TimestampMode::Source,
            generator: Arc::new(move |ctx| Box::new(factory(ctx))),
            idleness: Idleness::Default,
            alignment: None,
        }
    }

    /// No event time: only the end of a bounded input advances it.
    pub fn no_watermarks() -> Self {
        Self::for_generator(|_| NoWatermarks)
    }

    /// Timestamps of a split never go back.
    pub fn for_monotonous_timestamps() -> Self {
        Self::for_bounded_out_of_orderness(Duration::ZERO)
    }

    /// A record is at most `bound` of event time older than any before it in its split; one that is older is late.
    pub fn for_bounded_out_of_orderness(bound: Duration) -> Self {
        let bound_ms = duration_ms(bound);
        Self::for_generator(move |ctx| BoundedOutOfOrderness {
            bound_ms,
            granularity_ms: ctx.granularity_ms.max(1),
            max: Timestamp::MIN,
            next: Timestamp::MIN,
        })
    }

    /// Certain records carry watermarks: `punctuation` returns one from such a record and `None` from others.
    pub fn for_punctuated(
        punctuation: impl Fn(&T, Timestamp) -> Option<Timestamp> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::for_generator(move |_| Punctuated(punctuation.clone()))
    }

    /// The timestamp is the wall clock when the record enters the job.
    pub fn for_ingestion_time() -> Self {
        Self { timestamps: TimestampMode::Ingestion, ..Self::for_monotonous_timestamps() }
    }

    /// Takes the timestamp, in milliseconds since the epoch, from the record; the second argument is the source's own.
    #[must_use]
    pub fn with_timestamp_assigner(
        mut self,
        assigner: impl Fn(&T, Timestamp) -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        self.timestamps = TimestampMode::Assigner(Arc::new(Assigner(assigner)));
        self
    }

    /// A split with nothing to read for `timeout` does not hold event time back. On by default with
    /// `pipeline.source-idle-timeout`.
    #[must_use]
    pub fn with_idleness(mut self, timeout: Duration) -> Self {
        self.idleness = Idleness::After(timeout);
        self
    }

    /// Splits hold event time back however long they have nothing to read.
    #[must_use]
    pub fn without_idleness(mut self) -> Self {
        self.idleness = Idleness::Never;
        self
    }

    /// Pauses splits that run more than `max_drift` ahead of the slowest split of `group`.
    #[must_use]
    pub fn with_watermark_alignment(mut self, group: impl Into<String>, max_drift: Duration) -> Self {
        self.alignment = Some(WatermarkAlignment { group: group.into(), max_drift });
        self
    }

    /// Where timestamps come from.
    pub fn timestamps(&self) -> &TimestampMode<T> {
        &self.timestamps
    }

    /// A generator for a new split.
    pub fn create_generator(&self, ctx: GeneratorContext) -> Box<dyn WatermarkGenerator<T>> {
        (self.generator)(ctx)
    }

    /// The idleness setting.
    pub fn idleness(&self) -> Idleness {
        self.idleness
    }

    /// The alignment group, if any.
    pub fn alignment(&self) -> Option<&WatermarkAlignment> {
        self.alignment.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jumps(
        bound_ms: u64,
        granularity_ms: i64,
        timestamps: &[Timestamp],
        batch: usize,
    ) -> Vec<(usize, i64)> {
        let strategy = WatermarkStrategy::<()>::for_bounded_out_of_orderness(Duration::from_millis(bound_ms));
        let mut generator = strategy.create_generator(GeneratorContext { granularity_ms });
        let mut all = Vec::new();
        for (n_batch, chunk) in timestamps.chunks(batch).enumerate() {
            let mut found = Vec::new();
            generator.on_batch(&vec![(); chunk.len()], chunk, &mut found);
            all.extend(found.into_iter().map(|(at, watermark)| (n_batch * batch + at, watermark.0)));
        }
        all
    }

    #[test]
    fn a_record_at_the_end_of_a_window_completes_the_window() {
        assert_eq!(jumps(0, 100, &[9_999, 10_000, 10_001], 8), [(1, 9_899), (2, 9_999)]);
        assert_eq!(jumps(500, 100, &[10_000, 10_499, 10_500], 8), [(1, 9_499), (2, 9_899), (3, 9_999)]);
    }

    #[test]
    fn negative_and_extreme_timestamps_neither_overflow_nor_go_back() {
        assert_eq!(jumps(0, 100, &[-250, -50, -300, 0], 8), [(1, -301), (2, -101), (4, -1)]);
        let extreme = jumps(1_000, 100, &[i64::MIN + 1, i64::MAX - 1, i64::MIN + 1], 8);
        assert!(extreme.is_sorted_by_key(|(_, watermark)| *watermark), "{extreme:?}");
    }

    #[test]
    fn watermarks_do_not_depend_on_batch_boundaries() {
        let timestamps: Vec<i64> = (0..5_000_i64).map(|i| (i * 37 % 1_009) + i * 3).collect();
        let whole = jumps(250, 100, &timestamps, 5_000);
        assert!(whole.len() > 50);
        for batch in [1, 2, 7, 1_024] {
            assert_eq!(jumps(250, 100, &timestamps, batch), whole, "batch size {batch}");
        }
    }
}
