//! What an iterator yields.

use crate::source::{Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput};
use crate::split_source::{SplitReader, SplitSource};
use flott_types::{Data, RecordBatch, Result, SplitId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What an iterator yields, read by one subtask in order. After a restart a new iterator is made and the records
/// before the position are skipped, so it must yield the same again.
pub struct IteratorSource<I> {
    make: Arc<dyn Fn() -> I + Send + Sync>,
    boundedness: Boundedness,
}

impl<I> Clone for IteratorSource<I> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make), boundedness: self.boundedness }
    }
}

impl<I> fmt::Debug for IteratorSource<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IteratorSource").field("boundedness", &self.boundedness).finish_non_exhaustive()
    }
}

impl<I> IteratorSource<I>
where
    I: Iterator + Send + 'static,
    I::Item: Data,
{
    /// A source of what the iterators made by `make` yield, which end.
    pub fn new(make: impl Fn() -> I + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), boundedness: Boundedness::Bounded }
    }

    /// Declares that the iterators do not end.
    #[must_use]
    pub fn unbounded(self) -> Self {
        Self { boundedness: Boundedness::ContinuousUnbounded, ..self }
    }
}

/// The iterator, from a position on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IteratorSplit {
    next: u64,
}

impl SourceSplit for IteratorSplit {
    fn split_id(&self) -> SplitId {
        SplitId("iterator".to_owned())
    }
}

impl<I> SplitSource for IteratorSource<I>
where
    I: Iterator + Send + 'static,
    I::Item: Data,
{
    type Record = I::Item;
    type Split = IteratorSplit;
    type Reader = IteratorReader<I>;

    fn boundedness(&self) -> Boundedness {
        self.boundedness
    }

    fn splits(&self, _: u32) -> Result<Vec<IteratorSplit>> {
        Ok(vec![IteratorSplit { next: 0 }])
    }

    fn open(&self, split: IteratorSplit, _: &SourceReaderContext) -> Result<IteratorReader<I>> {
        Ok(IteratorReader { iterator: (self.make)(), to_skip: split.next, split })
    }
}

/// Reads an iterator.
pub struct IteratorReader<I> {
    iterator: I,
    to_skip: u64,
    split: IteratorSplit,
}

impl<I> fmt::Debug for IteratorReader<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IteratorReader").field("split", &self.split).finish_non_exhaustive()
    }
}

/// Records skipped in one call after a restart: a barrier must not wait for all of them.
const SKIPPED_AT_ONCE: u64 = 65_536;

impl<I> SplitReader for IteratorReader<I>
where
    I: Iterator + Send + 'static,
    I::Item: Data,
{
    type Record = I::Item;
    type Split = IteratorSplit;

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<I::Item>,
    ) -> Poll<Result<InputStatus>> {
        if self.to_skip > 0 {
            let n = self.to_skip.min(SKIPPED_AT_ONCE);
            self.to_skip -= n;
            let ended = self.iterator.by_ref().nth(n as usize - 1).is_none();
            return Poll::Ready(Ok(if ended { InputStatus::EndOfInput } else { InputStatus::MoreAvailable }));
        }
        if out.batch.is_empty() {
            out.position = Some(format!("record {}", self.split.next));
        }
        let records: Vec<_> = self.iterator.by_ref().take(records_max.max(1)).collect();
        let ended = records.len() < records_max.max(1);
        self.split.next += records.len() as u64;
        out.collect_batch(RecordBatch::untimed(records));
        Poll::Ready(Ok(if ended { InputStatus::EndOfInput } else { InputStatus::MoreAvailable }))
    }

    fn split(&self) -> IteratorSplit {
        self.split.clone()
    }
}
