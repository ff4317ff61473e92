//! The programs against the oracles.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod oracle;
