//! Apache Kafka as source and sink.
//!
//! * [`KafkaSource`] reads partitions as splits. Where it starts and ends is decided once, as offsets, and is in a checkpoint before the first
//!   record is read. Offsets are committed to a consumer group when a checkpoint is complete, for who watches: nothing is restored from them.
//! * [`KafkaSink`] writes at least once, or exactly once: then each subtask writes a transaction per checkpoint, which is committed when that is
//!   complete. Readers with `isolation.level = read_committed` see each record once.
//!
//! It is *not* a client library: `rdkafka` fetches and produces. What that cannot do, to list and to end transactions of a process that is
//! gone, `client/coordinator.rs` asks of the brokers itself.
//!
//! Invariants: everything that this crate wants of Kafka goes through [`client::Client`], so that the same source and sink run against a
//! simulated broker; an offset is a position only when the record before it was handed on; a transaction that a checkpoint holds is
//! ended by its name, producer and epoch, and by nothing else.
//!
//! Reading order: `source` and `sink` (what users see), `config`, `record`, `offsets`, `enumerator`, `split`, `reader`; `writer`, `transactional`,
//! `name`, `committer`; `client`.

#![deny(missing_docs)]

pub mod client;
mod committer;
mod config;
mod dead_letter;
mod enumerator;
mod name;
mod offsets;
mod reader;
mod record;
mod sink;
mod source;
mod split;
#[cfg(test)]
mod tests;
mod transactional;
mod writer;

pub use config::{DeliveryGuarantee, KafkaPartitioner, PartitionOf, TopicSelection};
pub use dead_letter::DeadLetter;
pub use offsets::{OffsetResetStrategy, OffsetsInitializer, TopicPartition};
pub use reader::KafkaReader;
pub use record::{Header, KafkaRecord, Message, RecordDeserializer, RecordSchema};
pub use sink::KafkaSink;
pub use source::KafkaSource;
pub use split::KafkaSplit;
pub use writer::KafkaWriter;
