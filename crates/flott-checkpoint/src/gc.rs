//! What earlier starts of a job have left behind and nothing needs.
//!
//! Decided from manifests that were read, never from counters kept on the side: a file is kept if a checkpoint that counts
//! names it. Not looked at, let alone deleted: savepoints; checkpoints from before the job's present history, which are the user's; whatever
//! a newer generation has written. If a manifest cannot be read, nothing is deleted at all, because it cannot be known what it names.

use crate::chain::Chain;
use crate::manifest::{MANIFEST_NAME, Manifest};
use crate::owner::Generation;
use crate::storage::{CheckpointStorage, delete, list};
use crate::store::TEMP_PREFIX;
use flott_types::{CheckpointId, Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What is known when garbage is looked for.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// Who asks.
    pub(crate) generation: Generation,
    /// The first number that the asking generation may use.
    pub(crate) first_id: CheckpointId,
    /// Checkpoints that count.
    pub(crate) valid: &'a BTreeMap<CheckpointId, Manifest>,
    /// Complete checkpoints that are not ours to delete.
    pub(crate) foreign: &'a BTreeMap<CheckpointId, Manifest>,
}

/// The names in the directory of checkpoint `id` that may be deleted, the manifest first.
pub(crate) fn garbage(known: &Known<'_>, id: CheckpointId, dir: &str, names: &[String]) -> Vec<String> {
    if known.foreign.contains_key(&id) {
        return Vec::new();
    }
    // What they go on from may be in any directory.
    let manifests = known.valid.values().chain(known.foreign.values());
    let kept: BTreeSet<&str> = manifests.flat_map(Manifest::files).map(|file| file.path.as_str()).collect();
    let is_own = id >= known.first_id;
    let may_go = |name: &str| {
        if kept.contains(format!("{dir}/{name}").as_str()) && !flott_env::canary("collect-live-parts") {
            return false;
        }
        match generation_of(name) {
            Some(generation) => generation < known.generation,
            // In directories of our own numbers we may be writing at this moment.
            None if name == MANIFEST_NAME => !known.valid.contains_key(&id) && !is_own,
            None => name.starts_with(TEMP_PREFIX) && !is_own,
        }
    };
    let mut names: Vec<_> = names.iter().filter(|name| may_go(name)).cloned().collect();
    names.sort_by_key(|name| name != MANIFEST_NAME);
    names
}

/// The generation that wrote a part, by its name.
fn generation_of(name: &str) -> Option<Generation> {
    name.rsplit_once(".g")?.1.parse().ok().map(Generation)
}

pub(crate) fn collect(
    storage: &CheckpointStorage,
    generation: Generation,
    first_id: CheckpointId,
) -> Result<usize> {
    storage.ownership().verify(generation)?;
    let chain = Chain::read(storage, Generation(generation.0 + 1))?;
    if let Some(id) = chain.unreadable.first() {
        let message = format!(
            "nothing is deleted, because the manifest of checkpoint {id} of job {} cannot be read",
            storage.job_id
        );
        return Err(Error::new(ErrorKind::Corruption, message));
    }
    let known = Known { generation, first_id, valid: &chain.valid, foreign: &chain.foreign };
    let store = storage.checkpoints.as_ref();
    let mut n_deleted = 0;
    for id in &chain.listing.checkpoints {
        let dir = storage.dir(*id);
        let names = garbage(&known, *id, &dir, &list(store, &dir)?);
        if names.is_empty() {
            continue;
        }
        // Whoever took over meanwhile may have chosen what we take for void.
        storage.ownership().verify(generation)?;
        let (manifest, parts): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == MANIFEST_NAME);
        n_deleted += manifest.len() + parts.len();
        delete(store, &dir, &manifest)?;
        delete(store, &dir, &parts)?;
    }
    Ok(n_deleted + collect_temporary(storage)?)
}

/// Records of ownership whose writers died. One that lives and finds its file gone writes it again.
fn collect_temporary(storage: &CheckpointStorage) -> Result<usize> {
    let dir = storage.job_id.to_string();
    let mut names = list(storage.checkpoints.as_ref(), &dir)?;
    names.retain(|name| name.starts_with(TEMP_PREFIX));
    delete(storage.checkpoints.as_ref(), &dir, &names)?;
    Ok(names.len())
}

#[cfg(test)]
mod tests;
