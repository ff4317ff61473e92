//! What a record of Kafka is, and how it becomes one of the user's.

use crate::offsets::TopicPartition;
use flott_api::message::{DecodeError, DeserializationSchema, MalformedMessage, MessageDecoder};
use flott_types::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Header {
    /// Its name; it may come several times.
    pub name: String,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// A record as it comes from the broker.
pub struct Message<'a> {
    /// The partition it is from.
    pub partition: &'a TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// In milliseconds since the epoch: when it was made, or when it was appended, as the topic says.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Copies the headers, for who wants them.
    pub headers: &'a (dyn Fn() -> Vec<Header> + Sync),
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("partition", self.partition)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// A record with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaRecord<K, V> {
    /// The partition it is from.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// In milliseconds since the epoch.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<K>,
    /// The value; none is a tombstone.
    pub value: Option<V>,
    /// The headers.
    pub headers: Vec<Header>,
}

/// How records of Kafka become records of type `T`: Flink's `KafkaRecordDeserializationSchema`.
pub trait RecordSchema<T>: Send + Sync + 'static {
    /// Makes the deserializer of one subtask.
    ///
    /// # Errors
    /// As [`DeserializationSchema::create_decoder`].
    fn create_deserializer(&self) -> Result<Box<dyn RecordDeserializer<T>>>;
}

/// Turns records of Kafka into those of the user.
pub trait RecordDeserializer<T>: Send {
    /// Appends what `message` says: see [`MessageDecoder::decode`].
    ///
    /// # Errors
    /// As [`MessageDecoder::decode`].
    fn deserialize(
        &mut self,
        message: &Message<'_>,
        out: &mut Vec<T>,
    ) -> std::result::Result<(), DecodeError>;

    /// Appends what the messages say that were kept: see [`MessageDecoder::flush`].
    ///
    /// # Errors
    /// As [`MessageDecoder::flush`].
    fn flush(&mut self, out: &mut Vec<T>, malformed: &mut dyn FnMut(MalformedMessage<'_>)) -> Result<()> {
        let _unused = (out, malformed);
        Ok(())
    }
}

/// The deserializer as the decoder of the message at hand; flushing needs none.
pub(crate) struct DecodesMessage<'a, T> {
    pub(crate) deserializer: &'a mut dyn RecordDeserializer<T>,
    pub(crate) message: Option<&'a Message<'a>>,
}

impl<T> MessageDecoder<T> for DecodesMessage<'_, T> {
    fn decode(&mut self, _: &[u8], out: &mut Vec<T>) -> std::result::Result<(), DecodeError> {
        self.message.map_or(Ok(()), |message| self.deserializer.deserialize(message, out))
    }

    fn flush(&mut self, out: &mut Vec<T>, malformed: &mut dyn FnMut(MalformedMessage<'_>)) -> Result<()> {
        self.deserializer.flush(out, malformed)
    }
}

/// Only the value; tombstones say nothing.
pub(crate) struct ValueOnly<F>(pub(crate) F);

struct ValueDeserializer<T> {
    value: Box<dyn MessageDecoder<T>>,
    n_messages: usize,
    /// Since the last flush, which messages have a value.
    with_value: Vec<usize>,
}

impl<T: 'static, F: DeserializationSchema<T>> RecordSchema<T> for ValueOnly<F> {
    fn create_deserializer(&self) -> Result<Box<dyn RecordDeserializer<T>>> {
        let value = self.0.create_decoder()?;
        Ok(Box::new(ValueDeserializer { value, n_messages: 0, with_value: Vec::new() }))
    }
}

impl<T> RecordDeserializer<T> for ValueDeserializer<T> {
    fn deserialize(
        &mut self,
        message: &Message<'_>,
        out: &mut Vec<T>,
    ) -> std::result::Result<(), DecodeError> {
        let idx = self.n_messages;
        self.n_messages += 1;
        let Some(value) = message.value else { return Ok(()) };
        self.with_value.push(idx);
        self.value.decode(value, out)
    }

    fn flush(&mut self, out: &mut Vec<T>, malformed: &mut dyn FnMut(MalformedMessage<'_>)) -> Result<()> {
        let with_value = &self.with_value;
        self.value.flush(out, &mut |message| {
            let idx = with_value.get(message.idx).copied().unwrap_or(message.idx);
            malformed(MalformedMessage { idx, ..message });
        })?;
        self.with_value.clear();
        self.n_messages = 0;
        Ok(())
    }
}

/// Key, value and all the rest.
pub(crate) struct Whole<K, V> {
    pub(crate) key: Arc<dyn DeserializationSchema<K>>,
    pub(crate) value: Arc<dyn DeserializationSchema<V>>,
}

struct WholeDeserializer<K, V> {
    key: Box<dyn MessageDecoder<K>>,
    value: Box<dyn MessageDecoder<V>>,
}

impl<K: Send + Clone + 'static, V: Send + 'static> RecordSchema<KafkaRecord<K, V>> for Whole<K, V> {
    fn create_deserializer(&self) -> Result<Box<dyn RecordDeserializer<KafkaRecord<K, V>>>> {
        let (key, value) = (self.key.create_decoder()?, self.value.create_decoder()?);
        Ok(Box::new(WholeDeserializer { key, value }))
    }
}

/// The records of one part of one message; what the decoder would keep to make a record of several messages is flushed.
fn decode_part<T>(
    part: &str,
    decoder: &mut dyn MessageDecoder<T>,
    bytes: Option<&[u8]>,
) -> std::result::Result<Vec<T>, DecodeError> {
    let mut records = Vec::new();
    let Some(bytes) = bytes else { return Ok(records) };
    let mut why = None;
    let decoded = decoder.decode(bytes, &mut records).and_then(|()| {
        Ok(decoder.flush(&mut records, &mut |malformed| why = Some(DecodeError::Malformed(malformed.why)))?)
    });
    match decoded.and(why.map_or(Ok(()), Err)) {
        Ok(()) => Ok(records),
        Err(DecodeError::Malformed(why)) => Err(DecodeError::Malformed(format!("{part}: {why}"))),
        Err(DecodeError::Failed(error)) => Err(DecodeError::Failed(error)),
    }
}

impl<K: Send + Clone, V: Send> RecordDeserializer<KafkaRecord<K, V>> for WholeDeserializer<K, V> {
    fn deserialize(
        &mut self,
        message: &Message<'_>,
        out: &mut Vec<KafkaRecord<K, V>>,
    ) -> std::result::Result<(), DecodeError> {
        let key = decode_part("key", self.key.as_mut(), message.key)?.into_iter().next();
        let values = decode_part("value", self.value.as_mut(), message.value)?;
        let record = |value| KafkaRecord {
            partition: message.partition.clone(),
            offset: message.offset,
            timestamp: message.timestamp,
            key: key.clone(),
            value,
            headers: (message.headers)(),
        };
        // A value may say several things, each of which is a record; or nothing, as a tombstone does.
        if values.is_empty() {
            out.push(record(None));
        } else {
            out.extend(values.into_iter().map(Some).map(record));
        }
        Ok(())
    }
}
