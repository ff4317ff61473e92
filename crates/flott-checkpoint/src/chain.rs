//! The history of a job: which of the manifests in its directory count.
//!
//! Each started generation names what it went on from, so they form a chain, back to the start from nothing or from what the user named. A
//! checkpoint counts if its generation is in the chain and it is not newer than what the next generation in the chain went on from.
//! Others were completed by owners that had been fenced off, and are void; or they are from before the chain, and are the user's.

use crate::inspect::{is_part, plan_disposal};
use crate::location::Location;
use crate::manifest::{MANIFEST_NAME, Manifest};
use crate::owner::{Base, Generation, Listing, failed};
use crate::restore::{OpenSnapshot, open_snapshot};
use crate::storage::CheckpointStorage;
use flott_env::Env;
use flott_types::{CheckpointId, Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// The history of a job since it last started from nothing or from what the user named.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) listing: Listing,
    /// The newest checkpoint that counts, or the snapshot that the newest start went on from.
    pub(crate) newest: Option<OpenSnapshot>,
    /// Complete checkpoints that count, by number.
    pub(crate) valid: BTreeMap<CheckpointId, Manifest>,
    /// Complete checkpoints that do not count: an owner completed them that was fenced off, or whose job has ended.
    pub(crate) void: BTreeMap<CheckpointId, Manifest>,
    /// Checkpoints with a manifest that cannot be read; nothing of them is used or deleted.
    pub(crate) unreadable: Vec<CheckpointId>,
    /// Complete checkpoints from before the root: the user's.
    pub(crate) foreign: BTreeMap<CheckpointId, Manifest>,
    /// What the user named at the root, if so.
    pub(crate) root_checksum: Option<u64>,
    /// The same if the job has claimed it: its number, and where it is.
    pub(crate) claimed: Option<Claimed>,
}

/// A snapshot that the user named and the job owns.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) checkpoint_id: CheckpointId,
    pub(crate) path: String,
}

impl Claimed {
    pub(crate) fn of(base: &Base) -> Option<Self> {
        match base {
            Base::Snapshot { path, checkpoint_id, claimed: true, .. } => {
                Some(Self { checkpoint_id: *checkpoint_id, path: path.clone() })
            }
            Base::Snapshot { .. } | Base::Checkpoint { .. } | Base::Nothing => None,
        }
    }

    /// Whether anything of it is left to delete.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] if the store does not answer.
    pub(crate) fn exists(&self, env: &Env) -> Result<bool> {
        let store = Location::parse(&self.path)?.open(env)?;
        let names = store.list("").map_err(|error| failed(&format!("list '{}'", self.path), error))?;
        // Somebody's own files may be left in there.
        Ok(names.iter().any(|name| name == MANIFEST_NAME || is_part(name)))
    }

    /// Deletes it, but for files that other checkpoints name; what was deleted before is no error.
    ///
    /// # Errors
    /// As [`Disposal::execute`](crate::Disposal::execute).
    pub(crate) fn delete(&self, env: &Env) -> Result<()> {
        if !self.exists(env)? {
            return Ok(());
        }
        plan_disposal(env, Location::parse(&self.path)?)?.execute(env)
    }
}

