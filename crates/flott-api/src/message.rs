//! How records stand in messages: what connectors of message brokers and formats agree on.
//!
//! A format knows bytes and records; a connector knows where messages come from and go to. A format crate implements
//! [`DeserializationSchema`] and [`SerializationSchema`] and depends on no connector. Here are the two that need no library: [`RawFormat`],
//! the bytes themselves, and [`StringFormat`], text. Readers decode by way of a [`MessageCollector`].

mod collector;

pub use collector::{MessageCollector, RawMessage};

use crate::UserResult;
use flott_types::{Error, Result};

/// How messages become records of type `T`.
pub trait DeserializationSchema<T>: Send + Sync + 'static {
    /// Makes the decoder of one subtask.
    ///
    /// # Errors
    /// If no message can be decoded: the schema does not fit `T`, or is not to be had.
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<T>>>;
}

/// Decodes messages: one at a time, or several into one record.
///
/// Legal calls: `(decode* flush)*` until one fails the job. A reader flushes before it tells anybody a position behind a message that it has
/// given to `decode`, and before it decodes messages of another split; so no record is of messages on both sides of a position.
pub trait MessageDecoder<T>: Send {
    /// Appends the records of `message` to `out`: one, as a rule; none, if the message says nothing (a tombstone), or is kept for a record
    /// that [`MessageDecoder::flush`] makes; several, if it says several things (an update in a changelog).
    ///
    /// # Errors
    /// [`DecodeError`]. What was appended before the error is taken away by the caller.
    fn decode(&mut self, message: &[u8], out: &mut Vec<T>) -> std::result::Result<(), DecodeError>;

    /// Appends the records of the messages that were kept; none is kept any more then. Those that turn out to be no record are told to
    /// `malformed`. By default none was kept.
    ///
    /// # Errors
    /// If the kept messages could not be looked at. That fails the job.
    fn flush(&mut self, out: &mut Vec<T>, malformed: &mut dyn FnMut(MalformedMessage<'_>)) -> Result<()> {
        let _unused = (out, malformed);
        Ok(())
    }
}

/// A message that was kept, and turned out not to be what it should be.
#[derive(Clone, Debug)]
pub struct MalformedMessage<'a> {
    /// How many messages were given to [`MessageDecoder::decode`] before it since the last flush, whatever came of them.
    pub idx: usize,
    /// The message.
    pub message: &'a [u8],
    /// What was expected, what was found and where.
    pub why: String,
}

/// Why a message was not decoded.
#[derive(Debug)]
pub enum DecodeError {
    /// It is not what it should be, and never will be: what was expected, what was found and where. The source's
    /// [`OnError`](crate::OnError) decides what becomes of it.
    Malformed(String),
    /// It could not be looked at, because a schema registry does not answer, for example. That fails the job, whatever the message.
    Failed(Error),
}

impl DecodeError {
    /// The message is not what it should be.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed(message.into())
    }
}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How records of type `T` become messages.
pub trait SerializationSchema<T>: Send + Sync + 'static {
    /// Makes the encoder of one subtask.
    ///
    /// # Errors
    /// If no record of this type can be encoded: the schema does not fit `T`, or is not to be had.
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<T>>>;
}

/// Encodes records, one message each.
pub trait MessageEncoder<T>: Send {
    /// Appends the message for `record` to `out`.
    ///
    /// # Errors
    /// If the record cannot be said in this format. What was appended before the error is taken away by the caller, and another record may come:
    /// nothing of this one may be left in the encoder.
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult;
}

/// Messages as they are: `raw` of Flink, with records of type `Vec<u8>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawFormat;

impl DeserializationSchema<Vec<u8>> for RawFormat {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<Vec<u8>>>> {
        Ok(Box::new(*self))
    }
}

impl MessageDecoder<Vec<u8>> for RawFormat {
    fn decode(&mut self, message: &[u8], out: &mut Vec<Vec<u8>>) -> std::result::Result<(), DecodeError> {
        out.push(message.to_vec());
        Ok(())
    }
}

impl SerializationSchema<Vec<u8>> for RawFormat {
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<Vec<u8>>>> {
        Ok(Box::new(*self))
    }
}

impl MessageEncoder<Vec<u8>> for RawFormat {
    fn encode(&mut self, record: &Vec<u8>, out: &mut Vec<u8>) -> UserResult {
        out.extend_from_slice(record);
        Ok(())
    }
}

/// Messages as UTF-8 text: Flink's `SimpleStringSchema`, but a message that is not UTF-8 is malformed instead of mended.
#[derive(Clone, Copy, Debug, Default)]
pub struct StringFormat;

impl DeserializationSchema<String> for StringFormat {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<String>>> {
        Ok(Box::new(*self))
    }
}

impl MessageDecoder<String> for StringFormat {
    fn decode(&mut self, message: &[u8], out: &mut Vec<String>) -> std::result::Result<(), DecodeError> {
        let text = std::str::from_utf8(message).map_err(|error| {
            DecodeError::malformed(format!("not UTF-8: byte {} is no character", error.valid_up_to() + 1))
        })?;
        out.push(text.to_owned());
        Ok(())
    }
}

impl SerializationSchema<String> for StringFormat {
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<String>>> {
        Ok(Box::new(*self))
    }
}

impl MessageEncoder<String> for StringFormat {
    fn encode(&mut self, record: &String, out: &mut Vec<u8>) -> UserResult {
        out.extend_from_slice(record.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf_8_is_named_with_its_position() {
        let mut decoder = StringFormat.create_decoder().unwrap();
        let mut out = Vec::new();
        decoder.decode("für".as_bytes(), &mut out).unwrap();
        let malformed = decoder.decode(b"ab\xff", &mut out);
        assert!(
            matches!(&malformed, Err(DecodeError::Malformed(why)) if why.contains("byte 3")),
            "{malformed:?}"
        );
        assert_eq!(out, ["für"]);
    }

    #[test]
    fn raw_messages_come_back_as_they_were() {
        let mut message = Vec::new();
        RawFormat.create_encoder().unwrap().encode(&vec![0, 255], &mut message).unwrap();
        let mut out = Vec::new();
        RawFormat.create_decoder().unwrap().decode(&message, &mut out).unwrap();
        assert_eq!(out, [vec![0, 255]]);
    }
}
