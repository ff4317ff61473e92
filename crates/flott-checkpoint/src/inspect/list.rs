//! The checkpoints and savepoints below a directory, complete or not.

use crate::inspect::kind_name;
use crate::manifest::MANIFEST_NAME;
use crate::owner::failed;
use crate::restore::open_snapshot;
use flott_env::{Env, FileSystem};
use flott_types::{Error, Result};
use serde::Serialize;
use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};

/// A directory that looks like a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedSnapshot {
    /// Its directory.
    pub path: String,
    /// Whether it can be restored.
    pub completeness: Completeness,
    /// What is wrong with it, unless it is complete.
    pub problem: Option<String>,
    /// `checkpoint`, `savepoint`, `savepoint (stop)`, `savepoint (stop with drain)`; of one that is not complete, by its name.
    pub kind: &'static str,
    /// The job that took it, if known.
    pub job_id: Option<String>,
    /// Its number, if known.
    pub checkpoint_id: Option<u64>,
    /// When it was triggered; if it is not complete, when its newest file was written. In milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Bytes in parts.
    pub bytes: u64,
    /// Number of parts.
    pub files: usize,
}

/// Whether a snapshot can be restored, by its manifest alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Completeness {
    /// It has a manifest, and that is whole. `verify_snapshot` looks at the other files.
    Complete,
    /// It has no manifest: it is being written, or was aborted.
    Incomplete,
    /// Its manifest is not what was written, or of a version that this build does not read.
    Damaged,
}

