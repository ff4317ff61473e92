//! The checkpoints and savepoints below a directory, complete or not.

use crate::inspect::kind_name;
use crate::location::Location;
use crate::manifest::MANIFEST_NAME;
use crate::owner::failed;
use crate::restore::open_snapshot;
use flott_env::{Env, FileSystem};
use flott_types::{Error, Result};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeSet;
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
pub fn list_snapshots(env: &Env, dir: impl Into<Location>) -> Result<Vec<ListedSnapshot>> {
    let dir = dir.into();
    check_exists(env, &dir)?;
    let names = entries(env, &dir)?;
    if names.is_empty() {
        // It was there just now: that it is gone is not that it is empty.
        check_exists(env, &dir)?;
    }
    let mut found = Vec::new();
    if names.iter().any(|name| name == MANIFEST_NAME) {
        found.push(dir.clone());
    }
    for name in names {
        if is_snapshot(&name) {
            found.push(dir.join(&name));
        } else if is_job(&name) {
            let job = dir.join(&name);
            let of_job = entries(env, &job)?;
            found.extend(of_job.iter().filter(|entry| is_snapshot(entry)).map(|entry| job.join(entry)));
        }
    }
    let seen = found.iter().map(|path| look_at(env, path)).collect::<Result<Vec<_>>>()?;
    let complete = seen.iter().filter(|(snapshot, _)| snapshot.completeness == Completeness::Complete);
    let named: BTreeSet<_> = complete.flat_map(|(_, files)| files.iter().cloned()).collect();
    // Without a manifest, and with nothing but what newer checkpoints go on from, it is a part of these.
    let is_own = |(snapshot, files): &(ListedSnapshot, BTreeSet<String>)| {
        snapshot.completeness != Completeness::Incomplete || !files.is_subset(&named)
    };
    let mut listed: Vec<_> = seen.into_iter().filter(is_own).map(|(snapshot, _)| snapshot).collect();
    listed.sort_by_key(|snapshot| {
        (Reverse((snapshot.timestamp_ms, snapshot.checkpoint_id)), snapshot.path.clone())
    });
    Ok(listed)
}

/// A local directory that does not exist is most likely a mistake; in an object store there are none, only names.
fn check_exists(env: &Env, dir: &Location) -> Result<()> {
    let Location::Local(path) = dir else { return Ok(()) };
    match env.fs().metadata(path) {
        Ok(metadata) if metadata.is_dir => Ok(()),
        Ok(_) => Err(Error::user(format!("'{dir}' is not a directory"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::user(format!("there is no directory '{dir}'")))
        }
        Err(error) => Err(failed(&format!("look at '{dir}'"), error)),
    }
}

/// The names in a directory.
fn entries(env: &Env, dir: &Location) -> Result<Vec<String>> {
    match dir {
        Location::Local(path) => local_entries(env.fs().as_ref(), path),
        Location::Remote(_) => {
            dir.open(env)?.list("").map_err(|error| failed(&format!("list '{dir}'"), error))
        }
    }
}

/// What is in a directory that was listed; nothing if it is no directory or has been deleted meanwhile, and only if that is certain.
fn local_entries(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<String>> {
    let name = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    match fs.list(dir) {
        Ok(entries) => Ok(entries.into_iter().filter_map(name).collect()),
        Err(error) => match fs.metadata(dir) {
            Ok(metadata) if !metadata.is_dir => Ok(Vec::new()),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(failed(&format!("list '{}'", dir.display()), error)),
        },
    }
}

/// The number in a name `chk-<n>`.
pub(super) fn checkpoint_number(name: &str) -> Option<u64> {
    name.strip_prefix("chk-")?.parse().ok()
}

fn is_snapshot(name: &str) -> bool {
    checkpoint_number(name).is_some() || name.starts_with("savepoint-")
}

fn is_job(name: &str) -> bool {
    name.len() == 32 && u128::from_str_radix(name, 16).is_ok()
}

/// A file of a snapshot as its directory and its name, for manifests have moved along with what they name.
pub(super) fn in_directory(path: &str) -> String {
    let mut parts = path.rsplit('/');
    match (parts.next(), parts.next()) {
        (Some(name), Some(dir)) => format!("{dir}/{name}"),
        _ => path.to_owned(),
    }
}

/// What is in a directory, and the files of it; of a complete snapshot those that its manifest names.
fn look_at(env: &Env, path: &Location) -> Result<(ListedSnapshot, BTreeSet<String>)> {
    let store = path.open(env)?;
    let files = entries(env, path)?;
    let has_manifest = files.iter().any(|file| file == MANIFEST_NAME);
    let (completeness, problem) = match has_manifest.then(|| open_snapshot(env, path)) {
        None => {
            (Completeness::Incomplete, "it has no manifest: it is being written, or was aborted".to_owned())
        }
        Some(Ok(snapshot)) => {
            let manifest = snapshot.manifest();
            let files = manifest.files();
            let named = files.iter().map(|file| in_directory(&file.path)).collect();
            let listed = ListedSnapshot {
                path: path.to_string(),
                completeness: Completeness::Complete,
                problem: None,
                kind: kind_name(manifest.kind),
                job_id: Some(manifest.job_id.to_string()),
                checkpoint_id: Some(manifest.checkpoint_id.0),
                timestamp_ms: manifest.timestamp,
                bytes: files.iter().map(|file| file.len).sum(),
                files: files.len(),
            };
            return Ok((listed, named));
        }
        Some(Err(error)) => (Completeness::Damaged, error.to_string()),
    };
    let parts = files.iter().filter(|file| *file != MANIFEST_NAME);
    let parts = parts.filter_map(|file| match store.metadata(file) {
        Ok(found) => (!found.is_dir).then_some(Ok(found)),
        // A file that is gone by now has no length.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(failed(&format!("look at '{}'", path.join(file)), error))),
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let name = path.name().unwrap_or_default();
    let checkpoint_id = checkpoint_number(&name);
    let names = files.iter().map(|file| format!("{name}/{file}")).collect();
    let listed = ListedSnapshot {
        path: path.to_string(),
        completeness,
        problem: Some(problem),
        kind: if checkpoint_id.is_some() { "checkpoint" } else { "savepoint" },
        job_id: path.parent().and_then(|parent| parent.name()).filter(|parent| is_job(parent)),
        checkpoint_id,
        timestamp_ms: parts.iter().map(|part| part.modified_ms).max().unwrap_or_default(),
        bytes: parts.iter().map(|part| part.len).sum(),
        files: parts.len(),
    };
    Ok((listed, names))
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
            match path.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
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
            assert_eq!(local_entries(&disk, Path::new("/jobs/gone")).expect("it is gone"), [""; 0]);
            assert_eq!(local_entries(&disk, Path::new("/jobs/chk-1")).expect("a file"), [""; 0]);
            let error = local_entries(&disk, Path::new("/jobs/job")).expect_err("it is there");
            assert_eq!(error.to_string(), "cannot list '/jobs/job'", "{kind:?}");
        }
    }
}
