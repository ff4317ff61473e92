//! One source after the other: a backlog of files, then the log that goes on from it.
//!
//! The enumerator holds one enumerator at a time, that of the current source, and switches when every reader has told it that it has read
//! all of its splits. A reader has a reader for each source of which it has splits.
//!
//! Event time must not run ahead at the switch: what comes next may be as old as the end of what came before, and may come to any reader, also
//! to one that was far ahead. If the next source starts at a fixed time, splits end there and their watermark stays below it. If it starts
//! behind all that was read, no watermark is beyond that. Otherwise event time stands still until the switch.
//!
//! Reading order: this file (what users see), `erased`, `split`, `enumerator`, `reader`.

mod enumerator;
mod erased;
mod reader;
mod split;

use crate::source::{
    Boundedness, EnumeratorInit, Source, SourceReader, SourceReaderContext, SplitEnumerator,
};
use crate::span::StartingPosition;
use enumerator::HybridEnumerator;
use erased::ErasedSource;
use flott_types::{Data, Error, Result, Timestamp};
use reader::HybridReader;
pub use split::HybridSplit;
use std::fmt;
use std::sync::Arc;

/// What is known of a source at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchContext {
    /// The greatest event time of all records that the job has read so far; `None` if there was none, or none had a timestamp.
    pub max_timestamp: Option<Timestamp>,
}

type StartFunction = Arc<dyn Fn(&SwitchContext) -> StartingPosition + Send + Sync>;

/// Where a source of the chain starts.
#[derive(Clone)]
enum LinkStart {
    At(StartingPosition),
    /// Behind the greatest timestamp that was read.
    Behind,
    With(StartFunction),
}

/// A source of the chain.
struct Link<T> {
    source: Arc<dyn ErasedSource<T>>,
    start: LinkStart,
}

impl<T> Link<T> {
    /// The time at which it starts whatever comes before.
    fn fixed_time(&self) -> Option<Timestamp> {
        match self.start {
            LinkStart::At(StartingPosition::Timestamp(at)) => Some(at),
            LinkStart::At(_) | LinkStart::Behind | LinkStart::With(_) => None,
        }
    }

    /// Whether its records may be as old as the last ones of the sources before.
    fn may_be_older(&self) -> bool {
        match self.start {
            LinkStart::At(StartingPosition::Timestamp(_)) | LinkStart::Behind => false,
            LinkStart::At(_) | LinkStart::With(_) => true,
        }
    }

    fn start(&self, ctx: &SwitchContext) -> StartingPosition {
        match &self.start {
            LinkStart::At(start) => start.clone(),
            LinkStart::Behind => ctx
                .max_timestamp
                .map_or(StartingPosition::Earliest, |max| StartingPosition::Timestamp(max.saturating_add(1))),
            LinkStart::With(start) => start(ctx),
        }
    }
}

type Links<T> = Arc<Vec<Link<T>>>;

/// Reads sources one after the other; all but the last must end by themselves.
///
/// ```text
/// HybridSource::builder(files).then_at(log, StartingPosition::Timestamp(t)).build()
/// ```
pub struct HybridSource<T> {
    links: Links<T>,
}

impl<T> Clone for HybridSource<T> {
    fn clone(&self) -> Self {
        Self { links: Arc::clone(&self.links) }
    }
}

impl<T> fmt::Debug for HybridSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridSource").field("sources", &self.links.len()).finish()
    }
}

/// Builds a [`HybridSource`].
pub struct HybridSourceBuilder<T> {
    links: Vec<Link<T>>,
}

impl<T> fmt::Debug for HybridSourceBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridSourceBuilder").field("sources", &self.links.len()).finish()
    }
}

impl<T: Data> HybridSource<T> {
    /// A chain that begins with `first`.
    pub fn builder<S: Source<Record = T>>(first: S) -> HybridSourceBuilder<T> {
        HybridSourceBuilder { links: Vec::new() }.link(first, LinkStart::At(StartingPosition::Earliest))
    }
}

impl<T: Data> HybridSourceBuilder<T> {
    fn link<S: Source<Record = T>>(mut self, source: S, start: LinkStart) -> Self {
        self.links.push(Link { source: erased::erase(source), start });
        self
    }

    /// Then reads `next` from its beginning. Its records may be as old as the last ones of any split before: so event time stands still
    /// until the switch, and windows keep all that was read before it. For a long backlog [`HybridSourceBuilder::then_at`] a time, or
    /// [`HybridSourceBuilder::then_behind`].
    #[must_use]
    pub fn then<S: Source<Record = T>>(self, next: S) -> Self {
        self.then_at(next, StartingPosition::Earliest)
    }

    /// Then reads `next` from there. With a point in event time each record is read once although both sources may have it: from the
    /// sources before if it is earlier, from `next` otherwise; and event time goes on up to that time before the switch.
    #[must_use]
    pub fn then_at<S: Source<Record = T>>(self, next: S, start: StartingPosition) -> Self {
        self.link(next, LinkStart::At(start))
    }

    /// Then reads what `next` has behind the greatest event time that was read before. Event time goes on before the switch.
    #[must_use]
    pub fn then_behind<S: Source<Record = T>>(self, next: S) -> Self {
        self.link(next, LinkStart::Behind)
    }

    /// Then reads `next` from where `start` says, which is asked once, at the switch. Event time stands still until then.
    #[must_use]
    pub fn then_with<S: Source<Record = T>>(
        self,
        next: S,
        start: impl Fn(&SwitchContext) -> StartingPosition + Send + Sync + 'static,
    ) -> Self {
        self.link(next, LinkStart::With(Arc::new(start)))
    }

    /// The source.
    pub fn build(self) -> HybridSource<T> {
        HybridSource { links: Arc::new(self.links) }
    }
}

impl<T: Data> HybridSource<T> {
    fn check(&self) -> Result<()> {
        let before_last = self.links.iter().rev().skip(1);
        match before_last.rev().position(|link| link.source.boundedness() != Boundedness::Bounded) {
            Some(idx) => Err(Error::user(format!(
                "source {idx} of a hybrid source does not end, so what follows would never be read: only the last may go on for ever"
            ))),
            None => Ok(()),
        }
    }
}

impl<T: Data> Source for HybridSource<T> {
    type Record = T;
    type Split = HybridSplit;

    fn boundedness(&self) -> Boundedness {
        self.links.last().map_or(Boundedness::Bounded, |last| last.source.boundedness())
    }

    fn is_chain(&self) -> bool {
        true
    }

    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<HybridSplit>>> {
        self.check()?;
        Ok(Box::new(HybridEnumerator::new(Arc::clone(&self.links), init)?))
    }

    fn create_reader(
        &self,
        ctx: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = T, Split = HybridSplit>>> {
        Ok(Box::new(HybridReader::new(Arc::clone(&self.links), ctx)))
    }
}