/// The snapshots in `dir`: `dir` itself, `chk-<n>` and `savepoint-…` in it, and those in its directories of jobs. Newest first.
///
/// # Errors
/// [`UserError`](flott_types::ErrorKind::UserError) if there is no such directory, [`Retry`](flott_types::ErrorKind::Retry) if it cannot be listed.
pub fn list_snapshots(env: &Env, dir: &Path) -> Result<Vec<ListedSnapshot>> {
    let fs = env.fs();
    let shown = dir.display();
    match fs.metadata(dir) {
        Ok(metadata) if metadata.is_dir => {}
        Ok(_) => return Err(Error::user(format!("'{shown}' is not a directory"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::user(format!("there is no directory '{shown}'")));
        }
        Err(error) => return Err(failed(&format!("look at '{shown}'"), error)),
    }
    let mut found = Vec::new();
    // It was there just now: that it is gone is not that it is empty.
    let in_dir = fs.list(dir).map_err(|error| failed(&format!("list '{shown}'"), error))?;
    if in_dir.iter().any(|entry| name(entry) == MANIFEST_NAME) {
        found.push(dir.to_owned());
    }
    for entry in in_dir {
        if is_snapshot(&entry) {
            found.push(entry);
        } else if is_job(&entry) {
            found.extend(entries(fs.as_ref(), &entry)?.into_iter().filter(|entry| is_snapshot(entry)));
        }
    }
    let mut listed = found.iter().map(|path| look_at(env, path)).collect::<Result<Vec<_>>>()?;
    listed.retain(|snapshot| snapshot.files > 0 || snapshot.completeness != Completeness::Incomplete);
    listed.sort_by_key(|snapshot| {
        (Reverse((snapshot.timestamp_ms, snapshot.checkpoint_id)), snapshot.path.clone())
    });
    Ok(listed)
}

/// What is in a directory that was listed; nothing if it is no directory or has been deleted meanwhile, and only if that is certain.
fn entries(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>> {
    fs.list(dir).or_else(|error| match fs.metadata(dir) {
        Ok(metadata) if !metadata.is_dir => Ok(Vec::new()),
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(failed(&format!("list '{}'", dir.display()), error)),
    })
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The number in a name `chk-<n>`.
pub(super) fn checkpoint_number(path: &Path) -> Option<u64> {
    name(path).strip_prefix("chk-")?.parse().ok()
}

fn is_snapshot(path: &Path) -> bool {
    checkpoint_number(path).is_some() || name(path).starts_with("savepoint-")
}

fn is_job(path: &Path) -> bool {
    let name = name(path);
    name.len() == 32 && u128::from_str_radix(&name, 16).is_ok()
}

fn look_at(env: &Env, path: &Path) -> Result<ListedSnapshot> {
    let fs = env.fs();
    let files = entries(fs.as_ref(), path)?;
    let has_manifest = files.iter().any(|file| name(file) == MANIFEST_NAME);
    let (completeness, problem) = match has_manifest.then(|| open_snapshot(env, path)) {
        None => {
            (Completeness::Incomplete, "it has no manifest: it is being written, or was aborted".to_owned())
        }
        Some(Ok(snapshot)) => {
            let manifest = snapshot.manifest();
            let files = manifest.files();
            return Ok(ListedSnapshot {
                path: path.display().to_string(),
                completeness: Completeness::Complete,
                problem: None,
                kind: kind_name(manifest.kind),
                job_id: Some(manifest.job_id.to_string()),
                checkpoint_id: Some(manifest.checkpoint_id.0),
                timestamp_ms: manifest.timestamp,
                bytes: files.iter().map(|file| file.len).sum(),
                files: files.len(),
            });
        }
        Some(Err(error)) => (Completeness::Damaged, error.to_string()),
    };
    let parts = files.iter().filter(|file| name(file) != MANIFEST_NAME);
    let parts = parts.filter_map(|file| match fs.metadata(file) {
        Ok(found) => (!found.is_dir).then_some(Ok(found)),
        // A file that is gone by now has no length.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(failed(&format!("look at '{}'", file.display()), error))),
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let job = path.parent().filter(|parent| is_job(parent)).map(name);
    Ok(ListedSnapshot {
        path: path.display().to_string(),
        completeness,
        problem: Some(problem),
        kind: if checkpoint_number(path).is_some() { "checkpoint" } else { "savepoint" },
        job_id: job,
        checkpoint_id: checkpoint_number(path),
        timestamp_ms: parts.iter().map(|part| part.modified_ms).max().unwrap_or_default(),
        bytes: parts.iter().map(|part| part.len).sum(),
        files: parts.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_env::{FileWrite, Metadata, ReadSeek};

    /// A disk on which there is one directory, which says this when it is listed.
    #[derive(Debug)]
    struct Unlistable(io::ErrorKind);

    impl FileSystem for Unlistable {
        fn open(&self, _: &Path) -> io::Result<Box<dyn ReadSeek>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn create(&self, _: &Path) -> io::Result<Box<dyn FileWrite>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn metadata(&self, path: &Path) -> io::Result<Metadata> {
            match name(path).as_str() {
                "gone" => Err(io::ErrorKind::NotFound.into()),
                it => Ok(Metadata { len: 0, is_dir: it != "chk-1", modified_ms: 0 }),
            }
        }
        fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
            Err(self.0.into())
        }
        fn create_dir_all(&self, _: &Path) -> io::Result<()> {
            Err(self.0.into())
        }
        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            Err(self.0.into())
        }
        fn remove(&self, _: &Path) -> io::Result<()> {
            Err(self.0.into())
        }
        fn sync_dir(&self, _: &Path) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_not_an_empty_one() {
        use io::ErrorKind as Kind;
        for kind in
            [Kind::NotFound, Kind::NotADirectory, Kind::PermissionDenied, Kind::StaleNetworkFileHandle]
        {
            let disk = Unlistable(kind);
            assert_eq!(entries(&disk, Path::new("/jobs/gone")).expect("it is gone"), Vec::<PathBuf>::new());
            assert_eq!(entries(&disk, Path::new("/jobs/chk-1")).expect("a file"), Vec::<PathBuf>::new());
            let error = entries(&disk, Path::new("/jobs/job")).expect_err("it is there");
            assert_eq!(error.to_string(), "cannot list '/jobs/job'", "{kind:?}");
        }
    }
}
