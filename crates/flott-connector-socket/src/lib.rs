//! Text lines from a TCP connection, as a source for trying things out.
//!
//! [`SocketSource`] connects to `host:port` and yields the lines that come. It is *not* a source for data that matters:
//! what was read and not processed when a job fails is gone, since a socket cannot be read again.
//!
//! Reading order: `config` (what users see), `split`, `reader`, `lines` (bytes to lines).

#![deny(missing_docs)]

mod config;
mod lines;
mod reader;
mod split;
#[cfg(test)]
mod tests;

pub use config::SocketSource;
pub use reader::SocketReader;
pub use split::SocketSplit;

/// How long a line may be unless the source says otherwise: a longer one is a bad record.
pub const MAX_LINE_BYTES_DEFAULT: usize = 16 << 20;
