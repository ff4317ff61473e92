//! A sink that tells when it is called.

use super::point::Step;
use super::probe::Probe;
use flott_api::{Committable, Committer, Sink, SinkContext, SinkWriter, UserResult};
use flott_types::{CheckpointId, RecordBatch, Result, Watermark};
use std::fmt;

/// What a sink does, by the names of the steps.
#[derive(Clone, Copy)]
pub(crate) struct SinkSteps {
    pub(crate) prepare: Step,
    pub(crate) commit: Option<Step>,
    pub(crate) restore: Step,
}

/// A sink that is halted where the probe says so.
pub(crate) struct ProbedSink<S> {
    pub(crate) sink: S,
    pub(crate) probe: Probe,
    pub(crate) steps: SinkSteps,
}

impl<S> fmt::Debug for ProbedSink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbedSink").finish_non_exhaustive()
    }
}

impl<T: 'static, S: Sink<T>> Sink<T> for ProbedSink<S> {
    type Writer = ProbedWriter<S::Writer>;

    fn create_writer(&self, ctx: SinkContext) -> Result<Self::Writer> {
        let writer = self.sink.create_writer(ctx)?;
        Ok(ProbedWriter { writer, probe: self.probe.clone(), steps: self.steps })
    }

    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        let committer = self.sink.create_committer(ctx)?;
        Ok(match (committer, self.steps.commit) {
            (Some(committer), Some(step)) => {
                Some(Box::new(ProbedCommitter { committer, probe: self.probe.clone(), step }))
            }
            (committer, _) => committer,
        })
    }
}

pub(crate) struct ProbedWriter<W> {
    writer: W,
    probe: Probe,
    steps: SinkSteps,
}

impl<T, W: SinkWriter<T>> SinkWriter<T> for ProbedWriter<W> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        self.writer.write(batch)
    }
    fn on_watermark(&mut self, watermark: Watermark) -> UserResult {
        self.writer.on_watermark(watermark)
    }
    fn flush(&mut self) -> UserResult {
        self.writer.flush()
    }
    fn next_timer(&self) -> Option<i64> {
        self.writer.next_timer()
    }
    fn on_processing_time(&mut self, now: i64) -> UserResult {
        self.writer.on_processing_time(now)
    }
    fn finish(&mut self) -> UserResult {
        self.writer.finish()
    }
    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        let Self { writer, probe, steps } = self;
        probe.take(steps.prepare, || writer.prepare_commit(checkpoint_id, is_final))
    }
    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        self.writer.snapshot()
    }
    fn restore(&mut self, entries: Vec<Vec<u8>>, restored_checkpoint: Option<CheckpointId>) -> UserResult {
        let Self { writer, probe, steps } = self;
        probe.take(steps.restore, || writer.restore(entries, restored_checkpoint))
    }
}

struct ProbedCommitter {
    committer: Box<dyn Committer>,
    probe: Probe,
    step: Step,
}

impl Committer for ProbedCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let Self { committer, probe, step } = self;
        probe.take(*step, || committer.commit(committables))
    }
}
