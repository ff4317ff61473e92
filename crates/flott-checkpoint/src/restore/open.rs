//! A complete checkpoint or savepoint with its manifest read, wherever it is.

use crate::codec::checksum;
use crate::inspect::{Refusal, plan_disposal};
use crate::location::Location;
use crate::manifest::{MANIFEST_LEN_MAX, MANIFEST_NAME, Manifest};
use crate::owner::{Base, failed};
use crate::storage::CheckpointStorage;
use crate::store::ObjectStore;
use flott_env::Env;
use flott_types::{Error, ErrorKind, FileHandle, JobId, Result};
use std::io;
use std::sync::Arc;

/// A manifest that was read and found whole, and the way to the files it names.
#[derive(Clone, Debug)]
pub struct OpenSnapshot {
    manifest: Arc<Manifest>,
    checksum: u64,
    pub(crate) is_claimed: bool,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// One of the job's own checkpoints.
    Job(CheckpointStorage),
    /// A directory that the user named.
    Named {
        path: String,
        /// Files whose handles begin with the manifest's own directory: they moved along with it.
        here: Arc<dyn ObjectStore>,
        /// Files elsewhere below the directory that held all checkpoints.
        around: Arc<dyn ObjectStore>,
        /// Where the manifest is in there.
        dir: String,
    },
}

/// Opens the savepoint or checkpoint in the directory `path`, or whose `_metadata` is `path`. A local path should be absolute: it is
/// recorded and used again after a crash.
///
/// # Errors
/// [`ErrorKind::UserError`] if there is none, [`ErrorKind::Corruption`] if its manifest is not what was written.
pub fn open_snapshot(env: &Env, path: impl Into<Location>) -> Result<OpenSnapshot> {
    let dir = directory_of(path.into());
    let here = dir.open(env)?;
    let shown = dir.to_string();
    let file = format!("{shown}/{MANIFEST_NAME}");
    let bytes = here.get(MANIFEST_NAME, MANIFEST_LEN_MAX).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Error::user(format!("there is no complete savepoint or checkpoint in '{shown}'"))
                .with_source(error)
        } else {
            failed(&format!("read '{file}'"), error)
        }
    })?;
    let manifest = Arc::new(Manifest::decode(&file, &bytes)?);
    // A savepoint that stopped the job is a checkpoint too: its manifest lies there once more, its files do not.
    let is_checkpoint = dir.name().is_some_and(|name| name.starts_with("chk-"));
    let is_copy = is_checkpoint && manifest.directory.starts_with("savepoint-");
    let depth = if is_copy { 2 } else { manifest.directory.split('/').count() };
    let (root, below) = split(&dir, depth);
    let here = if is_copy {
        let savepoints = manifest.savepoints.as_deref().map(Location::parse).transpose()?;
        savepoints.as_ref().unwrap_or(&root).join(&manifest.directory).open(env)?
    } else {
        here
    };
    Ok(OpenSnapshot {
        manifest,
        checksum: checksum(&bytes),
        is_claimed: false,
        place: Place::Named { path: shown, here, around: root.open(env)?, dir: below },
    })
}

/// A directory as the one that is `depth` above and the way from there; if there is none, as itself.
fn split(dir: &Location, depth: usize) -> (Location, String) {
    let mut ancestors = std::iter::successors(Some(dir.clone()), Location::parent);
    let names: Vec<_> = ancestors.by_ref().take(depth).filter_map(|ancestor| ancestor.name()).collect();
    match ancestors.next() {
        Some(root) => (root, names.into_iter().rev().collect::<Vec<_>>().join("/")),
        None => (dir.clone(), String::new()),
    }
}

/// The directory of a snapshot that is named by it, or by the manifest in it.
pub(crate) fn directory_of(path: Location) -> Location {
    if path.name().is_some_and(|name| name == MANIFEST_NAME) { path.parent().unwrap_or(path) } else { path }
}

