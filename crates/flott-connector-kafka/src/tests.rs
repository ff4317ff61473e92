//! Tests against a model of a broker.

mod contract;
mod inheritance;
mod model;
mod positions;
mod time_outs;
