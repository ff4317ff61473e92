//! Real servers for tests, benchmarks and trying things out.
//!
//! [`Kafka`] is an Apache Kafka broker of its own: installed below `target/services` when it is first wanted, started on free ports with its data in a
//! temporary directory, stopped when it is dropped. Where that cannot be had, an error says why, and who wanted it says that it was skipped.
//!
//! [`Postgres`] is a PostgreSQL server, from Debian's package; [`S3`], [`Gcs`] and [`Azure`] are object stores; [`SchemaRegistryServer`] keeps
//! schemas of messages. [`Proxy`] stands in front of each
//! that is struck and breaks connections; [`Message`] is what one reads and changes between clients and servers of HTTP.
//!
//! [`run_tests`] is the harness of tests that share one of them.
//!
//! It is *not* used by the engine, nor by tests that can do without.

#![expect(clippy::disallowed_methods, reason = "starts real processes and waits for them")]

mod azure;
mod certificates;
mod gcs;
mod harness;
mod http;
mod kafka;
mod openssl;
mod postgres;
mod process;
mod proxy;
mod s3;
mod schema_registry;

pub use azure::Azure;
pub use gcs::Gcs;
pub use harness::{Test, run_tests};
pub use http::Message;
pub use kafka::{KAFKA_PASSWORD, Kafka, Listener};
pub use postgres::{POSTGRES_PASSWORD, Postgres, url_at};
pub use process::{Signal, block_on, free_port, services_dir, wait_for, wait_until};
pub use proxy::{Proxy, Trap};
pub use s3::S3;
pub use schema_registry::SchemaRegistryServer;
