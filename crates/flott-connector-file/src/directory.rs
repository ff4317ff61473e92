//! Directories that survive a power failure.
//!
//! A directory is an entry of its parent: a file that is synced in a directory that is not can be lost.

use crate::files::is_remote;
use flott_env::FileSystem;
use flott_types::{Error, Result};
use std::io;
use std::path::Path;

pub(crate) fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    Error::subtask(format!("cannot {what} '{}'", path.display())).with_source(error)
}

/// The directory that has `path` as an entry.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// Creates the directory of a sink with its parents.
pub(crate) fn create_durably(fs: &dyn FileSystem, directory: &Path) -> Result<()> {
    // In an object store a directory is the beginning of names.
    if is_remote(directory) {
        return Ok(());
    }
    let create = || -> io::Result<()> {
        let is_missing =
            |path: &&Path| !path.as_os_str().is_empty() && !fs.metadata(path).is_ok_and(|it| it.is_dir);
        let missing: Vec<&Path> = directory.ancestors().take_while(is_missing).collect();
        fs.create_dir_all(directory)?;
        missing.iter().filter_map(|path| parent(path)).try_for_each(|path| fs.sync_dir(path))?;
        match parent(directory) {
            // Whoever created it may have died before it synced the parent. Some parents cannot be opened, but those the user made.
            Some(path) if missing.is_empty() => match fs.sync_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                synced => synced,
            },
            Some(_) | None => Ok(()),
        }
    };
    create().map_err(|error| {
        Error::user(format!("cannot create directory '{}'", directory.display())).with_source(error)
    })
}

/// Creates `directory` below `base`, which is durable itself. What exists is synced too: a neighbour may have created it a moment ago.
pub(crate) fn create_durably_below(fs: &dyn FileSystem, base: &Path, directory: &Path) -> Result<()> {
    let create = || {
        fs.create_dir_all(directory)?;
        let mut parents = directory.ancestors().skip(1).take_while(|parent| parent.starts_with(base));
        parents.try_for_each(|parent| fs.sync_dir(parent))
    };
    create().map_err(|error| cannot("create directory", directory, error))
}
