//! Programs run whole, in the real world and in the simulated one.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod bad_records;
mod basics;
mod checkpoints;
mod evolution;
mod failover;
mod held;
mod hybrid;
mod increments;
mod life_cycle;
mod objects;
mod programs;
mod savepoints;
mod support;
mod time_travel;
mod transactional;
mod unaligned;
mod windows;
