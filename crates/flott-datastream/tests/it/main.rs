//! Programs run whole, in the real world and in the simulated one.

mod basics;
mod life_cycle;
mod programs;
mod support;
mod windows;
