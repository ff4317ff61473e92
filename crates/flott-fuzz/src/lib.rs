//! Decoders of bytes that come from outside, as functions of bytes that must return: without a panic, without end, without unbounded
//! memory. Snapshots, state, messages, files, sockets, configuration and what PostgreSQL and Kafka answer to clients of our own are here; answers that
//! libraries read are not, nor what has a checksum that is compared before anybody decodes it: parked sections of state, and Arrow batches in
//! snapshots, whose library panics over what it has not written. Bytes that a target accepts are used, and what
//! they mean is written and read once more where there is a way to write it.
//!
//! * `target`: [`Target`], a function with its seeds, and [`TARGETS`], all of them. `targets`: one file per kind of decoder.
//! * `mutate`: random changes to seeds, for a run on any toolchain. It knows nothing of coverage; `fuzz/` has the same targets for libFuzzer.
//! * `regressions/TARGET`: inputs that once did harm; they are seeds, too.
//!
//! `cargo test -p flott-fuzz` runs seeds and some changes of them, `cargo xtask fuzz` goes on for longer.

#![expect(clippy::expect_used, reason = "a development tool: seeds that cannot be made are its own bug")]
#![deny(missing_docs)]

mod mutate;
mod target;
mod targets;
#[cfg(test)]
mod tests;

pub use mutate::Mutator;
pub use target::{TARGETS, Target, find};
