//! Random programs, the checker on wrong results, and the bugs that were found so far.

mod chaos;
mod faults;
mod mistakes;
mod plans;
mod scenarios;
mod seeds;
