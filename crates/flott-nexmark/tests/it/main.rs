//! The programs against the oracles.

mod dbg;
mod oracle;
