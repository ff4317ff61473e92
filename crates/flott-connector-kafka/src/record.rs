//! What a record of Kafka is, and how it becomes one of the user's.

use crate::offsets::TopicPartition;
use flott_api::message::{DecodeError, DeserializationSchema, MessageDecoder};
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
    pub headers: &'a dyn Fn() -> Vec<Header>,
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
}

/// Only the value; tombstones say nothing.
pub(crate) struct ValueOnly<F>(pub(crate) F);

struct ValueDeserializer<T>(Box<dyn MessageDecoder<T>>);

impl<T: 'static, F: DeserializationSchema<T>> RecordSchema<T> for ValueOnly<F> {
    fn create_deserializer(&self) -> Result<Box<dyn RecordDeserializer<T>>> {
        Ok(Box::new(ValueDeserializer(self.0.create_decoder()?)))
    }
}

impl<T> RecordDeserializer<T> for ValueDeserializer<T> {
    fn deserialize(
        &mut self,
        message: &Message<'_>,
        out: &mut Vec<T>,
    ) -> std::result::Result<(), DecodeError> {
        message.value.map_or(Ok(()), |value| self.0.decode(value, out))
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

fn in_part<E>(part: &str) -> impl Fn(DecodeError) -> E + '_
where
    E: From<DecodeError>,
{
    move |error| match error {
        DecodeError::Malformed(why) => DecodeError::Malformed(format!("{part}: {why}")).into(),
        DecodeError::Failed(error) => DecodeError::Failed(error).into(),
    }
}

impl<K: Send + Clone, V: Send> RecordDeserializer<KafkaRecord<K, V>> for WholeDeserializer<K, V> {
    fn deserialize(
        &mut self,
        message: &Message<'_>,
        out: &mut Vec<KafkaRecord<K, V>>,
    ) -> std::result::Result<(), DecodeError> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        if let Some(key) = message.key {
            self.key.decode(key, &mut keys).map_err(in_part::<DecodeError>("key"))?;
        }
        if let Some(value) = message.value {
            self.value.decode(value, &mut values).map_err(in_part::<DecodeError>("value"))?;
        }
        let key = keys.into_iter().next();
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