impl Chain {
    /// Reads what started generations before `below` have left.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if the newest checkpoint cannot be told or read.
    pub(crate) fn read(storage: &CheckpointStorage, below: Generation) -> Result<Self> {
        let ownership = storage.ownership();
        let listing = ownership.list()?;
        let mut chain = Self {
            listing,
            newest: None,
            valid: BTreeMap::new(),
            void: BTreeMap::new(),
            unreadable: Vec::new(),
            foreign: BTreeMap::new(),
            root_checksum: None,
            claimed: None,
        };
        let last = chain.listing.started.range(..below).next_back().copied();
        let last = last.filter(|generation| !chain.listing.ended.contains(generation));
        // From the newest start back to the root: up to which checkpoint each generation counts.
        let mut counts_to = BTreeMap::new();
        let (mut root, mut next) =
            (Generation(u64::MAX), last.map(|generation| (generation, CheckpointId(u64::MAX))));
        let mut newest_base = None;
        while let Some((generation, up_to)) = next {
            counts_to.insert(generation, up_to);
            root = generation;
            let base = ownership.base(generation)?;
            next = match &base {
                Base::Checkpoint { checkpoint_id, generation: before } if *before < generation => {
                    Some((*before, *checkpoint_id))
                }
                Base::Checkpoint { .. } => {
                    let message =
                        format!("generation {generation} of job {} goes on from a later one", storage.job_id);
                    return Err(Error::new(ErrorKind::Corruption, message));
                }
                Base::Snapshot { checksum, .. } => {
                    chain.root_checksum = Some(*checksum);
                    chain.claimed = Claimed::of(&base);
                    None
                }
                Base::Nothing => None,
            };
            newest_base.get_or_insert(base);
        }
        chain.read_manifests(storage, root, &counts_to)?;
        let of_last = chain.valid.last_key_value().filter(|(_, manifest)| Some(manifest.generation) == last);
        chain.newest = match (of_last, newest_base) {
            (Some(_), _) if flott_env::canary("restore-oldest") => match chain.valid.first_key_value() {
                Some((id, _)) => chain.open(storage, *id)?,
                None => None,
            },
            (Some((id, _)), _) => chain.open(storage, *id)?,
            (None, Some(Base::Checkpoint { checkpoint_id, generation })) => {
                let found = chain.valid.get(&checkpoint_id);
                if found.is_none_or(|manifest| manifest.generation != generation) {
                    let message = format!(
                        "checkpoint {checkpoint_id} of job {}, the newest, is missing",
                        storage.job_id
                    );
                    return Err(Error::new(ErrorKind::Corruption, message));
                }
                chain.open(storage, checkpoint_id)?
            }
            (None, Some(Base::Snapshot { path, checksum, claimed, .. })) => {
                let mut snapshot = open_snapshot(&storage.env, Location::parse(&path)?)?;
                if snapshot.checksum() != checksum {
                    let message = format!("'{path}' is not the snapshot any more that the job started from");
                    return Err(Error::new(ErrorKind::Corruption, message));
                }
                snapshot.is_claimed = claimed;
                Some(snapshot)
            }
            (None, Some(Base::Nothing) | None) => None,
        };
        Ok(chain)
    }

    /// Sorts manifests, newest first, into those that count and others.
    fn read_manifests(
        &mut self,
        storage: &CheckpointStorage,
        root: Generation,
        counts_to: &BTreeMap<Generation, CheckpointId>,
    ) -> Result<()> {
        for id in self.listing.checkpoints.clone().into_iter().rev() {
            let manifest = match storage.manifest(id) {
                Ok(None) => continue,
                Ok(Some((manifest, _))) => manifest,
                // As long as none was found that counts, this may be the one.
                Err(error) if self.valid.is_empty() => return Err(error),
                Err(_) => {
                    self.unreadable.push(id);
                    continue;
                }
            };
            let counts = counts_to.get(&manifest.generation).is_some_and(|up_to| id <= *up_to);
            if counts {
                self.valid.insert(id, manifest);
            } else if manifest.generation < root && self.is_users(storage, manifest.generation, root)? {
                self.foreign.insert(id, manifest);
            } else {
                self.void.insert(id, manifest);
            }
        }
        Ok(())
    }

    /// Whether a checkpoint from before the root is the user's: unless its job has ended and did not retain it.
    fn is_users(
        &self,
        storage: &CheckpointStorage,
        generation: Generation,
        root: Generation,
    ) -> Result<bool> {
        match self.listing.ended.range(generation..root).next() {
            Some(ended) => storage.ownership().retains(*ended),
            None => Ok(true),
        }
    }

    fn open(&self, storage: &CheckpointStorage, id: CheckpointId) -> Result<Option<OpenSnapshot>> {
        Ok(storage
            .manifest(id)?
            .map(|(manifest, checksum)| OpenSnapshot::of_job(storage, manifest, checksum)))
    }

    /// What a start from here goes on from.
    pub(crate) fn base(&self) -> Base {
        self.newest.as_ref().map_or(Base::Nothing, OpenSnapshot::base)
    }
}
