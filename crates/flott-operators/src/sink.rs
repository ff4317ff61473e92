//! The end of a stream.

use crate::operator::{Operator, OperatorOutput};
use crate::user_code::user_error;
use flott_api::{SinkWriter, UserResult};
use flott_state::OperatorSnapshot;
use flott_types::{RecordBatch, Result, Timestamp, Watermark};
use std::fmt;
use std::marker::PhantomData;

/// The list state with the writer's entries.
const WRITER: &str = "_sink_writer";

/// Gives records to a [`SinkWriter`]; emits none.
pub struct SinkOperator<T, W> {
    writer: W,
    records: PhantomData<fn(T)>,
}

impl<T, W> fmt::Debug for SinkOperator<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkOperator")
    }
}

impl<T, W: SinkWriter<T>> SinkOperator<T, W> {
    /// An operator that writes with `writer`.
    pub const fn new(writer: W) -> Self {
        Self { writer, records: PhantomData }
    }
}

fn sink_result<R>(done: UserResult<R>) -> Result<R> {
    done.map_err(|error| user_error("the sink", error))
}

impl<T, W: SinkWriter<T>> Operator<T, ()> for SinkOperator<T, W> {
    fn process_batch(&mut self, batch: RecordBatch<T>, _: &mut OperatorOutput<'_, ()>) -> Result<()> {
        sink_result(self.writer.write(batch))
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        sink_result(self.writer.on_watermark(watermark))?;
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, _: &mut OperatorOutput<'_, ()>) -> Result<()> {
        if self.writer.next_timer().is_some_and(|at| at <= now) {
            sink_result(self.writer.on_processing_time(now))?;
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.writer.next_timer()
    }

    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        sink_result(self.writer.finish())?;
        out.emit_end_of_data()
    }

    fn flush(&mut self) -> Result<()> {
        sink_result(self.writer.flush())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.list.insert(WRITER.to_owned(), sink_result(self.writer.snapshot())?);
        Ok(())
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        match snapshot.list.get(WRITER) {
            Some(entries) => sink_result(self.writer.restore(entries.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
