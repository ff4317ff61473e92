//! Programs run whole, in the real world and in the simulated one.

mod basics;
mod support;
mod windows;
