//! One operator at work.

use crate::log::{Recorder, SharedLog};
use flott_operators::{
    Operator, OperatorContext, OperatorOutput, OutputMetrics, SideChannels, TwoInputOperator,
};
use flott_state::{BegunSnapshot, OperatorSnapshot, SnapshotProgress};
use flott_types::{RecordBatch, Result, StreamStatus, Timestamp, Watermark};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// An operator with one or two inputs.
pub(crate) enum Subject<A, B, O> {
    One(Box<dyn Operator<A, O>>),
    Two(Box<dyn TwoInputOperator<A, B, O>>),
}

/// Records of one of the inputs.
#[derive(Clone, Debug)]
pub(crate) enum Records<A, B> {
    First(Vec<(A, Timestamp)>),
    Second(Vec<(B, Timestamp)>),
}

impl<A, B, O> Subject<A, B, O> {
    fn process(&mut self, records: Records<A, B>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        match (self, records) {
            (Self::One(operator), Records::First(records)) => operator.process_batch(batch(records), out),
            (Self::Two(operator), Records::First(records)) => operator.process_batch1(batch(records), out),
            (Self::Two(operator), Records::Second(records)) => operator.process_batch2(batch(records), out),
            (Self::One(_), Records::Second(_)) => unreachable!("the drivers of one input have no second one"),
        }
    }

    fn progress(&self) -> usize {
        match self {
            Self::One(operator) => operator.progress(),
            Self::Two(operator) => operator.progress(),
        }
    }
}

fn batch<T>(records: Vec<(T, Timestamp)>) -> RecordBatch<T> {
    let mut batch = RecordBatch::default();
    records.into_iter().for_each(|(record, timestamp)| batch.push(record, timestamp));
    batch
}

/// An opened operator with its outputs. It is called as the engine calls it.
pub(crate) struct Subtask<A, B, O> {
    subject: Subject<A, B, O>,
    recorder: Recorder<O>,
    sides: SideChannels,
    metrics: Arc<OutputMetrics>,
    place: String,
    n_records: usize,
}

impl<A, B, O: Send + 'static> Subtask<A, B, O> {
    pub(crate) fn open(
        mut subject: Subject<A, B, O>,
        ctx: &OperatorContext,
        log: &SharedLog<O>,
        metrics: &Arc<OutputMetrics>,
    ) -> Result<Self> {
        let place = format!("operator '{}' subtask {}/{}", ctx.operator, ctx.subtask.0 + 1, ctx.parallelism);
        let opened = match &mut subject {
            Subject::One(operator) => operator.open(ctx),
            Subject::Two(operator) => operator.open(ctx),
        };
        opened.map_err(|error| error.at(|| place.clone()))?;
        let side_log = log.clone();
        let sides = SideChannels {
            unread: Some(Box::new(move |side| side_log.push_side(side))),
            ..SideChannels::default()
        };
        let recorder = Recorder::new(ctx.subtask.as_usize(), log.clone());
        Ok(Self { subject, recorder, sides, metrics: Arc::clone(metrics), place, n_records: 0 })
    }

    fn call<R>(
        &mut self,
        f: impl FnOnce(&mut Subject<A, B, O>, &mut OperatorOutput<'_, O>) -> Result<R>,
    ) -> Result<R> {
        let Self { subject, recorder, sides, metrics, place, n_records } = self;
        let result = f(subject, &mut OperatorOutput::new(recorder, sides, metrics));
        let record = *n_records + subject.progress() + 1;
        // What was written before an error can be looked at.
        sides.flush()?;
        result.map_err(|error| error.at(|| format!("{place}, record {record}")))
    }

    pub(crate) fn process(&mut self, records: Records<A, B>) -> Result<()> {
        let n_records = match &records {
            Records::First(records) => records.len(),
            Records::Second(records) => records.len(),
        };
        if n_records == 0 {
            return Ok(());
        }
        self.metrics.records_in.fetch_add(n_records as u64, Ordering::Relaxed);
        self.call(|subject, out| subject.process(records, out))?;
        self.n_records += n_records;
        Ok(())
    }

    pub(crate) fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.metrics.current_input_watermark.store(watermark.0, Ordering::Relaxed);
        self.call(|subject, out| match subject {
            Subject::One(operator) => operator.on_watermark(watermark, out),
            Subject::Two(operator) => operator.on_watermark(watermark, out),
        })
    }

    pub(crate) fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.call(|subject, out| match subject {
            Subject::One(operator) => operator.on_status(status, out),
            Subject::Two(_) => out.emit_status(status),
        })
    }

    pub(crate) fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        self.call(|subject, out| match subject {
            Subject::One(operator) => operator.on_processing_time(now, out),
            Subject::Two(operator) => operator.on_processing_time(now, out),
        })
    }

    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        match &self.subject {
            Subject::One(operator) => operator.next_timer(),
            Subject::Two(operator) => operator.next_timer(),
        }
    }

    pub(crate) fn end_of_data(&mut self) -> Result<()> {
        self.call(|subject, out| match subject {
            Subject::One(operator) => operator.on_end_of_data(out),
            Subject::Two(operator) => operator.on_end_of_data(out),
        })
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.call(|subject, out| match subject {
            Subject::One(operator) => operator.flush(out),
            Subject::Two(_) => Ok(()),
        })
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = self.call(|subject, out| {
            Ok(match subject {
                Subject::One(operator) => operator.poll_ready(cx, out),
                Subject::Two(_) => Poll::Ready(Ok(())),
            })
        });
        match polled {
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Err(error.at(|| self.place.clone()))),
            Ok(polled) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(crate) fn snapshot(&mut self) -> Result<OperatorSnapshot> {
        let mut begun = BegunSnapshot::default();
        self.call(|subject, _| match subject {
            Subject::One(operator) => operator.begin_snapshot(&mut begun),
            Subject::Two(operator) => operator.begin_snapshot(&mut begun),
        })?;
        let sent = self.call(|subject, _| {
            Ok(match subject {
                Subject::One(operator) => operator.snapshot_step(usize::MAX),
                Subject::Two(operator) => operator.snapshot_step(usize::MAX),
            })
        })?;
        assert_eq!(sent, SnapshotProgress::Complete, "with all places a snapshot is complete");
        begun.complete()
    }

    pub(crate) fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.call(|subject, _| match subject {
            Subject::One(operator) => operator.restore(snapshot),
            Subject::Two(operator) => operator.restore(snapshot),
        })
    }
}
