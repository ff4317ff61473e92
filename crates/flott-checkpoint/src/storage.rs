//! The checkpoints of one job, as the engine uses them: start as the owner, write parts, complete, delete.
//!
//! ```text
//! <checkpoints>/<job id>/owner-<n>, owner-<n>.start, .end, .reported      who owns the job
//! <checkpoints>/<job id>/chk-<id>/<vertex>-<subtask>.g<n>               parts
//! <checkpoints>/<job id>/chk-<id>/_metadata                             the manifest: complete
//! <savepoints>/savepoint-<job>-<random>/<parts as above>, _metadata
//! ```

use crate::chain::{Chain, Claimed};
use crate::codec::checksum;
use crate::coordinator::ManifestRequest;
use crate::gc;
use crate::location::Location;
use crate::manifest::{MANIFEST_LEN_MAX, MANIFEST_NAME, Manifest};
use crate::owner::{Attempt, Base, Ending, Generation, JobEnding, Ownership, Starts, failed, put_or_find};
use crate::part::PartWriter;
use crate::plan::CheckpointPlan;
use crate::restore::{OpenSnapshot, directory_of};
use crate::store::{LocalStore, ObjectStore};
use flott_env::{Env, canary};
use flott_graph::SubtaskId;
use flott_state::{OperatorSnapshot, SnapshotWriter};
use flott_types::{CheckpointId, CheckpointKind, Error, ErrorKind, FileHandle, JobId, OperatorUid, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where the checkpoints and savepoints of one job are. Clones share it. All calls block on IO.
#[derive(Clone, Debug)]
pub struct CheckpointStorage {
    pub(crate) checkpoints: Arc<dyn ObjectStore>,
    pub(crate) savepoints: Arc<dyn ObjectStore>,
    pub(crate) job_id: JobId,
    pub(crate) env: Env,
    starts: Arc<Starts>,
}

/// From where a job is to start.
#[derive(Clone, Debug)]
pub enum StartFrom {
    /// Its newest complete checkpoint; from nothing if it has none or has reached its end.
    Latest,
    /// A savepoint or retained checkpoint that the user named; or, if the job was started from this one already and has not
    /// reached its end, its newest complete checkpoint since: so the same command continues after a crash.
    Snapshot(OpenSnapshot),
    /// A snapshot that is not there any more because the job has claimed it, at this place: its newest complete checkpoint since.
    Claimed(Location),
}

impl StartFrom {
    /// Whether who asks for this start asks for the same as who had started the job that ended.
    fn is_same_order(&self, ending: &Ending) -> bool {
        match self {
            Self::Latest | Self::Claimed(_) => true,
            Self::Snapshot(snapshot) => ending.result.root_checksum == Some(snapshot.checksum()),
        }
    }
}

/// A job as it starts.
#[derive(Debug)]
pub struct Started {
    /// The right to complete checkpoints, until somebody else starts the job.
    pub owner: CheckpointOwner,
    /// What to restore; `None` to start from nothing.
    pub restore_from: Option<OpenSnapshot>,
    /// The complete checkpoints that the job has, oldest first; the coordinator deletes those that are too many.
    pub retained: Vec<CheckpointId>,
    /// The first number that is free.
    pub next_checkpoint_id: CheckpointId,
    /// The random number of the job's first start: generations of different histories cannot be compared.
    pub history: Attempt,
}

/// A job that has ended without anybody having heard of it: its process died in between.
#[derive(Debug)]
pub struct EndedJob {
    /// How it ended.
    pub ending: JobEnding,
    /// To be told when somebody has heard of it.
    pub report: EndReport,
}

/// Records that somebody has heard of a job's end, so that its next start begins anew.
#[derive(Clone, Debug)]
pub struct EndReport {
    storage: CheckpointStorage,
    generation: Generation,
    attempt: Attempt,
}

impl EndReport {
    /// Somebody has heard of it. Blocks on IO; may be called again.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] if it could not be recorded: the next start says the result once more, and begins anew the time after.
    pub fn told(&self) -> Result<()> {
        self.storage.ownership().reported(self.generation, self.attempt)
    }
}

impl CheckpointStorage {
    /// Checkpoints of `job_id` below the directory `checkpoints`, savepoints below `savepoints`. Nothing is read or created yet.
    pub fn local(env: &Env, checkpoints: &Path, savepoints: &Path, job_id: JobId) -> Self {
        let store = |root: &Path| Arc::new(LocalStore::new(env.fs(), root, env.random_u64()));
        Self::new(env, store(checkpoints), store(savepoints), job_id)
    }

    /// The same over any stores.
    pub fn new(
        env: &Env,
        checkpoints: Arc<dyn ObjectStore>,
        savepoints: Arc<dyn ObjectStore>,
        job_id: JobId,
    ) -> Self {
        Self { checkpoints, savepoints, job_id, env: env.clone(), starts: Arc::default() }
    }

    /// The job.
    pub fn job_id(&self) -> JobId {
        self.job_id
    }

    /// The end of the job, if it has ended and nobody has heard of it: what it was to do is done, and must not be done again. A snapshot that the
    /// user names is an order of its own, unless the job that ended had started from the same one.
    ///
    /// # Errors
    /// As [`CheckpointStorage::start`].
    pub fn unreported_end(&self, from: &StartFrom) -> Result<Option<EndedJob>> {
        let listing = self.ownership().list()?;
        let ending = self.ownership().unreported(&listing, Generation(u64::MAX))?;
        Ok(ending.filter(|ending| from.is_same_order(ending)).map(
            |Ending { generation, attempt, result }| {
                let report = EndReport { storage: self.clone(), generation, attempt };
                EndedJob { ending: result, report }
            },
        ))
    }

    /// Whether the job, which has not ended unless nobody has heard of it, began with the snapshot at `path` and has claimed it: then it may be gone.
    ///
    /// # Errors
    /// As [`CheckpointStorage::start`].
    pub fn has_claimed(&self, path: &Location) -> Result<bool> {
        let ownership = self.ownership();
        let listing = ownership.list()?;
        let Some(last) = listing.started.last().copied() else { return Ok(false) };
        if listing.ended.contains(&last) && ownership.unreported(&listing, Generation(u64::MAX))?.is_none() {
            return Ok(false);
        }
        let dir = directory_of(path.clone()).to_string();
        Ok(Claimed::of(&ownership.root(last)?).is_some_and(|claimed| claimed.path == dir))
    }

    /// Starts the job: takes ownership, finds what to go on from, and records it. To be called at every start of the job, also
    /// for a restart in the same process, before anything of the earlier start is restored, deleted or written.
    ///
    /// The first call, on this value or a clone of it, takes the job from any other process. Later ones do not: who restarts a job that another
    /// process has started meanwhile was taken for dead.
    ///
    /// After a crash in here nothing has happened; call it again.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if another start took over meanwhile. [`ErrorKind::Corruption`] that names the file if the newest
    /// complete checkpoint, or a record of ownership, is damaged or missing: an older one is never taken silently.
    /// [`ErrorKind::Retry`] if the store does not answer, or if the job has ended since somebody asked for
    /// [`CheckpointStorage::unreported_end`].
    pub fn start(&self, from: StartFrom) -> Result<Started> {
        let attempt = self.starts.next(self.env.random_u64(), self.env.random_u64());
        let generation = self.ownership().claim(attempt, &self.starts)?;
        // Only now: what an earlier owner completes from here on it will not believe in itself.
        let chain = self.chain(generation).or_else(|error| {
            // A later owner deletes what this one would miss.
            self.ownership().verify(generation).and(Err(error))
        })?;
        let ending = self.ownership().unreported(&chain.listing, generation)?;
        if ending.is_some_and(|ending| from.is_same_order(&ending)) {
            let message = format!("job {} has ended, and nobody has heard of it yet", self.job_id);
            return Err(Error::new(ErrorKind::Retry, message));
        }
        let (base, restore_from, mut retained): (_, _, Vec<_>) = match from {
            StartFrom::Snapshot(snapshot) if chain.root_checksum != Some(snapshot.checksum()) => {
                (snapshot.base(), Some(snapshot), Vec::new())
            }
            StartFrom::Claimed(path) if chain.newest.is_none() => {
                let message =
                    format!("job {} has ended, and '{path}', which it had claimed, is gone", self.job_id);
                return Err(Error::user(message));
            }
            StartFrom::Latest | StartFrom::Snapshot(_) | StartFrom::Claimed(_) => {
                (chain.base(), chain.newest, chain.valid.keys().copied().collect())
            }
        };
        let claimed = match &base {
            Base::Checkpoint { .. } => chain.claimed,
            Base::Snapshot { .. } | Base::Nothing => Claimed::of(&base),
        };
        if let Some(claimed) = &claimed
            && claimed.exists(&self.env)?
        {
            // It counts as the first checkpoint of the job.
            retained.insert(0, claimed.checkpoint_id);
        }
        if let Some(snapshot) = &restore_from {
            snapshot.sync()?;
        }
        self.ownership().start(generation, attempt, base)?;
        let of_base = restore_from.as_ref().map(|snapshot| snapshot.manifest().checkpoint_id);
        let last = chain.listing.checkpoints.last().copied().max(of_base).map_or(0, |id| id.0);
        let next_checkpoint_id = CheckpointId(last + 1);
        let owner = CheckpointOwner {
            storage: self.clone(),
            generation,
            attempt,
            first_id: next_checkpoint_id,
            claimed,
        };
        let history = self.ownership().history()?;
        Ok(Started { owner, restore_from, retained, next_checkpoint_id, history })
    }

    /// The newest complete checkpoint, for who only wants to look; a start that happens meanwhile may use another.
    ///
    /// # Errors
    /// As [`CheckpointStorage::start`].
    pub fn latest(&self) -> Result<Option<OpenSnapshot>> {
        self.chain(Generation(u64::MAX)).map(|chain| chain.newest)
    }

    pub(crate) fn ownership(&self) -> Ownership<'_> {
        Ownership { store: self.checkpoints.as_ref(), job_id: self.job_id }
    }

    pub(crate) fn dir(&self, id: CheckpointId) -> String {
        format!("{}/chk-{id}", self.job_id)
    }

    /// The store that a path of a file handle is in.
    pub(crate) fn store_of(&self, path: &str) -> &Arc<dyn ObjectStore> {
        if path.starts_with("savepoint-") { &self.savepoints } else { &self.checkpoints }
    }

    /// The manifest of a checkpoint; `None` if it was never completed.
    pub(crate) fn manifest(&self, id: CheckpointId) -> Result<Option<(Manifest, u64)>> {
        let path = format!("{}/{MANIFEST_NAME}", self.dir(id));
        let bytes = match self.checkpoints.get(&path, MANIFEST_LEN_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| failed(&format!("read '{path}'"), error))?,
        };
        let manifest = Manifest::decode(&path, &bytes)?;
        if manifest.checkpoint_id != id || manifest.job_id != self.job_id {
            let message = format!(
                "manifest '{path}' is of checkpoint {} of job {}",
                manifest.checkpoint_id, manifest.job_id
            );
            return Err(Error::new(ErrorKind::Corruption, message));
        }
        Ok(Some((manifest, checksum(&bytes))))
    }

    fn chain(&self, below: Generation) -> Result<Chain> {
        Chain::read(self, below)
    }
}

