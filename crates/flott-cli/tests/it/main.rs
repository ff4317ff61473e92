//! The binary `flott`, run as a user runs it.

mod cli;
mod demo;
mod flights;
mod support;
