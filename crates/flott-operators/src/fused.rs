//! A pipe as an operator: the loop around it.

use crate::operator::{Operator, OperatorOutput};
use crate::pipe::{Fanout, Pipe};
use crate::user_code::{Progress, user_error};
use flott_api::BoxError;
use flott_state::OperatorSnapshot;
use flott_types::{RecordBatch, Result, Timestamp};
use std::fmt;

/// Output is sent on when there are this many records, or as many as came in if those were more: one record may make
/// very many.
const EMIT_AT: usize = 1024;

/// Puts each record of a batch through a [`Pipe`].
///
/// Batches are emptied and filled in place where the records have the same size before and after. What a pipe made of
/// the records before the one that failed is emitted before the error is returned, so that batch boundaries do not show.
pub struct FusedOperator<P> {
    pipe: P,
    progress: usize,
}

impl<P: fmt::Debug> fmt::Debug for FusedOperator<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FusedOperator").field(&self.pipe).finish()
    }
}

impl<P: Pipe> FusedOperator<P> {
    /// An operator around `pipe`.
    pub const fn new(pipe: P) -> Self {
        Self { pipe, progress: 0 }
    }

    /// One record for one: the timestamps stay as they are.
    fn map_all(&mut self, records: Vec<P::In>) -> Vec<P::Out> {
        let mut progress = Progress::start(&mut self.progress);
        let records = records.into_iter().map(|record| {
            let made = push_one(&mut self.pipe, record).expect("a pipe of fanout one does not fail");
            progress.advance();
            made.expect("a pipe of fanout one makes a record of each")
        });
        records.collect()
    }

    /// At most one record for one, into the memory of the input.
    fn keep_untimed(&mut self, records: Vec<P::In>) -> (Vec<P::Out>, Option<BoxError>) {
        let mut progress = Progress::start(&mut self.progress);
        let mut failure = None;
        let kept = records.into_iter().filter_map(|record| {
            // Where the pipe cannot fail, the compiler knows that this is never so.
            if failure.is_some() {
                return None;
            }
            let made = push_one(&mut self.pipe, record);
            progress.advance_if(made.is_ok());
            made.unwrap_or_else(|error| {
                failure = Some(error);
                None
            })
        });
        let kept = kept.collect();
        (kept, failure)
    }

    /// As [`FusedOperator::keep_untimed`]; the timestamps are moved up in their vector.
    fn keep_timed(
        &mut self,
        records: Vec<P::In>,
        timestamps: &mut Vec<Timestamp>,
    ) -> (Vec<P::Out>, Option<BoxError>) {
        let mut progress = Progress::start(&mut self.progress);
        let mut failure = None;
        let (mut n_seen, mut n_kept) = (0, 0);
        let times = timestamps.as_mut_slice();
        let kept = records.into_iter().filter_map(|record| {
            if failure.is_some() {
                return None;
            }
            let made = push_one(&mut self.pipe, record);
            progress.advance_if(made.is_ok());
            let made = made.unwrap_or_else(|error| {
                failure = Some(error);
                None
            });
            times[n_kept] = times[n_seen];
            n_seen += 1;
            n_kept += usize::from(made.is_some());
            made
        });
        let kept = kept.collect();
        timestamps.truncate(n_kept);
        (kept, failure)
    }

    /// No record for any.
    fn consume(&mut self, records: Vec<P::In>) -> Result<(), BoxError> {
        let mut progress = Progress::start(&mut self.progress);
        for record in records {
            self.pipe.push(record, &mut |_| Ok(()))?;
            progress.advance();
        }
        Ok(())
    }

