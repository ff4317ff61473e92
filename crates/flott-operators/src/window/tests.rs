//! The general window operator, and what the tests of all window operators share.

mod against_model;
pub(crate) mod model;
pub(crate) mod support;
mod triggers;
