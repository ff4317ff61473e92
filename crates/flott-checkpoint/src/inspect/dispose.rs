//! Deletes exactly the files of one snapshot: those that its manifest names and that are in its own directory, or in those of earlier
//! checkpoints of the same job that it goes on from and that are complete no more; and in its own directory what was never finished, which nobody
//! can need.
//!
//! Planned first, so that a person can be told what will go, what stays and why it is refused; then done, manifest first: whatever
//! happens in between, there is never a manifest without its files.

use crate::inspect::list::{checkpoint_number, in_directory};
use crate::location::Location;
use crate::manifest::MANIFEST_NAME;
use crate::owner::failed;
use crate::restore::{directory_of, open_snapshot};
use crate::storage::delete;
use crate::store::TEMP_PREFIX;
use flott_env::Env;
use flott_types::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::fmt;
use std::io;

/// What disposing of a snapshot would delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposal {
    /// The directory of the snapshot.
    pub dir: Location,
    /// Names of files in it that go, the manifest first.
    pub files: Vec<String>,
    /// Names in it that stay, because the snapshot does not own them.
    pub left: Vec<String>,
    /// Files beside the directory that go, too: of earlier checkpoints that it goes on from.
    pub bases: Vec<String>,
    /// Why it should not be done without being sure.
    pub refusal: Option<Refusal>,
}

/// Why a snapshot should not be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A job that has not reached its end may go on from it.
    InUse {
        /// The job.
        job_id: String,
        /// Its newest start.
        generation: u64,
    },
    /// The job has reached its end and has left it for the user.
    Retained {
        /// The job.
        job_id: String,
    },
    /// It has no manifest: it may be being written at this moment.
    Incomplete,
    /// Its manifest cannot be read, so that its files are only known by their names.
    Damaged {
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { job_id, generation } => write!(
                f,
                "it is a checkpoint of job {job_id}, which has not reached its end (generation {generation}): the job deletes its \
                 checkpoints itself, and if this is its newest, the next start of the job fails"
            ),
            Self::Retained { job_id } => write!(
                f,
                "it is a checkpoint that job {job_id} has retained when it ended, perhaps the only state that is left of it"
            ),
            Self::Incomplete => {
                f.write_str("it has no manifest: a job may be writing it at this moment, or it was aborted")
            }
            Self::Damaged { problem } => {
                write!(
                    f,
                    "its manifest cannot be read, so that its files are only known by their names: {problem}"
                )
            }
        }
    }
}

/// What disposing of the snapshot at `path` would delete, and why it should not be done. Nothing is deleted yet.
///
/// # Errors
/// [`ErrorKind::UserError`] if there is nothing that looks like a snapshot, [`ErrorKind::Corruption`] if the manifest of another checkpoint of
/// the job cannot be read: it might name files of this one. [`ErrorKind::Retry`] if a directory cannot be listed.
pub fn plan_disposal(env: &Env, path: impl Into<Location>) -> Result<Disposal> {
    let dir = directory_of(path.into());
    let names = names_in(env, &dir)?;
    let mut disposal =
        Disposal { dir: dir.clone(), files: Vec::new(), left: Vec::new(), bases: Vec::new(), refusal: None };
    let owned: BTreeSet<String> = if names.iter().any(|name| name == MANIFEST_NAME) {
        match open_snapshot(env, &dir) {
            Ok(snapshot) => {
                let manifest = snapshot.manifest();
                let named: BTreeSet<_> = manifest.files().into_iter().map(|file| file.path.clone()).collect();
                let shared = named_by_others(env, &dir)?;
                let is_own = |path: &&String| !shared.contains(&in_directory(path));
                disposal.refusal = owner_of(env, &dir, &manifest.job_id.to_string())?;
                let below =
                    |dir: &str, path: &str| Some(path.strip_prefix(dir)?.strip_prefix('/')?.to_owned());
                let of_job = manifest.directory.rsplit_once('/').filter(|_| job_dir(&dir).is_some());
                // Of writes that failed, as did the removal of what they had written.
                let mut owned: BTreeSet<_> =
                    names.iter().filter(|name| name.starts_with(TEMP_PREFIX)).cloned().collect();
                for path in named.iter().filter(is_own) {
                    match below(&manifest.directory, path) {
                        Some(name) => drop(owned.insert(name)),
                        None => disposal.bases.extend(of_job.and_then(|(of_job, _)| below(of_job, path))),
                    }
                }
                owned
            }
            Err(error) => {
                disposal.refusal = Some(Refusal::Damaged { problem: error.to_string() });
                names.iter().filter(|name| is_part(name)).cloned().collect()
            }
        }
    } else {
        disposal.refusal = Some(Refusal::Incomplete);
        let shared = named_by_others(env, &dir)?;
        let of_dir = dir.name().unwrap_or_default();
        let is_own = |name: &&String| is_part(name) && !shared.contains(&format!("{of_dir}/{name}"));
        names.iter().filter(is_own).cloned().collect()
    };
    if disposal.refusal == Some(Refusal::Incomplete) && owned.is_empty() {
        return Err(Error::user(format!("there is no savepoint or checkpoint in '{dir}'")));
    }
    let (files, left) = names.into_iter().partition(|name| name == MANIFEST_NAME || owned.contains(name));
    disposal.files = files;
    disposal.left = left;
    disposal.files.sort_by_key(|name| name != MANIFEST_NAME);
    Ok(disposal)
}

