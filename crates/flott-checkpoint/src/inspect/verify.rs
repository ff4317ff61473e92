//! Whether a snapshot is whole: all that can be compared with something else is compared.

use crate::inspect::{Owners, owners};
use crate::manifest::OperatorManifest;
use crate::restore::OpenSnapshot;
use flott_state::{OperatorSnapshot, STATE_SCHEMAS};
use flott_types::{
    Error, ErrorKind, FileHandle, KEY_HASH_VERSION, KeyGroup, KeyGroupRange, OperatorUid, Result,
    SubtaskIndex, key_group_range,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What was found whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Files of which presence, length, checksum and content were checked, the manifest not counted.
    pub files: Vec<FileCheck>,
    /// Operators of the manifest, of each of which every subtask was found or had finished.
    pub operators: usize,
    /// Keyed states of which no key group is in two parts or outside of its subtask's range.
    pub keyed_states: usize,
    /// Key groups in them.
    pub key_groups: usize,
    /// Entries of operator state.
    pub entries: usize,
}

/// A file that was found whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileCheck {
    /// Its path in the snapshot.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3-64 of it.
    pub checksum: String,
}

/// Checks that every file is there and has the length and checksum that the manifest says; can be decoded; holds exactly the
/// operators whose subtasks the manifest gives it; that key groups are within their subtask's range and in one part only; and that
/// keys were hashed as this build does it. The manifest itself was checked when the snapshot was opened.
///
/// # Errors
/// [`ErrorKind::Corruption`] that names the first file that is not whole, and where in it; [`ErrorKind::UserError`] if another version
/// of the key hash was used; [`ErrorKind::Retry`] if the store does not answer.
pub fn verify_snapshot(snapshot: &OpenSnapshot) -> Result<Verification> {
    let manifest = snapshot.manifest();
    check_hash_version("the manifest", manifest.key_hash_version)?;
    let operators: BTreeMap<_, _> =
        manifest.operators.iter().map(|operator| (&operator.uid, operator)).collect();
    let owners = owners(snapshot);
    let mut verification = Verification { operators: operators.len(), ..Verification::default() };
    let mut seen = Seen::default();
    for (handle, bases) in manifest.parts() {
        let parts = snapshot.part(handle, bases)?;
        check_owners(handle, &owners, &parts)?;
        for (uid, part) in &parts {
            // Both are there: `check_owners` has compared them.
            let Some(operator) = operators.get(uid) else { continue };
            let Some(subtask) = owners.get(handle.path.as_str()).and_then(|subtasks| subtasks.get(uid))
            else {
                continue;
            };
            PartCheck { handle, operator, subtask: *subtask }.check(part, &mut seen)?;
            let unions = part.union.iter().filter(|(name, _)| *name != STATE_SCHEMAS);
            let lists = part.list.values().chain(unions.map(|(_, entries)| entries));
            verification.entries += lists.map(Vec::len).sum::<usize>();
            verification.entries += part.broadcast.len();
        }
    }
    let check = |handle: &FileHandle| FileCheck {
        path: handle.path.clone(),
        bytes: handle.len,
        checksum: format!("{:016x}", handle.checksum),
    };
    verification.files = manifest.files().into_iter().map(check).collect();
    verification.keyed_states = seen.len();
    verification.key_groups = seen.values().map(BTreeMap::len).sum();
    Ok(verification)
}

/// The file in which each key group of each keyed state was found.
type Seen<'a> = BTreeMap<(&'a OperatorUid, String), BTreeMap<KeyGroup, &'a str>>;

fn damaged(handle: &FileHandle, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corruption, format!("file '{}' is damaged: {what}", handle.path))
}

fn check_hash_version(whose: &str, version: u32) -> Result<()> {
    if version == KEY_HASH_VERSION {
        return Ok(());
    }
    Err(Error::user(format!(
        "{whose} uses version {version} of the key hash, this build version {KEY_HASH_VERSION}: it cannot be restored by this build"
    )))
}

/// A file has the operators that the manifest gives it, no more and no less.
fn check_owners(
    handle: &FileHandle,
    owners: &Owners<'_>,
    parts: &BTreeMap<OperatorUid, OperatorSnapshot>,
) -> Result<()> {
    let expected = owners.get(handle.path.as_str());
    if let Some(uid) = expected.into_iter().flat_map(BTreeMap::keys).find(|uid| !parts.contains_key(**uid)) {
        return Err(damaged(handle, format_args!("it has no state of operator '{uid}'")));
    }
    match parts.keys().find(|uid| expected.is_none_or(|subtasks| !subtasks.contains_key(uid))) {
        Some(uid) => {
            Err(damaged(handle, format_args!("it has state of operator '{uid}', which is not in it")))
        }
        None => Ok(()),
    }
}

/// What one operator has in one file.
struct PartCheck<'a> {
    handle: &'a FileHandle,
    operator: &'a OperatorManifest,
    subtask: SubtaskIndex,
}

impl<'a> PartCheck<'a> {
    fn check(&self, part: &OperatorSnapshot, seen: &mut Seen<'a>) -> Result<()> {
        let Self { handle, operator, subtask } = self;
        check_hash_version(&format!("file '{}'", handle.path), part.key_hash_version)?;
        let max_parallelism = operator.max_parallelism;
        if part.max_parallelism != 0 && part.max_parallelism != max_parallelism {
            let message = format_args!(
                "operator '{}' has {} key groups in it, and {max_parallelism} in the manifest",
                operator.uid, part.max_parallelism
            );
            return Err(damaged(handle, message));
        }
        let range = key_group_range(*subtask, max_parallelism, operator.parallelism);
        for (name, groups) in &part.keyed {
            let seen = seen.entry((&operator.uid, name.clone())).or_default();
            groups.keys().try_for_each(|group| self.check_group(name, *group, range, seen))?;
        }
        Ok(())
    }

    fn check_group(
        &self,
        name: &str,
        group: KeyGroup,
        range: KeyGroupRange,
        seen: &mut BTreeMap<KeyGroup, &'a str>,
    ) -> Result<()> {
        let Self { handle, operator, subtask } = self;
        let place = format!("key group {group} of state '{name}' of operator '{}'", operator.uid);
        if let Some(other) = seen.insert(group, &handle.path) {
            return Err(damaged(handle, format_args!("{place} is in file '{other}', too")));
        }
        if !range.contains(group) {
            let KeyGroupRange { start, end } = range;
            let what = format_args!("{place} does not belong to subtask {subtask}, which has {start}..{end}");
            return Err(damaged(handle, what));
        }
        Ok(())
    }
}
