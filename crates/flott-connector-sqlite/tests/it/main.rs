//! SQLite sinks in whole jobs whose subtasks die, in the real world: threads that write to one file.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod exactly_once;
