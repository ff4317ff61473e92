//! Reads the splits of whichever source they are of.

use super::Links;
use super::erased::ErasedReader;
use super::split::{HybridSplit, InnerSplit, SplitPart, inner_id, outer_id};
use crate::source::{
    InputStatus, SourceOutput, SourceReader, SourceReaderContext, SourceSplit, SplitOutput, SplitSpan,
};
use flott_types::{Data, Result, SplitId};
use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll};

/// The reader of one of the sources.
struct Part<T> {
    reader: ErasedReader<T>,
    out: SourceOutput<T>,
    /// The splits that it reads or will read.
    live: BTreeMap<SplitId, SplitSpan>,
}

pub(super) struct HybridReader<T> {
    links: Links<T>,
    ctx: SourceReaderContext,
    parts: BTreeMap<u32, Part<T>>,
    /// The source that is the current one, as far as this reader was told.
    current: u32,
    /// Splits that only told it something: the task has to hear that they have ended.
    finished: Vec<SplitId>,
    more_splits_come: bool,
}

impl<T: Data> HybridReader<T> {
    pub(super) fn new(links: Links<T>, ctx: SourceReaderContext) -> Self {
        Self { links, ctx, parts: BTreeMap::new(), current: 0, finished: Vec::new(), more_splits_come: true }
    }

    fn part(&mut self, source: u32) -> Result<&mut Part<T>> {
        if !self.parts.contains_key(&source) {
            let link = self.links.get(source as usize).ok_or_else(|| {
                flott_types::Error::user(format!(
                    "the hybrid source has no source {source}, of which there is a split"
                ))
            })?;
            let reader = link.source.create_reader(self.ctx.clone())?;
            let part = Part { reader, out: SourceOutput::default(), live: BTreeMap::new() };
            self.parts.insert(source, part);
        }
        Ok(self.parts.get_mut(&source).expect("it was just inserted"))
    }

    /// Whether what follows the current source may be as old as the end of what was read of it. It may come to any reader: so none lets event
    /// time go on.
    fn holds_event_time(&self) -> bool {
        self.links.get(self.current as usize + 1).is_some_and(|next| next.may_be_older())
    }

    fn is_reading(&self) -> bool {
        self.parts.values().any(|part| !part.live.is_empty())
    }

    /// The switch has come.
    fn on_current(&mut self, split: &HybridSplit) {
        self.current = self.current.max(split.source);
        self.finished.push(split.split_id());
        let current = self.current;
        self.parts.retain(|source, part| *source >= current || !part.live.is_empty());
    }

    /// Passes on what the reader of `source` has put out.
    fn pass_on(&mut self, source: u32, out: &mut SourceOutput<T>) {
        let Some(part) = self.parts.get_mut(&source) else { return };
        for inner in part.out.splits_mut() {
            let target = out.split(&outer_id(source, &inner.id));
            if target.batch.is_empty() {
                target.position = inner.position.take();
            }
            target.collect_batch(inner.batch.take());
            target.bad_records.extend(inner.bad_records.drain(..).map(|mut bad| {
                bad.split = outer_id(source, &bad.split);
                bad
            }));
            target.caught_up |= std::mem::take(&mut inner.caught_up);
            if inner.finished {
                part.live.remove(&inner.id);
                target.finished = true;
            }
        }
        part.out.splits_mut().retain(|inner: &SplitOutput<T>| !inner.finished);
    }
}

impl<T: Data> SourceReader for HybridReader<T> {
    type Record = T;
    type Split = HybridSplit;

    fn add_splits(&mut self, splits: Vec<HybridSplit>) -> Result<()> {
        let mut by_source: BTreeMap<u32, Vec<InnerSplit>> = BTreeMap::new();
        for split in splits {
            match &split.part {
                SplitPart::Current => self.on_current(&split),
                SplitPart::Split(inner) => {
                    self.part(split.source)?.live.insert(inner.id.clone(), split.span);
                    by_source.entry(split.source).or_default().push(inner.clone());
                }
            }
        }
        by_source.into_iter().try_for_each(|(source, splits)| self.part(source)?.reader.add_splits(splits))
    }

    fn no_more_splits(&mut self) {
        self.more_splits_come = false;
        self.parts.values_mut().for_each(|part| part.reader.no_more_splits());
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SourceOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        if !self.finished.is_empty() {
            self.finished.drain(..).for_each(|id| out.split(&id).finished = true);
            return Poll::Ready(Ok(InputStatus::MoreAvailable));
        }
        let sources: Vec<u32> = self.parts.keys().copied().collect();
        for source in sources {
            let Some(part) = self.parts.get_mut(&source).filter(|part| !part.live.is_empty()) else {
                continue;
            };
            let polled = part.reader.poll_next(cx, records_max, &mut part.out);
            self.pass_on(source, out);
            match polled {
                Poll::Pending | Poll::Ready(Ok(InputStatus::EndOfInput)) => {}
                Poll::Ready(Ok(InputStatus::MoreAvailable)) => {
                    return Poll::Ready(Ok(InputStatus::MoreAvailable));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(
                        error.context(format!("reading source {source} of a hybrid source"))
                    ));
                }
            }
        }
        if !self.more_splits_come && !self.is_reading() {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        Poll::Pending
    }

    fn needs_splits(&self) -> bool {
        self.more_splits_come && self.finished.is_empty() && !self.is_reading()
    }

    fn has_waiting_splits(&self) -> bool {
        self.holds_event_time() || self.parts.values().any(|part| part.reader.has_waiting_splits())
    }

    fn set_paused(&mut self, paused: &BTreeSet<SplitId>) {
        for (source, part) in &mut self.parts {
            part.reader.set_paused(&paused.iter().filter_map(|id| inner_id(*source, id)).collect());
        }
    }

    fn end_splits(&mut self, ids: &BTreeSet<SplitId>) -> Result<()> {
        for (source, part) in &mut self.parts {
            let of_source = ids.iter().filter_map(|id| inner_id(*source, id)).collect();
            part.reader.end_splits(&of_source)?;
            part.live.retain(|id, _| !of_source.contains(id));
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<HybridSplit>> {
        let mut splits = Vec::new();
        for (source, part) in &mut self.parts {
            for inner in part.reader.snapshot()? {
                let span = part.live.get(&inner.id).copied().unwrap_or_default();
                splits.push(HybridSplit { source: *source, span, part: SplitPart::Split(inner) });
            }
        }
        Ok(splits)
    }

    fn checkpoint_complete(&mut self, splits: &[HybridSplit]) -> Result<()> {
        for (source, part) in &mut self.parts {
            let of_source = splits.iter().filter(|split| split.source == *source);
            let inner: Vec<_> = of_source
                .filter_map(|split| match &split.part {
                    SplitPart::Split(inner) => Some(inner.clone()),
                    SplitPart::Current => None,
                })
                .collect();
            part.reader.checkpoint_complete(&inner)?;
        }
        Ok(())
    }
}