impl Disposal {
    /// Deletes the files, the manifest first and durably, and the directory if nothing is left in it.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] if the store refuses; done again, it goes on where it stopped.
    pub fn execute(&self, env: &Env) -> Result<()> {
        let (Some(name), Some(parent)) = (self.dir.name(), self.dir.parent()) else {
            return Err(Error::user(format!("'{}' is not the directory of a snapshot", self.dir)));
        };
        let store = parent.open(env)?;
        let (manifest, parts): (Vec<_>, Vec<_>) =
            self.files.iter().cloned().partition(|name| name == MANIFEST_NAME);
        delete(store.as_ref(), &name, &manifest)?;
        delete(store.as_ref(), &name, &parts)?;
        let bases = self.bases.iter().filter_map(|path| path.rsplit_once('/'));
        bases.into_iter().try_for_each(|(dir, name)| delete(store.as_ref(), dir, &[name.to_owned()]))
    }
}

fn names_in(env: &Env, dir: &Location) -> Result<Vec<String>> {
    let names = dir.open(env)?.list("").map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => Error::user(format!("'{dir}' is not the directory of a snapshot")),
        _ => failed(&format!("list '{dir}'"), error),
    })?;
    if names.is_empty() {
        return Err(Error::user(format!("there is nothing in '{dir}'")));
    }
    Ok(names)
}

/// The directory of the job that a checkpoint is in.
fn job_dir(dir: &Location) -> Option<Location> {
    checkpoint_number(&dir.name()?)?;
    dir.parent()
}

/// The files that the manifests of other checkpoints of the same job refer to, as their directory and name.
fn named_by_others(env: &Env, dir: &Location) -> Result<BTreeSet<String>> {
    let mut named = BTreeSet::new();
    let Some(parent) = job_dir(dir) else { return Ok(named) };
    let store = parent.open(env)?;
    for name in names_in(env, &parent)?.into_iter().filter(|name| checkpoint_number(name).is_some()) {
        let sibling = parent.join(&name);
        let damaged = |error: Error| {
            let message = format!("nothing is deleted, because '{sibling}' may need files of it");
            Error::new(ErrorKind::Corruption, message).with_source(error)
        };
        if sibling == *dir {
            continue;
        }
        match store.metadata(&format!("{name}/{MANIFEST_NAME}")) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(error) => return Err(damaged(failed(&format!("look at '{sibling}'"), error))),
            Ok(_) => {}
        }
        let other = open_snapshot(env, &sibling).map_err(damaged)?;
        named.extend(other.manifest().files().into_iter().map(|file| in_directory(&file.path)));
    }
    Ok(named)
}

/// What speaks against deleting a checkpoint in the directory of its job; a copy elsewhere is the user's.
fn owner_of(env: &Env, dir: &Location, job_id: &str) -> Result<Option<Refusal>> {
    let Some(job_dir) = job_dir(dir) else { return Ok(None) };
    let names = names_in(env, &job_dir)?;
    let number = |name: &String| name.strip_prefix("owner-")?.parse::<u64>().ok();
    let Some(generation) = names.iter().filter_map(number).max() else { return Ok(None) };
    let has_ended = names.contains(&format!("owner-{generation}.end"));
    let job_id = job_id.to_owned();
    Ok(Some(if has_ended { Refusal::Retained { job_id } } else { Refusal::InUse { job_id, generation } }))
}

/// Whether a file is named as parts and files under way are: `<vertex>-<subtask>.g<generation>`, `.tmp-…`.
pub(crate) fn is_part(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = name.rsplit_once(".g").and_then(|(subtask, generation)| {
        let (vertex, subtask) = subtask.split_once('-')?;
        Some(is_number(vertex) && is_number(subtask) && is_number(generation))
    });
    part == Some(true) || name.starts_with(TEMP_PREFIX)
}
