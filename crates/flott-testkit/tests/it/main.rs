//! The kit on every operator there is, and on operators that are broken.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod asynchronous;
mod contract;
mod drivers;
mod harness;
mod joins;
mod pipes;
mod process;
mod simulation;
mod sinks;
mod support;
mod timestamps;
mod two_inputs;
mod windows;
