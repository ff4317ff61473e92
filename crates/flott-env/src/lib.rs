//! The seam to the outside world: clock, randomness, spawning, files, network.
//!
//! Everything in the engine that is not a function of its inputs goes through an [`Env`]. There are two:
//! the real one ([`Env::real`]) and the simulated one ([`sim::Simulation`]), a single thread in which a
//! seed decides which ready task runs next and time jumps to the next timer when all tasks wait. The
//! same engine code runs in both. `clippy.toml` forbids the ways around this crate.
//!
//! It is *not* an async runtime of its own: real tasks run on tokio, channels are tokio's (they need no
//! runtime).
//!
//! Reading order: `env` (the handle), `real`, `sim`, `fs`, `net`.

#![deny(missing_docs)]

mod canary;
mod env;
mod fs;
mod net;
mod real;
pub mod sim;

pub use canary::canary;
#[cfg(feature = "canaries")]
pub use canary::release_canary;
pub use env::{Env, EnvBackend, Instant, TaskHandle, TaskPanic, yield_now};
pub use fs::{FileId, FileLock, FileSystem, FileWrite, Metadata, ReadSeek};
pub use net::AsyncStream;

/// Channels; all of them bounded but `watch`, which holds one value.
pub mod sync {
    pub use tokio::sync::{Notify, mpsc, oneshot, watch};
}
