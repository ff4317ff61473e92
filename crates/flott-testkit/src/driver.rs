//! Drivers of one operator.

mod common;
mod functions;
mod one_input;
mod two_input;
mod window;

pub use common::DriverMetrics;
pub(crate) use common::common_methods;
pub use one_input::TestDriver;
pub use two_input::TwoInputTestDriver;
pub use window::WindowDriver;
