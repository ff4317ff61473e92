//! Real processes under `kill -9`, SIGSTOP, full disks and clocks that jump, with a reader of committed output all the while.
//!
//! A *round* is one job, from its start to its end. A *victim* is a process that runs it: this binary again. The *harness* starts
//! victims, strikes them, starts others in their place, at another parallelism and with another state backend, and watches what
//! readers of the output see. The job is one of [`faults`](crate::faults), so the reference says which rows there must be, and when each is due.
//!
//! A victim runs the engine as it is. What halts it at a named step of the protocol is around the engine: an environment whose files
//! tell what happens to them, and sinks that tell when they are called. A step that is halted at takes place only if the harness lets it.
//!
//! Reading order: `point` (where a process can be halted), `probe`, `probed_env` and `probed_sink` (how), `victim` (the process), `output` and
//! `watch` (who reads), `process`, `disk`, `counts`, `round` (one job), `strikes` (what is done to it), `campaign`.

mod campaign;
mod counts;
mod disk;
mod output;
mod point;
mod probe;
mod probed_env;
mod probed_sink;
mod process;
mod round;
mod strikes;
mod victim;
mod watch;

pub use campaign::{Chaos, ChaosReport};
pub use victim::run_victim;
