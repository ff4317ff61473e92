//! What a log is opened with, for the fuzz targets of the workspace and for nobody else.

use crate::log::Log;
use flott_env::FileSystem;
use flott_types::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// The keys of requests that a log knows, in the order in which they came, and how many records each request had.
///
/// # Errors
/// If the log cannot be opened.
pub fn known_keys(fs: Arc<dyn FileSystem>, directory: &Path) -> Result<Vec<(String, u32)>> {
    let log = Log::open(fs, directory, u64::MAX)?.ok_or_else(|| Error::subtask("the log is in use"))?;
    let state = log.shared().state();
    Ok(state.keys.known().map(|entry| (entry.key.clone(), entry.n_records)).collect())
}
