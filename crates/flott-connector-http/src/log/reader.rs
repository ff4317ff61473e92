//! Reads the log while it is written.

use super::segment::SegmentReader;
use super::{Shared, failed};
use flott_types::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::task::Context;

/// Reads durable records from a position on.
pub(crate) struct LogReader {
    shared: Arc<Shared>,
    position: u64,
    /// The file that the position is in, and where in it.
    place: Option<(u64, u64)>,
}

impl LogReader {
    /// `position`: the number of the first record to read, or `None` for the oldest.
    pub(crate) fn new(shared: Arc<Shared>, position: Option<u64>) -> Result<Self> {
        let (oldest, end) = {
            let state = shared.state();
            (state.segments.first().map_or(state.end, |segment| segment.base), state.end)
        };
        let position = position.unwrap_or(oldest);
        if position < oldest || position > end {
            let directory = shared.directory.display();
            let message = format!(
                "cannot go on at record {position} of the log in '{directory}', which has the records from {oldest} to {end}: it is the log of \
                 another job, or the snapshot is older than one that the log was cleared for; start without the snapshot, or with another directory"
            );
            return Err(Error::new(ErrorKind::Corruption, message));
        }
        Ok(Self { shared, position, place: None })
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether there is something to read; if not, `cx` is woken when there is.
    pub(crate) fn is_ready(&self, cx: &mut Context<'_>) -> Result<bool> {
        let mut state = self.shared.state();
        if self.position < state.end {
            return Ok(true);
        }
        if let Some(why) = &state.failed {
            let directory = self.shared.directory.display();
            return Err(Error::new(
                ErrorKind::Retry,
                format!("cannot write to the log in '{directory}': {why}"),
            ));
        }
        state.waker = Some(cx.waker().clone());
        Ok(false)
    }

    /// Reads at most so many records of one file.
    pub(crate) fn read(&mut self, records_max: usize, mut on_record: impl FnMut(u64, &[u8])) -> Result<()> {
        let (base, file_end) = {
            let state = self.shared.state();
            let behind = state.segments.partition_point(|segment| segment.base <= self.position);
            let base =
                behind.checked_sub(1).and_then(|idx| state.segments.get(idx)).map(|segment| segment.base);
            let next = state.segments.get(behind).map_or(state.end, |segment| segment.base);
            (base.ok_or_else(|| self.damaged("no file has it"))?, next)
        };
        let path = self.shared.path(base);
        let file = self.shared.fs.open(&path).map_err(|error| failed("open", &path, error))?;
        let resumed = match self.place {
            Some((of, offset)) if of == base => SegmentReader::resume(file, offset),
            _ => Ok(SegmentReader::start(file, base)),
        };
        let mut records = resumed.map_err(|error| failed("read", &path, error))?;
        let mut number = if self.place.is_some_and(|(of, _)| of == base) { self.position } else { base };
        let last = file_end.min(self.position.saturating_add(records_max.max(1) as u64));
        while number < last {
            let record = records.next_record(number).map_err(|error| failed("read", &path, error))?;
            let record = record.ok_or_else(|| self.damaged("it is not what was written"))?;
            if number >= self.position {
                on_record(number, record);
            }
            number += 1;
        }
        self.position = last;
        self.place = Some((base, records.offset));
        Ok(())
    }

    fn damaged(&self, what: &str) -> Error {
        let (position, directory) = (self.position, self.shared.directory.display());
        Error::new(
            ErrorKind::Corruption,
            format!("cannot read record {position} of the log in '{directory}', or one behind it: {what}"),
        )
    }
}