/// The right to complete checkpoints of a job. Clones share it; subtasks write their parts through one.
#[derive(Clone, Debug)]
pub struct CheckpointOwner {
    storage: CheckpointStorage,
    generation: Generation,
    attempt: Attempt,
    first_id: CheckpointId,
    /// The snapshot that the job began with, if it is the job's now.
    claimed: Option<Claimed>,
}

impl CheckpointOwner {
    /// The number of this start of the job.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The random number of this start of the job.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The directory, in file handles and manifests, of a checkpoint or savepoint of this start.
    pub fn directory(&self, id: CheckpointId, kind: CheckpointKind) -> String {
        if kind.is_savepoint() {
            // As random as the attempt; and every subtask can tell it without being told.
            let random = checksum(format!("{}/{id}", self.attempt).as_bytes()) >> 16;
            format!("savepoint-{:06x}-{random:012x}", self.storage.job_id.0 >> 104)
        } else {
            self.storage.dir(id)
        }
    }

    /// Whom to tell that somebody has heard of the end that [`CheckpointOwner::end`] recorded.
    pub fn end_report(&self) -> EndReport {
        EndReport { storage: self.storage.clone(), generation: self.generation, attempt: self.attempt }
    }

    /// Begins to write what one subtask contributes; [`SnapshotWriter::finish`] returns what to acknowledge the checkpoint with.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] if the store refuses: the checkpoint is to be declined.
    pub fn begin_part(
        &self,
        id: CheckpointId,
        kind: CheckpointKind,
        subtask: SubtaskId,
    ) -> Result<Box<PartWriter>> {
        // Another owner that wakes up may be at the same number: the generation keeps the files apart.
        let name = format!("{}-{}.g{}", subtask.vertex.0, subtask.subtask, self.generation);
        let path = format!("{}/{name}", self.directory(id, kind));
        PartWriter::new(self.storage.store_of(&path), path).map(Box::new)
    }

