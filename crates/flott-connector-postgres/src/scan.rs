//! Reads a table once, in parts.

mod config;
mod enumerator;
mod reader;
mod split;

pub use config::PostgresSource;
pub use reader::PostgresReader;
pub use split::PostgresSplit;
