//! Several sorted sources read as one, and the merge of runs, a few records at a time.

use super::buffer::WriteBuffer;
use super::record::Record;
use super::run::{Run, RunCursor, RunWriter};
use flott_types::Result;
use std::cmp::Ordering;
use std::sync::Arc;

/// Something sorted.
#[derive(Debug)]
enum Source<'a> {
    Run(Box<RunCursor>),
    /// The places of the records of a buffer that were not read yet, last first.
    Buffer(&'a WriteBuffer, Vec<usize>),
}

impl Source<'_> {
    fn current(&self) -> Option<Record<'_>> {
        match self {
            Self::Run(cursor) => cursor.current(),
            Self::Buffer(buffer, places) => places.last().map(|at| buffer.record(*at)),
        }
    }

    fn advance(&mut self) -> Result<()> {
        match self {
            Self::Run(cursor) => cursor.advance().map(drop),
            Self::Buffer(_, places) => {
                places.pop();
                Ok(())
            }
        }
    }
}

/// The newest record of each key of several sources, in order.
#[derive(Debug)]
pub(crate) struct MergeCursor<'a> {
    /// The newest first.
    sources: Vec<Source<'a>>,
    /// The sources that have the key at hand; the newest first.
    at_hand: Vec<usize>,
}

impl<'a> MergeCursor<'a> {
    /// Reads runs, the newest first, from `from` on.
    pub(crate) fn of_runs(runs: &[Arc<Run>], from: u64, read_bytes: usize) -> Result<Self> {
        let mut sources = Vec::with_capacity(runs.len() + 1);
        for run in runs {
            let mut cursor = RunCursor::new(Arc::clone(run), from, read_bytes)?;
            while cursor.advance()? && cursor.current().is_some_and(|record| record.order < from) {}
            sources.push(Source::Run(Box::new(cursor)));
        }
        let mut merged = Self { sources, at_hand: Vec::new() };
        merged.select();
        Ok(merged)
    }

    /// Adds a buffer that is newer than all runs.
    pub(crate) fn and_buffer(mut self, buffer: &'a WriteBuffer, from: u64) -> Self {
        let mut places = buffer.sorted();
        places.reverse();
        while places.pop_if(|at| buffer.record(*at).order < from).is_some() {}
        self.sources.insert(0, Source::Buffer(buffer, places));
        self.select();
        self
    }

    /// Finds the least key.
    fn select(&mut self) {
        let Self { sources, at_hand } = self;
        at_hand.clear();
        let mut least: Option<Record<'_>> = None;
        for (idx, source) in sources.iter().enumerate() {
            let Some(record) = source.current() else { continue };
            let ordering = least.map_or(Ordering::Less, |least| {
                record.order.cmp(&least.order).then_with(|| record.key.cmp(least.key))
            });
            match ordering {
                Ordering::Less => {
                    least = Some(record);
                    at_hand.clear();
                    at_hand.push(idx);
                }
                Ordering::Equal => at_hand.push(idx),
                Ordering::Greater => {}
            }
        }
    }

    /// The record at hand, none after the last.
    pub(crate) fn current(&self) -> Option<Record<'_>> {
        self.at_hand.first().and_then(|idx| self.sources[*idx].current())
    }

    /// Goes to the next key; says how many records of this one there were.
    pub(crate) fn advance(&mut self) -> Result<usize> {
        let Self { sources, at_hand } = self;
        for idx in at_hand.iter() {
            sources[*idx].advance()?;
        }
        let n_read = at_hand.len();
        self.select();
        Ok(n_read)
    }
}

/// A merge of neighbouring runs into one that takes their place.
#[derive(Debug)]
pub(crate) struct Merge {
    inputs: Vec<Arc<Run>>,
    cursor: MergeCursor<'static>,
    writer: RunWriter,
    /// No run is older: what was removed need not be remembered.
    is_oldest: bool,
}

/// Which records of the oldest runs are not needed any more.
pub(crate) type Outdated<'a> = dyn FnMut(&Record<'_>) -> Result<bool> + 'a;

impl Merge {
    pub(crate) fn new(
        inputs: Vec<Arc<Run>>,
        writer: RunWriter,
        is_oldest: bool,
        read_bytes: usize,
    ) -> Result<Self> {
        let cursor = MergeCursor::of_runs(&inputs, 0, read_bytes)?;
        Ok(Self { inputs, cursor, writer, is_oldest })
    }

    /// Whether a run is being merged.
    pub(crate) fn has(&self, run: &Arc<Run>) -> bool {
        self.inputs.iter().any(|input| Arc::ptr_eq(input, run))
    }

    /// Merges about so many records; says whether all are merged.
    pub(crate) fn step(&mut self, n_records: usize, outdated: &mut Outdated<'_>) -> Result<bool> {
        let mut n_read = 0;
        while n_read < n_records {
            let Some(record) = self.cursor.current() else { return Ok(true) };
            let is_kept = !self.is_oldest || (record.value.is_some() && !outdated(&record)?);
            if is_kept {
                self.writer.push(record)?;
            }
            n_read += self.cursor.advance()?;
        }
        Ok(false)
    }

    /// Bytes of memory if each input is read so many bytes at a time.
    pub(crate) fn memory_bytes(&self, read_bytes: usize) -> usize {
        self.inputs.len() * read_bytes + self.writer.memory_bytes()
    }

    /// The inputs and the run that has what they had.
    pub(crate) fn finish(self) -> Result<(Vec<Arc<Run>>, Option<Run>)> {
        Ok((self.inputs, self.writer.finish()?))
    }
}