impl OpenSnapshot {
    /// A complete checkpoint of the job's own.
    pub(crate) fn of_job(storage: &CheckpointStorage, manifest: Manifest, checksum: u64) -> Self {
        Self { manifest: Arc::new(manifest), checksum, is_claimed: false, place: Place::Job(storage.clone()) }
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it is, for people.
    pub fn path(&self) -> String {
        match &self.place {
            Place::Job(storage) => storage.dir(self.manifest.checkpoint_id),
            Place::Named { path, .. } => path.clone(),
        }
    }

    /// The checksum of the manifest file, which tells this snapshot from every other.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Job `job_id`, which starts from it, owns it from then on, and deletes it when enough checkpoints of its own have replaced it, or with them at
    /// its end. (`execution.state-recovery.claim-mode: CLAIM`)
    ///
    /// # Errors
    /// [`ErrorKind::UserError`] if it is a checkpoint of another job that has not ended. Otherwise as [`plan_disposal`].
    pub fn claim(self, env: &Env, job_id: JobId) -> Result<Self> {
        let path = self.path();
        match plan_disposal(env, Location::parse(&path)?)?.refusal {
            Some(Refusal::InUse { job_id: user, .. }) if user != job_id.to_string() => {
                Err(Error::user(format!(
                    "job {job_id} cannot claim '{path}': job {user} has it and has not ended; start with claim mode NO_CLAIM, or stop that job"
                )))
            }
            _ => Ok(Self { is_claimed: true, ..self }),
        }
    }

    pub(crate) fn base(&self) -> Base {
        let checkpoint_id = self.manifest.checkpoint_id;
        match &self.place {
            Place::Job(_) => Base::Checkpoint { checkpoint_id, generation: self.manifest.generation },
            Place::Named { path, .. } => {
                let (checksum, claimed) = (self.checksum, self.is_claimed);
                Base::Snapshot { path: path.clone(), checkpoint_id, checksum, claimed }
            }
        }
    }

    /// Makes it durable: who wrote it may have died, or been refused, between making the manifest visible and making it durable. Once a
    /// start is recorded to go on from it, it must not get lost any more.
    pub(crate) fn sync(&self) -> Result<()> {
        let sync = |store: &dyn ObjectStore, dir: &str| {
            store.sync(dir).map_err(|error| failed(&format!("sync '{dir}' of '{}'", self.path()), error))
        };
        let (store, dir) = match &self.place {
            Place::Job(storage) => (&storage.checkpoints, storage.dir(self.manifest.checkpoint_id)),
            Place::Named { here, around, dir, .. } => {
                sync(here.as_ref(), "")?;
                (around, dir.clone())
            }
        };
        let above = dir.rsplit_once('/').map_or("", |(above, _)| above);
        sync(store.as_ref(), &dir).and_then(|()| sync(store.as_ref(), above))
    }

    /// The content of a file of the snapshot, with length and checksum compared.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] that names the file if it is missing or not what was written, [`ErrorKind::Retry`] if the store does not answer.
    pub fn read(&self, handle: &FileHandle) -> Result<Vec<u8>> {
        let inside =
            handle.path.strip_prefix(&self.manifest.directory).and_then(|rest| rest.strip_prefix('/'));
        let found = match (&self.place, inside) {
            (Place::Job(storage), _) => storage.store_of(&handle.path).get(&handle.path, handle.len),
            (Place::Named { here, .. }, Some(inside)) => here.get(inside, handle.len),
            (Place::Named { around, .. }, None) => around.get(&handle.path, handle.len),
        };
        let damaged = |what: String| {
            let id = self.manifest.checkpoint_id;
            Error::new(ErrorKind::Corruption, format!("file '{}' of checkpoint {id} {what}", handle.path))
        };
        let bytes = found.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged("is missing".to_owned()),
            io::ErrorKind::FileTooLarge => damaged(format!("has more than its {} bytes", handle.len)),
            _ => failed(&format!("read '{}'", handle.path), error),
        })?;
        if bytes.len() as u64 != handle.len {
            return Err(damaged(format!("has {} of its {} bytes", bytes.len(), handle.len)));
        }
        let computed = checksum(&bytes);
        if computed != handle.checksum {
            return Err(damaged(format!("has checksum {computed:016x} instead of {:016x}", handle.checksum)));
        }
        Ok(bytes)
    }

    /// Reads every file and compares it with the manifest.
    ///
    /// # Errors
    /// As [`OpenSnapshot::read`], at the first file that is not what was written.
    pub fn verify(&self) -> Result<()> {
        self.manifest.files().into_iter().try_for_each(|handle| {
            let bytes = self.read(handle)?;
            crate::part::decode(&handle.path, &bytes).map(|_| ())
        })
    }
}
