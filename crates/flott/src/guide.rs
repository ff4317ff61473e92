//! The guide: every topic with examples that compile, from the first program to timers.
//!
//! The pages are the files of `docs/guide` in the repository. Their examples run as tests of this crate, so what they
//! show works with this version.
//!
//! 0. [`getting_started`]: a package.
//! 1. [`environment`]: programs, configuration, execution, names and parallelism.
//! 2. [`sources`]: where records come from, and a source of your own.
//! 3. [`transformations`]: map to key_by, exchange kinds, process functions.
//! 4. [`event_time`]: timestamps, watermarks, idleness, alignment.
//! 5. [`windows`]: assigners, triggers, evictors, lateness.
//! 6. [`state`]: keyed state, timers, time to live, operator state.
//! 7. [`streams`]: side outputs, union, connect, broadcast, joins.
//! 8. [`async_io`]: calls to the outside, many at a time.
//! 9. [`sinks`]: where results go, and a sink of your own.
//! 10. `kafka` (with the feature of that name): topics of Apache Kafka as sources and sinks.
//! 11. [`checkpoints`]: what a job goes on from after a failure, and how it is started again; [`savepoints`]: snapshots that are yours: take, restore, look at, export.
//! 12. `postgres` (with the feature of that name): PostgreSQL databases.
//! 13. [`formats`]: how records stand in messages.
//! 14. [`testing`]: a function alone in virtual time, a whole job in a simulated world.
//! 15. [`connectors`]: sources and sinks of your own that hold what they promise.
//! 16. [`proofs`]: how exactly once is tried out.

// Of two definitions of a link the first one counts: these are for rustdoc, the page's own for the repository.
#[doc = "[event time]: event_time"]
#[doc = "[windows]: windows"]
#[doc = "[sources]: sources"]
#[doc = "[state and timers]: state"]
#[doc = "[sinks]: sinks"]
#[cfg_attr(feature = "kafka", doc = "[Kafka]: kafka")]
#[cfg_attr(feature = "postgres", doc = "[PostgreSQL]: postgres")]
#[doc = "[testing]: testing"]
#[doc = "[savepoints]: savepoints"]
#[doc = include_str!("../../../docs/getting-started.md")]
pub mod getting_started {}

#[doc = include_str!("../../../docs/guide/environment.md")]
pub mod environment {}

#[doc = include_str!("../../../docs/guide/sources.md")]
pub mod sources {}

#[doc = include_str!("../../../docs/guide/transformations.md")]
pub mod transformations {}

#[doc = include_str!("../../../docs/guide/event-time.md")]
pub mod event_time {}

#[doc = include_str!("../../../docs/guide/windows.md")]
pub mod windows {}

#[doc = include_str!("../../../docs/guide/state.md")]
pub mod state {}

#[doc = include_str!("../../../docs/guide/streams.md")]
pub mod streams {}

#[doc = include_str!("../../../docs/guide/async-io.md")]
pub mod async_io {}

#[doc = include_str!("../../../docs/guide/sinks.md")]
pub mod sinks {}

#[cfg(feature = "kafka")]
#[doc = include_str!("../../../docs/guide/kafka.md")]
pub mod kafka {}

#[cfg(feature = "postgres")]
#[doc = include_str!("../../../docs/guide/postgres.md")]
pub mod postgres {}

#[doc = include_str!("../../../docs/guide/formats.md")]
pub mod formats {}

#[doc = include_str!("../../../docs/guide/checkpoints.md")]
pub mod checkpoints {}

#[doc = include_str!("../../../docs/guide/savepoints.md")]
pub mod savepoints {}

#[doc = include_str!("../../../docs/guide/testing.md")]
pub mod testing {}

// Its examples run as tests of `flott-testkit`.
#[cfg(not(doctest))]
#[doc = include_str!("../../../docs/guide/connectors.md")]
pub mod connectors {}

#[doc = include_str!("../../../docs/guide/proofs.md")]
pub mod proofs {}

/// The program of the README is an example too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
