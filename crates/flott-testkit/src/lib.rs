//! Tests of dataflow programs, without threads, sleeps or clocks.
//!
//! * [`TestDriver`], [`TwoInputTestDriver`]: drive one operator, or the function in it: push records and watermarks, let
//!   virtual time pass, read outputs and side outputs, take and restore snapshots, also at another parallelism.
//! * [`Element`]: streams as lines of text, `+1@10 +2@11 W12`, for [`TestDriver::run`] and expectations.
//! * [`SnapshotCheck`]: restarts an operator after every element and compares with the uninterrupted run;
//!   [`random_stream`] makes input for it.
//! * [`simulate`]: a small whole program in one simulated process.
//! * [`broker`]: a model of Apache Kafka's brokers, with faults.
//! * [`contract`]: what every source and sink must hold, as cases that a connector is put through.
//! * [`sink_steps`]: the subtasks of a sink step by step, for what is special about one.
//!
//! It is for tests: what the operator, or the test, does wrong is an error or a panic that says so. It is *not* the
//! simulator of clusters and faults, which is `flott-sim`.
//!
//! Reading order: `element`, `subtask` (one operator), `subtasks` (what the engine does around it), `driver` (the public
//! face of that), `check`.

#![deny(missing_docs)]

pub mod broker;
mod check;
pub mod contract;
mod driver;
mod element;
mod key_value;
mod log;
mod random;
mod route;
mod simulate;
pub mod sink_steps;
mod subtask;
mod subtasks;
mod text;
mod world;

pub use check::{OutputOrder, SnapshotCheck};
pub use driver::{DriverMetrics, TestDriver, TwoInputTestDriver, WindowDriver};
pub use element::{Element, TwoInputElement, parse_stream, print_stream};
pub use key_value::KeyValue;
pub use random::{random_stream, random_two_input_stream};
pub use simulate::{simulate, simulate_collect, simulate_in};
pub use subtasks::Input;

/// The page of the guide for authors of connectors is an example too.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/connectors.md")]
mod guide {}