    /// Writes what one subtask contributes, durably, if all of it is there. May be called again after an error, with the same snapshots.
    ///
    /// # Errors
    /// As [`CheckpointOwner::begin_part`].
    pub fn write_part(
        &self,
        id: CheckpointId,
        kind: CheckpointKind,
        subtask: SubtaskId,
        snapshots: &[(OperatorUid, OperatorSnapshot)],
    ) -> Result<FileHandle> {
        let mut part = self.begin_part(id, kind, subtask)?;
        snapshots.iter().try_for_each(|(uid, snapshot)| part.operator(uid, snapshot))?;
        part.finish()
    }

    /// The manifest that the coordinator asks for.
    pub fn manifest(
        &self,
        plan: &CheckpointPlan,
        request: &ManifestRequest,
        enumerators: &BTreeMap<OperatorUid, Vec<u8>>,
    ) -> Manifest {
        let whose = (self.storage.job_id, self.generation, self.attempt);
        let kind = request.barrier.kind;
        let savepoints = kind.is_savepoint().then(|| self.storage.savepoints.location());
        Manifest::new(
            whose,
            (self.directory(request.barrier.id, kind), savepoints),
            plan,
            request,
            enumerators,
        )
    }

    /// Completes a checkpoint: when this returns `Ok`, and not before, committables may be committed. A savepoint that stops the job
    /// also becomes the job's newest checkpoint, so that a crash while it commits goes on from it.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if another start owns the job: this one must stop at once. [`ErrorKind::Retry`] if it did not work, or
    /// it is not known whether it worked: the checkpoint counts as failed, but its files must stay, because a restart may find it complete.
    pub fn complete(&self, manifest: &Manifest) -> Result<()> {
        assert_eq!(
            (manifest.generation, manifest.attempt),
            (self.generation, self.attempt),
            "an owner completes its own checkpoints only"
        );
        // Only to fail early; the look that counts comes after.
        self.storage.ownership().verify(self.generation)?;
        let bytes = manifest.encode();
        if manifest.kind.is_savepoint() {
            self.put_manifest(&manifest.directory, &bytes)?;
        }
        if manifest.kind.commits() {
            self.put_manifest(&self.storage.dir(manifest.checkpoint_id), &bytes)?;
        }
        // Only now, see the documents of `owner`: whoever claims after this look sees the manifest.
        self.storage.ownership().verify(self.generation)
    }

