//! The binary `flott`, run as a user runs it.

#![expect(clippy::disallowed_methods, reason = "the files of a real process, seen from outside")]

mod bad_messages;
mod cli;
mod demo;
mod export;
mod fixtures;
mod flights;
mod kills;
mod savepoint;
mod support;