    fn push_untimed(&mut self, records: Vec<P::In>, out: &mut OperatorOutput<'_, P::Out>) -> Result<()> {
        let emit_at = records.len().max(EMIT_AT);
        let mut progress = Progress::start(&mut self.progress);
        let mut made = Vec::with_capacity(records.len() + records.len() / 4);
        let mut failure = None;
        for record in records {
            if let Err(error) = self.pipe.push(record, &mut |record| {
                made.push(record);
                Ok(())
            }) {
                failure = Some(error);
                break;
            }
            progress.advance();
            if made.len() >= emit_at {
                let full = std::mem::replace(&mut made, Vec::with_capacity(emit_at + emit_at / 4));
                out.emit(RecordBatch::untimed(full))?;
            }
        }
        finish(made, Vec::new(), failure, out)
    }

    fn push_timed(
        &mut self,
        records: Vec<P::In>,
        timestamps: Vec<Timestamp>,
        out: &mut OperatorOutput<'_, P::Out>,
    ) -> Result<()> {
        let emit_at = records.len().max(EMIT_AT);
        let mut progress = Progress::start(&mut self.progress);
        let capacity = records.len() + records.len() / 4;
        let (mut made, mut times) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        let mut failure = None;
        for (record, timestamp) in records.into_iter().zip(timestamps) {
            let pushed = self.pipe.push(record, &mut |record| {
                made.push(record);
                times.push(timestamp);
                Ok(())
            });
            if let Err(error) = pushed {
                failure = Some(error);
                break;
            }
            progress.advance();
            if made.len() >= emit_at {
                let capacity = emit_at + emit_at / 4;
                let full = std::mem::replace(&mut made, Vec::with_capacity(capacity));
                let full_times = std::mem::replace(&mut times, Vec::with_capacity(capacity));
                out.emit(RecordBatch::from_columns(full, full_times))?;
            }
        }
        finish(made, times, failure, out)
    }
}

#[inline(always)]
fn push_one<P: Pipe>(pipe: &mut P, record: P::In) -> Result<Option<P::Out>, BoxError> {
    let mut made = None;
    pipe.push(record, &mut |record| {
        made = Some(record);
        Ok(())
    })?;
    Ok(made)
}

/// Whether a vector of one type can become one of the other without a new allocation.
const fn same_layout<A, B>() -> bool {
    size_of::<A>() == size_of::<B>() && align_of::<A>() == align_of::<B>()
}

fn finish<T>(
    mut records: Vec<T>,
    mut timestamps: Vec<Timestamp>,
    failure: Option<BoxError>,
    out: &mut OperatorOutput<'_, T>,
) -> Result<()> {
    // Few records of many were kept: a queue of such batches would take more memory than flow control knows of.
    if records.len() < records.capacity() / 4 {
        records.shrink_to_fit();
        timestamps.shrink_to_fit();
    }
    out.emit(RecordBatch::from_columns(records, timestamps))?;
    failure.map_or(Ok(()), |error| Err(user_error("a user function", error)))
}

impl<P: Pipe> Operator<P::In, P::Out> for FusedOperator<P> {
    fn process_batch(
        &mut self,
        batch: RecordBatch<P::In>,
        out: &mut OperatorOutput<'_, P::Out>,
    ) -> Result<()> {
        let (records, mut timestamps) = batch.into_columns();
        match P::FANOUT {
            Fanout::None => self.consume(records).map_err(|error| user_error("a user function", error)),
            Fanout::One => {
                let records = self.map_all(records);
                out.emit(RecordBatch::from_columns(records, timestamps))
            }
            Fanout::AtMostOne if const { same_layout::<P::In, P::Out>() } => {
                let (records, failure) = if timestamps.is_empty() {
                    self.keep_untimed(records)
                } else {
                    self.keep_timed(records, &mut timestamps)
                };
                finish(records, timestamps, failure, out)
            }
            Fanout::AtMostOne | Fanout::Any if timestamps.is_empty() => self.push_untimed(records, out),
            Fanout::AtMostOne | Fanout::Any => self.push_timed(records, timestamps, out),
        }
    }

    fn snapshot(&mut self, _: &mut OperatorSnapshot) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &OperatorSnapshot) -> Result<()> {
        Ok(())
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