    fn put_manifest(&self, dir: &str, bytes: &[u8]) -> Result<()> {
        let path = format!("{dir}/{MANIFEST_NAME}");
        let store = self.storage.store_of(&path);
        if put_or_find(store.as_ref(), &path, bytes, MANIFEST_LEN_MAX)? {
            // The directory may have been removed and made again by a former owner, at any time since our first part.
            let above = dir.rsplit_once('/').map_or("", |(above, _)| above);
            return store.sync(above).map_err(|error| failed(&format!("sync '{above}'"), error));
        }
        self.storage.ownership().verify(self.generation)?;
        // A former owner has taken the number; its manifest is void, and the next checkpoint has another number.
        Err(Error::new(ErrorKind::Retry, format!("manifest '{path}' was written by a former owner")))
    }

    /// Deletes what was written for a checkpoint or savepoint that was aborted before its manifest was asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`]; what stays is removed by the next start of the job, but for savepoints.
    pub fn discard(&self, id: CheckpointId, kind: CheckpointKind) -> Result<()> {
        let dir = self.directory(id, kind);
        let suffix = format!(".g{}", self.generation);
        if kind.is_savepoint() {
            // Nobody else has this directory. Its manifest goes first, so that nobody finds one without parts.
            delete(self.storage.savepoints.as_ref(), &dir, &[MANIFEST_NAME.to_owned()])?;
        }
        let store = self.storage.store_of(&dir);
        let mut names = list(store.as_ref(), &dir)?;
        names.retain(|name| name.ends_with(&suffix));
        delete(store.as_ref(), &dir, &names)
    }

