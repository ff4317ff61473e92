//! The part of a source that a job reads, by event time and record by record.
//!
//! Watermarks are derived before anything is left out: within the span they are those of a job that reads everything, so that a record is
//! late in one exactly if it is late in the other.

use flott_api::{SourceSpan, SplitSpan};
use flott_types::{Error, NO_TIMESTAMP, Result, Timestamp, Watermark, duration_ms};

/// Which records belong to the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanFilter {
    /// The least timestamp that belongs to it. Part of snapshots: who goes on from one goes on with the same.
    pub(crate) from: Option<Timestamp>,
    /// The least timestamp that does not belong to it any more.
    pub(crate) until: Option<Timestamp>,
    allowed_lateness_ms: i64,
    /// What belongs to the source of the split that is looked at.
    part: SplitSpan,
}

/// A batch of one split on its way.
#[derive(Debug, PartialEq)]
pub(crate) struct Columns<T> {
    pub(crate) records: Vec<T>,
    pub(crate) timestamps: Vec<Timestamp>,
}

impl SpanFilter {
    pub(crate) fn new(span: &SourceSpan) -> Self {
        let allowed_lateness_ms = duration_ms(span.allowed_lateness);
        Self {
            from: span.start_ms(),
            until: span.until_ms(),
            allowed_lateness_ms,
            part: SplitSpan::default(),
        }
    }

    /// Whether every record belongs to it.
    pub(crate) fn is_everything(&self) -> bool {
        self.from.is_none() && self.until.is_none() && self.part == SplitSpan::default()
    }

    /// The same for a split that has bounds of its own.
    pub(crate) fn of_split(self, part: SplitSpan) -> Self {
        Self { part, ..self }
    }

    /// A watermark of the split, which stays below the split's own end: another source goes on from there.
    pub(crate) fn capped(&self, watermark: Watermark) -> Watermark {
        self.part.until.map_or(watermark, |until| watermark.min(Watermark(until.saturating_sub(1))))
    }

    /// Whether a split with this watermark has nothing more that belongs to it.
    pub(crate) fn is_behind(&self, watermark: Watermark) -> bool {
        self.until.is_some_and(|until| {
            watermark.0 >= until.saturating_sub(1).saturating_add(self.allowed_lateness_ms)
        })
    }

    fn contains(&self, timestamp: Timestamp) -> bool {
        let is_behind = |from: Option<Timestamp>| from.is_none_or(|from| timestamp >= from);
        let is_before = |until: Option<Timestamp>| until.is_none_or(|until| timestamp < until);
        is_behind(self.from)
            && is_behind(self.part.from)
            && is_before(self.until)
            && is_before(self.part.until)
    }

    /// Leaves out what does not belong to the span: records before and behind it, and all after the watermark has gone behind it. `jumps`
    /// says after how many records of the batch which watermark holds.
    pub(crate) fn apply<T>(&self, batch: &mut Columns<T>, jumps: &mut Vec<(usize, Watermark)>) -> Result<()> {
        if batch.timestamps.len() < batch.records.len() || batch.timestamps.contains(&NO_TIMESTAMP) {
            return Err(Error::user(
                "records without timestamps cannot be read from or until a time: give the watermark strategy of the source a timestamp assigner",
            ));
        }
        jumps.iter_mut().for_each(|(_, watermark)| *watermark = self.capped(*watermark));
        if let Some(last) = jumps.iter().position(|(_, watermark)| self.is_behind(*watermark)) {
            jumps.truncate(last + 1);
            let len = jumps.last().map_or(0, |(after, _)| *after);
            batch.records.truncate(len);
            batch.timestamps.truncate(len);
        }
        if batch.timestamps.iter().all(|timestamp| self.contains(*timestamp)) {
            return Ok(());
        }
        let records = std::mem::take(&mut batch.records);
        let timestamps = std::mem::take(&mut batch.timestamps);
        let mut moved = jumps.iter_mut().peekable();
        for (idx, (record, timestamp)) in records.into_iter().zip(timestamps).enumerate() {
            while let Some((after, _)) = moved.next_if(|(after, _)| *after <= idx) {
                *after = batch.records.len();
            }
            if self.contains(timestamp) {
                batch.records.push(record);
                batch.timestamps.push(timestamp);
            }
        }
        moved.for_each(|(after, _)| *after = batch.records.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use flott_api::{StartingPosition, Until};
    use std::time::Duration;

    /// Records at `timestamps`, with a watermark after each that trails the greatest by 2: what is left, in order.
    fn check(from: Option<i64>, until: Option<i64>, lateness_ms: u64, timestamps: &[i64], expected: &Expect) {
        let filter = SpanFilter::new(&SourceSpan {
            start: from.map_or(StartingPosition::Earliest, StartingPosition::Timestamp),
            until: until.map_or(Until::End, Until::Timestamp),
            allowed_lateness: Duration::from_millis(lateness_ms),
        });
        let (mut jumps, mut max) = (Vec::new(), i64::MIN + 3);
        for (idx, timestamp) in timestamps.iter().enumerate() {
            if *timestamp > max {
                max = *timestamp;
                jumps.push((idx + 1, Watermark(max - 3)));
            }
        }
        let mut batch = Columns { records: timestamps.to_vec(), timestamps: timestamps.to_vec() };
        filter.apply(&mut batch, &mut jumps).unwrap();
        assert_eq!(batch.records, batch.timestamps);
        let mut shown = Vec::new();
        for at in 0..=batch.records.len() {
            shown.extend(jumps.iter().filter(|(after, _)| *after == at).map(|(_, w)| w.to_string()));
            shown.extend(batch.records.get(at).map(|record| record.to_string()));
        }
        expected.assert_eq(&shown.join(" "));
    }

    #[test]
    fn what_is_outside_is_left_out_and_watermarks_stay_where_they_were() {
        let timestamps = [10, 12, 11, 16, 14, 20, 17];
        check(None, None, 0, &timestamps, &expect!["10 W7 12 W9 11 16 W13 14 20 W17 17"]);
        check(Some(12), None, 0, &timestamps, &expect!["W7 12 W9 16 W13 14 20 W17 17"]);
        check(Some(99), None, 0, &timestamps, &expect!["W7 W9 W13 W17"]);
    }

    #[test]
    fn a_split_ends_with_the_watermark_that_completes_the_span_and_not_with_the_first_record_behind_it() {
        let timestamps = [10, 12, 11, 16, 14, 20, 17];
        check(None, Some(16), 0, &timestamps, &expect!["10 W7 12 W9 11 W13 14 W17"]);
        check(None, Some(14), 0, &timestamps, &expect!["10 W7 12 W9 11 W13"]);
        check(None, Some(18), 0, &timestamps, &expect!["10 W7 12 W9 11 16 W13 14 W17"]);
        check(None, Some(18), 1, &timestamps, &expect!["10 W7 12 W9 11 16 W13 14 W17 17"]);
        check(Some(11), Some(12), 0, &timestamps, &expect!["W7 W9 11 W13"]);
    }

    #[test]
    fn records_without_timestamps_are_refused() {
        let filter = SpanFilter { until: Some(5), ..SpanFilter::default() };
        for timestamps in [vec![], vec![1, NO_TIMESTAMP]] {
            let mut batch = Columns { records: vec!["a", "b"], timestamps };
            let error = filter.apply(&mut batch, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("a timestamp assigner"), "{error}");
        }
    }
}
