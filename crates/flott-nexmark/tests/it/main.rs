//! The programs against the oracles.

mod oracle;