    /// Deletes complete checkpoints that newer ones have replaced, but for the files that one of `kept` goes on from; and those that only they
    /// went on from. Files of savepoints stay, whoever refers to them.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if another start owns the job, [`ErrorKind::Retry`] if the store refuses,
    /// [`ErrorKind::Corruption`] if it cannot be known what is needed; what stays is removed by the next start of the job.
    pub fn subsume(&self, replaced: &[CheckpointId], kept: &[CheckpointId]) -> Result<()> {
        self.storage.ownership().verify(self.generation)?;
        let kept = self.files_of(kept)?;
        self.delete_checkpoints(replaced.iter().copied(), kept).into_iter().next().map_or(Ok(()), Err)
    }

    /// The files that checkpoints of the job name; of those that were never completed none.
    fn files_of(&self, ids: &[CheckpointId]) -> Result<BTreeSet<String>> {
        let mut files = BTreeSet::new();
        for id in ids {
            if let Some((manifest, _)) = self.storage.manifest(*id)? {
                files.extend(manifest.files().into_iter().map(|file| file.path.clone()));
            }
        }
        Ok(files)
    }

    /// Deletes checkpoints with the files that they name, but for those in `kept`. One that cannot be deleted is not in the way of the others,
    /// but keeps its files: returns what went wrong.
    fn delete_checkpoints(
        &self,
        ids: impl Iterator<Item = CheckpointId>,
        mut kept: BTreeSet<String>,
    ) -> Vec<Error> {
        let mut errors = Vec::new();
        let mut files = BTreeSet::new();
        for id in ids {
            let named = self.files_of(&[id]);
            let deleted = match self.claimed.as_ref().filter(|claimed| claimed.checkpoint_id == id) {
                Some(claimed) => claimed.delete(&self.storage.env),
                None => self.delete_manifest(id).map(|beside| files.extend(beside)),
            };
            match (deleted, named) {
                (Ok(()), Ok(named)) => files.extend(named),
                (Ok(()), Err(error)) => errors.push(error),
                (Err(error), named) => {
                    errors.push(error);
                    // It may still be there after a crash. What stays is collected by the next start.
                    let Ok(named) = named else { return errors };
                    kept.extend(named);
                }
            }
        }
        let of_job = format!("{}/", self.storage.job_id);
        files.retain(|file: &String| file.starts_with(&of_job));
        let mut by_dir = BTreeMap::<_, Vec<_>>::new();
        let is_free = |file: &&String| !kept.contains(*file) || canary("delete-what-others-go-on-from");
        for (dir, name) in files.iter().filter(is_free).filter_map(|file| file.rsplit_once('/')) {
            by_dir.entry(dir).or_default().push(name.to_owned());
        }
        let store = self.storage.checkpoints.as_ref();
        errors.extend(by_dir.into_iter().filter_map(|(dir, names)| delete(store, dir, &names).err()));
        errors
    }

