//! Hosts split enumerators: their splits become bytes on the way to the readers.

use flott_api::{EnumeratorInit, Source, SplitEnumerator, SplitEnumeratorContext};
use flott_types::{Result, SubtaskIndex, Timestamp};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What an enumerator wants its readers told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Read this split.
    Assign(SubtaskIndex, Vec<u8>),
    /// End after what you have.
    NoMoreSplits(SubtaskIndex),
}

/// An enumerator without the type of its splits.
pub trait EnumeratorHost: Send {
    /// All readers are there.
    ///
    /// # Errors
    /// The enumerator's; fails the job.
    fn start(&mut self) -> Result<Vec<Instruction>>;
    /// A reader has read all it has, up to this timestamp if it reads a chain of sources.
    ///
    /// # Errors
    /// The enumerator's; fails the job.
    fn split_requested(
        &mut self,
        subtask: SubtaskIndex,
        max_timestamp: Option<Timestamp>,
    ) -> Result<Vec<Instruction>>;
    /// How often to look for new splits.
    fn discovery_interval(&self) -> Option<Duration>;
    /// Looks for new splits.
    ///
    /// # Errors
    /// The enumerator's; fails the job.
    fn discover(&mut self) -> Result<Vec<Instruction>>;
    /// Whether nothing is to be read before a checkpoint is complete.
    fn awaits_checkpoint(&self) -> bool;
    /// A checkpoint is complete.
    ///
    /// # Errors
    /// The enumerator's; fails the job.
    fn checkpoint_complete(&mut self) -> Result<Vec<Instruction>>;
    /// What another enumerator needs to go on.
    ///
    /// # Errors
    /// The enumerator's; fails the job.
    fn snapshot(&self) -> Result<Vec<u8>>;
}

/// Makes the enumerator of a source.
pub type EnumeratorFactory = Arc<dyn Fn(EnumeratorInit) -> Result<Box<dyn EnumeratorHost>> + Send + Sync>;

/// The factory for the enumerator of `source`.
pub fn enumerator_factory<S: Source>(source: Arc<S>) -> EnumeratorFactory {
    Arc::new(move |init| {
        let parallelism = init.parallelism;
        Ok(Box::new(Host { enumerator: source.create_enumerator(init)?, parallelism }))
    })
}

struct Host<S> {
    enumerator: Box<dyn SplitEnumerator<S>>,
    parallelism: u32,
}

impl<S> fmt::Debug for Host<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("parallelism", &self.parallelism).finish_non_exhaustive()
    }
}

struct Instructions<S> {
    parallelism: u32,
    assigned: Vec<(SubtaskIndex, S)>,
    finished: Vec<SubtaskIndex>,
    max_timestamp: Option<Timestamp>,
}

impl<S> SplitEnumeratorContext<S> for Instructions<S> {
    fn parallelism(&self) -> u32 {
        self.parallelism
    }
    fn assign_split(&mut self, subtask: SubtaskIndex, split: S) {
        assert!(subtask.0 < self.parallelism, "split assigned to reader {subtask} of {}", self.parallelism);
        self.assigned.push((subtask, split));
    }
    fn signal_no_more_splits(&mut self, subtask: SubtaskIndex) {
        self.finished.push(subtask);
    }
    fn max_timestamp(&self) -> Option<Timestamp> {
        self.max_timestamp
    }
}

impl<S: flott_api::SourceSplit> Host<S> {
    fn call(
        &mut self,
        max_timestamp: Option<Timestamp>,
        f: impl FnOnce(&mut dyn SplitEnumerator<S>, &mut Instructions<S>) -> Result<()>,
    ) -> Result<Vec<Instruction>> {
        let parallelism = self.parallelism;
        let mut ctx = Instructions { parallelism, assigned: Vec::new(), finished: Vec::new(), max_timestamp };
        f(self.enumerator.as_mut(), &mut ctx)?;
        let mut instructions = Vec::with_capacity(ctx.assigned.len() + ctx.finished.len());
        for (subtask, split) in ctx.assigned {
            instructions.push(Instruction::Assign(subtask, flott_state::encode("a split", &split)?));
        }
        instructions.extend(ctx.finished.into_iter().map(Instruction::NoMoreSplits));
        Ok(instructions)
    }
}

impl<S: flott_api::SourceSplit> EnumeratorHost for Host<S> {
    fn start(&mut self) -> Result<Vec<Instruction>> {
        self.call(None, |enumerator, ctx| enumerator.start(ctx))
    }
    fn split_requested(
        &mut self,
        subtask: SubtaskIndex,
        max_timestamp: Option<Timestamp>,
    ) -> Result<Vec<Instruction>> {
        self.call(max_timestamp, |enumerator, ctx| enumerator.handle_split_request(subtask, ctx))
    }
    fn discovery_interval(&self) -> Option<Duration> {
        self.enumerator.discovery_interval()
    }
    fn discover(&mut self) -> Result<Vec<Instruction>> {
        self.call(None, |enumerator, ctx| enumerator.discover(ctx))
    }
    fn awaits_checkpoint(&self) -> bool {
        self.enumerator.awaits_checkpoint()
    }
    fn checkpoint_complete(&mut self) -> Result<Vec<Instruction>> {
        self.call(None, |enumerator, ctx| enumerator.checkpoint_complete(ctx))
    }
    fn snapshot(&self) -> Result<Vec<u8>> {
        self.enumerator.snapshot()
    }
}
