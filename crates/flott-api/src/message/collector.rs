//! From messages to the output of a split: what all readers of messages do.

use super::{DecodeError, MessageDecoder};
use crate::SplitOutput;
use flott_types::{Result, Timestamp};
use std::fmt;

/// Messages that a decoder keeps are flushed when they have so many bytes together, even in the middle of a poll.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Puts what messages of one split say into its output; `P` is a position and shows itself as people are told it.
///
/// A reader calls [`MessageCollector::decode`] for each message and [`MessageCollector::flush`] behind the last one of a split in a poll.
pub struct MessageCollector<T, P> {
    records: Vec<T>,
    /// Where the messages since the last flush stand.
    positions: Vec<P>,
    n_bytes: usize,
    /// The least timestamp of the messages since the last flush.
    timestamp: Option<Timestamp>,
}

impl<T, P> Default for MessageCollector<T, P> {
    fn default() -> Self {
        Self { records: Vec::new(), positions: Vec::new(), n_bytes: 0, timestamp: None }
    }
}

impl<T, P> fmt::Debug for MessageCollector<T, P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_messages = self.positions.len();
        formatter.debug_struct("MessageCollector").field("n_messages", &n_messages).finish_non_exhaustive()
    }
}

impl<T, P: fmt::Display> MessageCollector<T, P> {
    /// Puts out the records of a message, or that it is a bad one. Records have the message's timestamp, in milliseconds since the epoch.
    ///
    /// # Errors
    /// If the message could not be looked at.
    pub fn decode(
        &mut self,
        decoder: &mut dyn MessageDecoder<T>,
        message: &[u8],
        position: P,
        timestamp: Option<Timestamp>,
        out: &mut SplitOutput<T>,
    ) -> Result<()> {
        self.records.clear();
        match decoder.decode(message, &mut self.records) {
            Ok(()) => {
                put_out(&mut self.records, &position, timestamp, out);
                self.timestamp = self.timestamp.into_iter().chain(timestamp).min();
            }
            Err(DecodeError::Malformed(why)) => out.bad_record(position.to_string(), message, why),
            Err(DecodeError::Failed(error)) => return Err(error),
        }
        self.positions.push(position);
        self.n_bytes = self.n_bytes.saturating_add(message.len());
        if self.n_bytes > KEPT_BYTES_MAX { self.flush(decoder, out) } else { Ok(()) }
    }

    /// Puts out the records of the messages that the decoder has kept. A record of several messages has the least of their timestamps, so
    /// that none of them is later than the message would have been by itself.
    ///
    /// # Errors
    /// If the messages could not be looked at.
    pub fn flush(&mut self, decoder: &mut dyn MessageDecoder<T>, out: &mut SplitOutput<T>) -> Result<()> {
        self.records.clear();
        let positions = &self.positions;
        decoder.flush(&mut self.records, &mut |malformed| {
            let position = positions.get(malformed.idx).map_or_else(String::new, P::to_string);
            out.bad_record(position, malformed.message, malformed.why);
        })?;
        if let Some(first) = self.positions.first() {
            put_out(&mut self.records, first, self.timestamp, out);
        }
        self.positions.clear();
        (self.n_bytes, self.timestamp) = (0, None);
        Ok(())
    }
}

fn put_out<T>(
    records: &mut Vec<T>,
    position: &impl fmt::Display,
    timestamp: Option<Timestamp>,
    out: &mut SplitOutput<T>,
) {
    if out.batch.is_empty() && !records.is_empty() {
        out.position = Some(position.to_string());
    }
    for record in records.drain(..) {
        match timestamp {
            Some(timestamp) => out.collect_with_timestamp(record, timestamp),
            None => out.collect(record),
        }
    }
}
