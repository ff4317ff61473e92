//! A complete checkpoint or savepoint with its manifest read, wherever it is.

use crate::codec::checksum;
use crate::inspect::{Refusal, plan_disposal};
use crate::location::Location;
use crate::manifest::{MANIFEST_LEN_MAX, MANIFEST_NAME, Manifest};
use crate::owner::{Base, failed};
use crate::part::{PartFile, put_over};
use crate::storage::CheckpointStorage;
use crate::store::ObjectStore;
use flott_env::Env;
use flott_state::{OperatorSnapshot, StateSettings};
use flott_types::{Error, FileHandle, JobId, OperatorUid, Result};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A manifest that was read and found whole, and the way to the files it names.
#[derive(Clone, Debug)]
pub struct OpenSnapshot {
    manifest: Arc<Manifest>,
    checksum: u64,
    pub(crate) is_claimed: bool,
    place: Place,
    /// Parts of at most so many bytes are read as a whole.
    whole_max: u64,
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
/// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if there is none,
/// [`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption) if its manifest is not what was written.
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
        whole_max: StateSettings::section_bytes(env) as u64,
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
        let whole_max = StateSettings::section_bytes(&storage.env) as u64;
        let place = Place::Job(storage.clone());
        Self { manifest: Arc::new(manifest), checksum, is_claimed: false, place, whole_max }
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
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if it is a checkpoint of another job that has not ended. Otherwise as [`plan_disposal`].
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

    /// What the operators of a chain have in a file of the snapshot and in those that it goes on from, oldest first, after all of these were
    /// compared with length and checksum. Keyed state of a file that is not small stays there, and is read and compared again when it is wanted.
    ///
    /// # Errors
    /// As [`PartFile::open`]; [`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption) if there are changes of what is in no file before.
    pub(crate) fn part(
        &self,
        handle: &FileHandle,
        bases: &[FileHandle],
    ) -> Result<BTreeMap<OperatorUid, OperatorSnapshot>> {
        let mut operators = BTreeMap::new();
        for handle in bases.iter().chain([handle]) {
            operators = put_over(operators, &handle.path, self.file(handle).open(self.whole_max)?)?;
        }
        Ok(operators)
    }

    /// The version of the format of a file, as it says.
    pub(crate) fn part_version(&self, handle: &FileHandle) -> Result<u32> {
        self.file(handle).version()
    }

    fn file(&self, handle: &FileHandle) -> PartFile {
        let inside =
            handle.path.strip_prefix(&self.manifest.directory).and_then(|rest| rest.strip_prefix('/'));
        let (store, path) = match (&self.place, inside) {
            (Place::Job(storage), _) => (storage.store_of(&handle.path), handle.path.as_str()),
            (Place::Named { here, .. }, Some(inside)) => (here, inside),
            (Place::Named { around, .. }, None) => (around, handle.path.as_str()),
        };
        let (store, path) = (Arc::clone(store), path.to_owned());
        let checkpoint_id = self.manifest.checkpoint_id;
        PartFile { store, path, handle: handle.clone(), checkpoint_id }
    }

    /// Reads every file and compares it with the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption) that names the first file that is missing or not what was written,
    /// [`ErrorKind::Retry`](flott_types::ErrorKind::Retry) if the store does not answer.
    pub fn verify(&self) -> Result<()> {
        self.manifest.parts().into_iter().try_for_each(|(part, bases)| self.part(part, bases).map(drop))
    }
}
