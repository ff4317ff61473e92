//! A flight as the input has it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One record of examples/data/flights-2013-01.csv.gz; its README describes the columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Flight {
    pub(super) sched_dep_ms: i64,
    pub(super) arrival_ms: i64,
    pub(super) carrier: String,
    pub(super) flight: u32,
    pub(super) origin: String,
    pub(super) dest: String,
    /// `None` for a flight that never left.
    pub(super) dep_delay_min: Option<i32>,
    pub(super) cancelled: bool,
}

impl fmt::Display for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}-{}", self.carrier, self.flight, self.origin, self.dest)
    }
}
