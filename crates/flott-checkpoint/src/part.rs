//! The file that one subtask contributes to a checkpoint: the snapshots of all operators of its chain.
//!
//! ```text
//! FLOTTSNP | version (u32) | sections | index | length of the index (u64) | XXH3-64 of header, index and length (u64)
//! ```
//!
//! It is written while key groups come and read as they are wanted (docs/design/0010-parts-and-increments.md).
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
use flott_types::{Error, OperatorUid, Result};
use index::{HEADER_LEN, IndexedOperator, MAGIC, Section, TRAILER_LEN};
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io;
use twox_hash::XxHash3_64;

/// The version that is written.
pub(crate) const VERSION: u32 = 2;

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
fn decode(file: &str, bytes: &[u8]) -> Result<BTreeMap<OperatorUid, OperatorSnapshot>> {
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
    operators.into_iter().map(|operator| in_memory(file, bytes, operator)).collect()
}

fn in_memory(file: &str, bytes: &[u8], operator: IndexedOperator) -> Result<(OperatorUid, OperatorSnapshot)> {
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
    for (name, groups) in keyed {
        let of_state = snapshot.keyed.entry(name).or_default();
        for (group, sections) in groups {
            let of_group = of_state.entry(group).or_default();
            sections.iter().try_for_each(|at| section(at).map(|bytes| of_group.push(bytes.to_vec())))?;
        }
    }
    let mut reader = Reader::at(file, lists.offset as usize, section(&lists)?);
    lists::read(&mut reader, &mut snapshot)?;
    reader.finish()?;
    Ok((uid, snapshot))
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
