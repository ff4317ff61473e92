//! From messages to the output of a split: what all readers of messages do.

use super::{DecodeError, MessageDecoder};
use crate::SplitOutput;
use flott_types::{Result, Timestamp};
use std::fmt;

/// Messages that a decoder keeps are flushed when they have so many bytes together, even in the middle of a poll.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// A message, and what there is to know of it beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RawMessage<'a, P> {
    /// Where it stands in its split.
    pub position: P,
    /// The key that it has beside its bytes, as the brokers of messages have it.
    pub key: Option<&'a [u8]>,
    /// Its bytes.
    pub value: &'a [u8],
    /// In milliseconds since the epoch.
    pub timestamp: Option<Timestamp>,
}

/// Puts what messages of one split say into its output; `P` is a position and shows itself as people are told it.
///
/// A reader calls [`MessageCollector::decode`] for each message and [`MessageCollector::flush`] behind the last one of a split in a poll.
pub struct MessageCollector<T, P> {
    records: Vec<T>,
    /// Where the messages since the last flush stand; and of those that the decoder has kept, their keys.
    positions: Vec<(P, Option<Vec<u8>>)>,
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
        message: RawMessage<'_, P>,
        out: &mut SplitOutput<T>,
    ) -> Result<()> {
        let RawMessage { position, key, value, timestamp } = message;
        self.records.clear();
        let mut kept_key = None;
        match decoder.decode(value, &mut self.records) {
            Ok(()) => {
                // Nobody asks for the key of a message that is a record already.
                kept_key = key.filter(|_| self.records.is_empty()).map(<[u8]>::to_vec);
                put_out(&mut self.records, &position, timestamp, out);
                self.timestamp = self.timestamp.into_iter().chain(timestamp).min();
            }
            Err(DecodeError::Malformed(why)) => out.bad_message(position.to_string(), key, value, why),
            Err(DecodeError::Failed(error)) => return Err(error),
        }
        self.positions.push((position, kept_key));
        self.n_bytes = self.n_bytes.saturating_add(value.len());
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
            let (position, key) = positions
                .get(malformed.idx)
                .map_or_else(Default::default, |(position, key)| (position.to_string(), key.as_deref()));
            out.bad_message(position, key, malformed.message, malformed.why);
        })?;
        if let Some((first, _)) = self.positions.first() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceOutput;
    use crate::message::MalformedMessage;
    use flott_types::SplitId;

    /// Keeps what begins with `k`, and finds out when it is flushed that it is no good; what begins with `b` is bad at once.
    #[derive(Default)]
    struct Keeps {
        kept: Vec<(usize, Vec<u8>)>,
        n_messages: usize,
    }

    impl MessageDecoder<u8> for Keeps {
        fn decode(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
            self.n_messages += 1;
            match message.first() {
                Some(b'b') => return Err(DecodeError::malformed("bad")),
                Some(b'k') => self.kept.push((self.n_messages - 1, message.to_vec())),
                Some(byte) => out.push(*byte),
                None => {}
            }
            Ok(())
        }

        fn flush(&mut self, _: &mut Vec<u8>, malformed: &mut dyn FnMut(MalformedMessage<'_>)) -> Result<()> {
            for (idx, message) in self.kept.drain(..) {
                malformed(MalformedMessage { idx, message: &message, why: "kept".to_owned() });
            }
            self.n_messages = 0;
            Ok(())
        }
    }

    #[test]
    fn bad_messages_have_their_keys_whenever_they_are_found() {
        let (mut collector, mut decoder) = (MessageCollector::default(), Keeps::default());
        let mut output = SourceOutput::default();
        let out = output.split(&SplitId("split".to_owned()));
        let messages =
            [(1, Some("one"), "b1"), (2, Some("two"), "good"), (3, Some("three"), "k3"), (4, None, "k4")];
        for (position, key, value) in messages {
            let (key, value) = (key.map(str::as_bytes), value.as_bytes());
            collector
                .decode(&mut decoder, RawMessage { position, key, value, timestamp: None }, out)
                .unwrap();
        }
        collector.flush(&mut decoder, out).unwrap();
        let bad: Vec<_> =
            out.bad_records.iter().map(|bad| (bad.position.as_str(), bad.key.as_deref())).collect();
        assert_eq!(bad, [("1", Some(&b"one"[..])), ("3", Some(b"three")), ("4", None)]);
    }
}
