//! The kit for connectors: it accepts connectors that are right, and catches each of a number of mistakes that others have made.

mod sinks;
mod sources;
mod toy_eager_sink;
mod toy_pool_sink;
mod toy_sink;
mod toy_source;
