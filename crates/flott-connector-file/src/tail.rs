//! Follows log files that grow and are rotated.
//!
//! Reading order: `config` (what users see), `split` (what a checkpoint knows of files), `names` (which files belong to the source),
//! `follow` (which file is which), `reader`.

mod config;
mod follow;
mod names;
mod reader;
mod split;
#[cfg(test)]
mod tests;

pub use config::FileTailSource;
pub use reader::TailReader;
pub use split::TailSplit;
