//! A source without the type of its splits.

use super::split::InnerSplit;
use crate::source::{
    Boundedness, EnumeratorInit, InputStatus, Source, SourceOutput, SourceReader, SourceReaderContext,
    SourceSplit, SplitEnumerator, SplitEnumeratorContext,
};
use crate::span::split_to_json;
use flott_types::{Data, Error, ErrorKind, Result, SplitId, SubtaskIndex, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub(super) type ErasedReader<T> = Box<dyn SourceReader<Record = T, Split = InnerSplit>>;

pub(super) trait ErasedSource<T>: Send + Sync {
    fn boundedness(&self) -> Boundedness;
    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<InnerSplit>>>;
    fn create_reader(&self, ctx: SourceReaderContext) -> Result<ErasedReader<T>>;
}

pub(super) fn erase<S: Source>(source: S) -> Arc<dyn ErasedSource<S::Record>> {
    Arc::new(Erased(source))
}

struct Erased<S>(S);

impl<T: Data, S: Source<Record = T>> ErasedSource<T> for Erased<S> {
    fn boundedness(&self) -> Boundedness {
        self.0.boundedness()
    }
    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<InnerSplit>>> {
        Ok(Box::new(Enumerator(self.0.create_enumerator(init)?)))
    }
    fn create_reader(&self, ctx: SourceReaderContext) -> Result<ErasedReader<T>> {
        Ok(Box::new(Reader(self.0.create_reader(ctx)?)))
    }
}

fn erase_split<S: SourceSplit>(split: &S) -> Result<InnerSplit> {
    Ok(InnerSplit { id: split.split_id(), json: split_to_json(split)? })
}

fn typed_split<S: SourceSplit>(split: &InnerSplit) -> Result<S> {
    serde_json::from_str(&split.json).map_err(|error| {
        let message = format!("split {} is none of this source: {}", split.id, split.json);
        Error::new(ErrorKind::Corruption, message).with_source(error)
    })
}

struct Enumerator<S>(Box<dyn SplitEnumerator<S>>);

/// Collects what a typed enumerator wants, to hand it on where an error can be returned.
struct Collected<'a, S> {
    outer: &'a mut dyn SplitEnumeratorContext<InnerSplit>,
    assigned: Vec<(SubtaskIndex, S)>,
    no_more: Vec<SubtaskIndex>,
}

impl<S> SplitEnumeratorContext<S> for Collected<'_, S> {
    fn parallelism(&self) -> u32 {
        self.outer.parallelism()
    }
    fn assign_split(&mut self, subtask: SubtaskIndex, split: S) {
        self.assigned.push((subtask, split));
    }
    fn signal_no_more_splits(&mut self, subtask: SubtaskIndex) {
        self.no_more.push(subtask);
    }
    fn max_timestamp(&self) -> Option<Timestamp> {
        self.outer.max_timestamp()
    }
}

impl<S: SourceSplit> Enumerator<S> {
    fn call(
        &mut self,
        outer: &mut dyn SplitEnumeratorContext<InnerSplit>,
        f: impl FnOnce(&mut dyn SplitEnumerator<S>, &mut Collected<'_, S>) -> Result<()>,
    ) -> Result<()> {
        let mut collected = Collected { outer, assigned: Vec::new(), no_more: Vec::new() };
        f(self.0.as_mut(), &mut collected)?;
        let Collected { outer, assigned, no_more } = collected;
        for (subtask, split) in assigned {
            outer.assign_split(subtask, erase_split(&split)?);
        }
        no_more.into_iter().for_each(|subtask| outer.signal_no_more_splits(subtask));
        Ok(())
    }
}

impl<S: SourceSplit> SplitEnumerator<InnerSplit> for Enumerator<S> {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<InnerSplit>) -> Result<()> {
        self.call(ctx, |enumerator, ctx| enumerator.start(ctx))
    }
    fn handle_split_request(
        &mut self,
        subtask: SubtaskIndex,
        ctx: &mut dyn SplitEnumeratorContext<InnerSplit>,
    ) -> Result<()> {
        self.call(ctx, |enumerator, ctx| enumerator.handle_split_request(subtask, ctx))
    }
    fn add_splits_back(&mut self, splits: Vec<InnerSplit>, subtask: SubtaskIndex) {
        let typed = splits.iter().map(typed_split).collect::<Result<_>>();
        self.0.add_splits_back(typed.expect("the splits were made by this enumerator"), subtask);
    }
    fn discovery_interval(&self) -> Option<Duration> {
        self.0.discovery_interval()
    }
    fn discover(&mut self, ctx: &mut dyn SplitEnumeratorContext<InnerSplit>) -> Result<()> {
        self.call(ctx, |enumerator, ctx| enumerator.discover(ctx))
    }
    fn awaits_checkpoint(&self) -> bool {
        self.0.awaits_checkpoint()
    }
    fn checkpoint_complete(&mut self, ctx: &mut dyn SplitEnumeratorContext<InnerSplit>) -> Result<()> {
        self.call(ctx, |enumerator, ctx| enumerator.checkpoint_complete(ctx))
    }
    fn snapshot(&self) -> Result<Vec<u8>> {
        self.0.snapshot()
    }
}

struct Reader<T, S>(Box<dyn SourceReader<Record = T, Split = S>>);

impl<T, S: SourceSplit> SourceReader for Reader<T, S> {
    type Record = T;
    type Split = InnerSplit;

    fn add_splits(&mut self, splits: Vec<InnerSplit>) -> Result<()> {
        self.0.add_splits(splits.iter().map(typed_split).collect::<Result<_>>()?)
    }
    fn no_more_splits(&mut self) {
        self.0.no_more_splits();
    }
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SourceOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        self.0.poll_next(cx, records_max, out)
    }
    fn needs_splits(&self) -> bool {
        self.0.needs_splits()
    }
    fn has_waiting_splits(&self) -> bool {
        self.0.has_waiting_splits()
    }
    fn set_paused(&mut self, paused: &BTreeSet<SplitId>) {
        self.0.set_paused(paused);
    }
    fn end_splits(&mut self, ids: &BTreeSet<SplitId>) -> Result<()> {
        self.0.end_splits(ids)
    }
    fn snapshot(&mut self) -> Result<Vec<InnerSplit>> {
        self.0.snapshot()?.iter().map(erase_split).collect()
    }
    fn checkpoint_complete(&mut self, splits: &[InnerSplit]) -> Result<()> {
        self.0.checkpoint_complete(&splits.iter().map(typed_split).collect::<Result<Vec<_>>>()?)
    }
}
