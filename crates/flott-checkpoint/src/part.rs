//! The file that one subtask contributes to a checkpoint: the snapshots of all operators of its chain.
//!
//! ```text
//! FLOTTSNP | version (u32) | sections | index | length of the index (u64) | XXH3-64 of header, index and length (u64)
//! ```
//!
//! It is written while key groups come and read as they are wanted (docs/design/0010-parts-and-increments.md).
//!
//! A part may go on from earlier ones of the same subtask: of some keyed states it has only what has changed since.
//!
//! * `index`: where the sections are. `lists`: what is no keyed state. `v1`: how parts were before.
//! * `writer`: one that is being written. `file`: one in its store.

mod file;
mod index;
mod lists;
mod v1;
mod writer;

pub(crate) use file::PartFile;
pub use writer::PartWriter;

use crate::codec::{Reader, corrupt};
use crate::store::ObjectStore;
use flott_state::{GroupBytes, OperatorSnapshot};
use flott_types::{Error, ErrorKind, OperatorUid, Result};
use index::{HEADER_LEN, IndexedOperator, MAGIC, Section, TRAILER_LEN};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::io;
use twox_hash::XxHash3_64;

/// The version that is written. Version 2 knows no changes, version 3 no schemas of what is no keyed state.
pub(crate) const VERSION: u32 = 4;

/// What one operator has in a part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PartOperator {
    pub(crate) snapshot: OperatorSnapshot,
    /// The keyed states of which it has only changes of what the part before has.
    pub(crate) continued: BTreeSet<String>,
}

/// What the operators of a chain have in a part.
pub(crate) type PartOperators = BTreeMap<OperatorUid, PartOperator>;

/// What they have with `newer`, the part of `file`, which may go on from `older`.
pub(crate) fn put_over(
    mut older: BTreeMap<OperatorUid, OperatorSnapshot>,
    file: &str,
    newer: PartOperators,
) -> Result<BTreeMap<OperatorUid, OperatorSnapshot>> {
    let mut put_over = BTreeMap::new();
    for (uid, PartOperator { mut snapshot, continued }) in newer {
        for name in continued {
            let before = older.get_mut(&uid).and_then(|before| before.keyed.remove(&name));
            let Some(mut groups) = before else {
                let message = format!(
                    "file '{file}' has changes of state '{name}' of operator '{uid}', which is in no file before"
                );
                return Err(Error::new(ErrorKind::Corruption, message));
            };
            for (group, changes) in snapshot.keyed.remove(&name).unwrap_or_default() {
                groups.entry(group).or_default().extend(changes);
            }
            snapshot.keyed.insert(name, groups);
        }
        put_over.insert(uid, snapshot);
    }
    Ok(put_over)
}

/// Bytes that are compared with a checksum at a time.
const BLOCK_BYTES: u64 = 4 << 20;

/// The checksum of the first `len` bytes of an object.
fn checksum_of(store: &dyn ObjectStore, path: &str, len: u64) -> io::Result<u64> {
    let mut hasher = XxHash3_64::new();
    let mut offset = 0;
    while offset < len {
        let block = store.get_range(path, offset, BLOCK_BYTES.min(len - offset))?;
        hasher.write(&block);
        offset += block.len() as u64;
    }
    Ok(hasher.finish())
}

/// The version that a file says it has.
fn version(header: &[u8]) -> u32 {
    let bytes = header.get(8..HEADER_LEN).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn check_version(file: &str, header: &[u8]) -> Result<()> {
    let version = version(header);
    if (1..=VERSION).contains(&version) {
        return Ok(());
    }
    let message =
        format!("file '{file}' has format version {version}, this build reads versions 1 to {VERSION}");
    Err(Error::user(message))
}

/// Reads a part that is in memory; `file` is for messages.
fn decode(file: &str, bytes: &[u8]) -> Result<PartOperators> {
    let mut reader = Reader::new(file, bytes);
    if reader.take(MAGIC.len())? != MAGIC {
        let expected = String::from_utf8_lossy(&MAGIC).into_owned();
        return Err(corrupt(file, 0, format_args!("does not begin with '{expected}'")));
    }
    if reader.u32()? == 1 {
        return v1::decode(file, bytes);
    }
    let trailer_at = bytes.len().saturating_sub(TRAILER_LEN).max(HEADER_LEN);
    let trailer = bytes.get(trailer_at..).unwrap_or_default();
    let index_len = index::index_len(file, bytes.len() as u64, trailer)?;
    let base = trailer_at.saturating_sub(index_len as usize);
    let header = bytes.get(..HEADER_LEN).unwrap_or_default();
    let operators = index::decode(file, header, base, bytes.get(base..).unwrap_or_default())?;
    operators.into_iter().map(|operator| in_memory(file, version(header), bytes, operator)).collect()
}

fn in_memory(
    file: &str,
    version: u32,
    bytes: &[u8],
    operator: IndexedOperator,
) -> Result<(OperatorUid, PartOperator)> {
    let IndexedOperator { uid, key_hash_version, max_parallelism, keyed, lists } = operator;
    let section = |section: &Section| {
        let end = section.offset.saturating_add(section.len) as usize;
        let found = bytes.get(section.offset as usize..end).unwrap_or_default();
        if crate::codec::checksum(found) == section.checksum {
            return Ok(found);
        }
        let what = format_args!("the section of {} bytes has another checksum", section.len);
        Err(corrupt(file, section.offset as usize, what))
    };
    let mut snapshot = OperatorSnapshot { key_hash_version, max_parallelism, ..OperatorSnapshot::default() };
    let mut continued = BTreeSet::new();
    for (name, state) in keyed {
        if state.continues {
            continued.insert(name.clone());
        }
        let of_state = snapshot.keyed.entry(name).or_default();
        for (group, sections) in state.groups {
            let of_group = of_state.entry(group).or_default();
            for at in sections {
                of_group.push(at.kind, section(&at)?.to_vec());
            }
        }
    }
    let mut reader = Reader::at(file, lists.offset as usize, section(&lists)?);
    lists::read(&mut reader, version, &mut snapshot)?;
    reader.finish()?;
    Ok((uid, PartOperator { snapshot, continued }))
}

/// Bytes of state in a snapshot, without names and lengths.
pub(crate) fn state_len(snapshot: &OperatorSnapshot) -> u64 {
    let lists = snapshot.list.values().chain(snapshot.union.values());
    let bytes = lists.flatten().chain(snapshot.broadcast.values());
    let keyed = snapshot.keyed.values().flat_map(BTreeMap::values);
    bytes.map(|bytes| bytes.len() as u64).sum::<u64>() + keyed.map(GroupBytes::n_bytes).sum::<u64>()
}

#[cfg(test)]
mod tests;