    /// Deletes the manifest of a checkpoint durably, before anything that it names: after a power failure there are files without a
    /// manifest, never the opposite. Returns what else is in its directory.
    fn delete_manifest(&self, id: CheckpointId) -> Result<Vec<String>> {
        let (dir, store) = (self.storage.dir(id), self.storage.checkpoints.as_ref());
        delete(store, &dir, &[MANIFEST_NAME.to_owned()])?;
        Ok(list(store, &dir)?.into_iter().map(|name| format!("{dir}/{name}")).collect())
    }

    /// Deletes files of parts that came too late for their checkpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`]; what stays is removed by the next start of the job.
    pub fn delete_files(&self, files: &[FileHandle]) -> Result<()> {
        let suffix = format!(".g{}", self.generation);
        for file in files.iter().filter(|file| file.path.ends_with(&suffix)) {
            if let Some((dir, name)) = file.path.rsplit_once('/') {
                delete(self.storage.store_of(dir).as_ref(), dir, &[name.to_owned()])?;
            }
        }
        Ok(())
    }

    /// Removes what earlier starts have left and nothing needs: parts without a manifest, manifests of owners that were fenced off, temporary files.
    /// To be called after the job has started, on any thread. Returns how many files were deleted.
    ///
    /// # Errors
    /// As [`CheckpointOwner::subsume`].
    pub fn collect_garbage(&self) -> Result<usize> {
        gc::collect(&self.storage, self.generation, self.first_id)
    }

    /// The job has reached its end. With `retain` its checkpoints stay, and are the user's from now on; otherwise they are deleted. Savepoints stay in
    /// any case. A later start begins anew: at once if there is no `result`, else when [`EndReport::told`] was called.
    ///
    /// The job has ended whether or not checkpoints could be deleted: why not is returned, and what stays is collected by the next start.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if another start owns the job; [`ErrorKind::Retry`] if the end could not be recorded: call it again.
    pub fn end(&self, retain: bool, result: Option<JobEnding>) -> Result<Vec<Error>> {
        let ownership = self.storage.ownership();
        // Only to fail for the right reason: a later owner deletes what this one would miss.
        ownership.verify(self.generation)?;
        let chain = self.storage.chain(Generation(self.generation.0 + 1));
        let chain = chain.or_else(|error| ownership.verify(self.generation).and(Err(error)))?;
        // First: what is deleted only in part would be missed by a start that goes on.
        let result = result.map(|result| JobEnding { root_checksum: chain.root_checksum, ..result });
        ownership.end(self.generation, self.attempt, retain, result)?;
        // The look that counts: whoever claims after it sees the record, and begins anew; whoever has claimed before goes on from what would be
        // deleted here.
        ownership.verify(self.generation)?;
        if retain {
            return Ok(Vec::new());
        }
        let of_claimed = self.claimed.iter().map(|claimed| claimed.checkpoint_id);
        let ids = of_claimed.chain(chain.valid.into_keys()).chain(chain.void.into_keys());
        Ok(self.delete_checkpoints(ids, BTreeSet::new()))
    }
}

pub(crate) fn list(store: &dyn ObjectStore, dir: &str) -> Result<Vec<String>> {
    store.list(dir).map_err(|error| failed(&format!("list '{dir}'"), error))
}

/// Deletes files of a directory durably, and the directory if it is empty then.
pub(crate) fn delete(store: &dyn ObjectStore, dir: &str, names: &[String]) -> Result<()> {
    for name in names {
        let path = format!("{dir}/{name}");
        store.delete(&path).map_err(|error| failed(&format!("delete '{path}'"), error))?;
    }
    store
        .sync(dir)
        .and_then(|()| store.remove_empty_dir(dir))
        .map_err(|error| failed(&format!("sync '{dir}'"), error))
}

#[cfg(test)]
mod tests;
