//! The file source and sink in whole jobs that die, on a disk that loses what was not synced.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod exactly_once;
