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
    if fs.metadata(&dir.join(MANIFEST_NAME)).is_ok() {
        found.push(dir.to_owned());
    }
    for entry in entries(fs.as_ref(), dir)? {
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

/// What is in a directory; nothing if it was deleted meanwhile.
fn entries(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>> {
    match fs.list(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        entries => entries.map_err(|error| failed(&format!("list '{}'", dir.display()), error)),
    }
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
    // A file that is gone by now has no length.
    let parts: Vec<_> =
        parts.filter_map(|file| fs.metadata(file).ok()).filter(|found| !found.is_dir).collect();
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
