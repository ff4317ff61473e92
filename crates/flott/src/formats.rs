//! Formats of messages, each behind a cargo feature of its own: what a connector of a message broker is given.
//!
//! [`RawFormat`](crate::message::RawFormat) and [`StringFormat`](crate::message::StringFormat) need none and are in [`crate::message`].

/// Arrow batches as records, which the other formats make by their method `arrow`.
#[cfg(feature = "arrow")]
pub mod arrow {
    pub use flott_format_arrow::*;
}

/// Avro, plain or with a schema registry.
#[cfg(feature = "avro")]
pub mod avro {
    pub use flott_format_avro::AvroFormat;
}

/// Protocol Buffers, plain or with a schema registry.
#[cfg(feature = "protobuf")]
pub mod protobuf {
    pub use flott_format_protobuf::ProtobufFormat;
}

/// A client of Confluent's schema registry, and one for tests.
#[cfg(any(feature = "avro", feature = "protobuf"))]
pub mod registry {
    pub use flott_schema_registry::*;
}

/// CSV: a row per message.
#[cfg(feature = "csv")]
pub mod csv {
    pub use flott_format_csv::CsvFormat;
}

/// JSON: a value per message, or a change of a table as Debezium says it.
#[cfg(feature = "json")]
pub mod json {
    pub use flott_format_json::*;
}
