//! The Nexmark queries as typed DataStream programs, as a user of Flott writes them.
//!
//! What a query computes, its SQL and its result records are in
//! [`flott_connector_nexmark::queries`]; naive versions to compare with are in [`flott_connector_nexmark::oracle`].
//! Here they are programs: each reads only the kinds of events that it needs, drops and shrinks records before they
//! travel, and aggregates where they are.
//!
//! It is *not* a benchmark: it reads no clock. `flott-bench` and `flott nexmark` time it.
//!
//! Invariant: the [`Fingerprint`](flott_connector_nexmark::oracle::Fingerprint) of a query's results depends on the
//! options of the generator alone, neither on parallelism nor on batch boundaries (q12 apart, which reads the clock).
//!
//! Reading order: [`Query`], `run`, `sink`, `ceiling`, then [`programs`] with a file per query.

#![deny(missing_docs)]

mod ceiling;
pub mod programs;
mod query;
mod run;
mod sink;

pub use ceiling::generate;
pub use query::Query;
pub use run::{QueryResults, QueryRun, SinkKind, add_query, run};
pub use sink::{FingerprintSink, FingerprintWriter};
