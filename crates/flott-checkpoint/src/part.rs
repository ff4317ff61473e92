//! The file that one subtask contributes to a checkpoint: the snapshots of all operators of its chain.
//!
//! Written by hand rather than with serde: state is long runs of bytes, which are copied at once here. Fields are taken apart by name, so
//! that a field added to [`OperatorSnapshot`] does not compile until the format has it (and another version).

use crate::codec::{Format, Reader, frame, put_bytes, put_len, unframe};
use flott_state::{KeyGroupBytes, OperatorSnapshot};
use flott_types::{KeyGroup, OperatorUid, Result};
use std::collections::BTreeMap;

const FORMAT: Format = Format { magic: *b"FLOTTSNP", version: 1 };

/// The bytes of a part file.
pub(crate) fn encode(snapshots: &[(OperatorUid, OperatorSnapshot)]) -> Vec<u8> {
    let len_hint = snapshots.iter().map(|(_, snapshot)| approximate_len(snapshot)).sum();
    frame(FORMAT, len_hint, |out| {
        put_len(out, snapshots.len());
        for (uid, snapshot) in snapshots {
            put_bytes(out, uid.0.as_bytes());
            put_snapshot(out, snapshot);
        }
    })
}

/// Reads a part file; `file` is for messages.
pub(crate) fn decode(file: &str, bytes: &[u8]) -> Result<BTreeMap<OperatorUid, OperatorSnapshot>> {
    let mut reader = Reader::new(file, unframe(FORMAT, file, bytes)?);
    let mut snapshots = BTreeMap::new();
    for _ in 0..reader.len(8)? {
        let uid = OperatorUid(reader.string()?);
        let snapshot = snapshot(&mut reader)?;
        if snapshots.insert(uid.clone(), snapshot).is_some() {
            return Err(reader.error(format_args!("operator '{uid}' is there twice")));
        }
    }
    reader.finish()?;
    Ok(snapshots)
}

/// Bytes of state in a snapshot, without names and lengths.
pub(crate) fn state_len(snapshot: &OperatorSnapshot) -> usize {
    let lists = snapshot.list.values().chain(snapshot.union.values());
    let keyed = snapshot.keyed.values().flat_map(BTreeMap::values);
    let bytes = keyed.chain(lists.flatten()).chain(snapshot.broadcast.values());
    bytes.map(Vec::len).sum()
}

fn approximate_len(snapshot: &OperatorSnapshot) -> usize {
    let lists = snapshot.list.values().chain(snapshot.union.values()).map(Vec::len);
    let groups = snapshot.keyed.values().map(BTreeMap::len);
    state_len(snapshot) + 12 * lists.chain(groups).sum::<usize>() + 1024
}

fn put_snapshot(out: &mut Vec<u8>, snapshot: &OperatorSnapshot) {
    let OperatorSnapshot { key_hash_version, max_parallelism, keyed, list, union, broadcast } = snapshot;
    out.extend(key_hash_version.to_le_bytes());
    out.extend(max_parallelism.to_le_bytes());
    put_len(out, keyed.len());
    for (name, groups) in keyed {
        put_bytes(out, name.as_bytes());
        put_len(out, groups.len());
        for (group, bytes) in groups {
            out.extend(group.0.to_le_bytes());
            put_bytes(out, bytes);
        }
    }
    for lists in [list, union] {
        put_len(out, lists.len());
        for (name, entries) in lists {
            put_bytes(out, name.as_bytes());
            put_len(out, entries.len());
            entries.iter().for_each(|entry| put_bytes(out, entry));
        }
    }
    put_len(out, broadcast.len());
    for (name, bytes) in broadcast {
        put_bytes(out, name.as_bytes());
        put_bytes(out, bytes);
    }
}

fn snapshot(reader: &mut Reader<'_, '_>) -> Result<OperatorSnapshot> {
    Ok(OperatorSnapshot {
        key_hash_version: reader.u32()?,
        max_parallelism: reader.u32()?,
        keyed: named(reader, key_groups)?,
        list: named(reader, entries)?,
        union: named(reader, entries)?,
        broadcast: named(reader, |reader| reader.bytes())?,
    })
}

/// States by name, each read by `state`.
fn named<T>(
    reader: &mut Reader<'_, '_>,
    state: impl Fn(&mut Reader<'_, '_>) -> Result<T>,
) -> Result<BTreeMap<String, T>> {
    let mut states = BTreeMap::new();
    for _ in 0..reader.len(16)? {
        let name = reader.string()?;
        let value = state(reader)?;
        if states.insert(name.clone(), value).is_some() {
            return Err(reader.error(format_args!("state '{name}' is there twice")));
        }
    }
    Ok(states)
}

fn key_groups(reader: &mut Reader<'_, '_>) -> Result<KeyGroupBytes> {
    let mut groups = KeyGroupBytes::new();
    for _ in 0..reader.len(12)? {
        let group = KeyGroup(reader.u32()?);
        if groups.insert(group, reader.bytes()?).is_some() {
            return Err(reader.error(format_args!("key group {group} is there twice")));
        }
    }
    Ok(groups)
}

fn entries(reader: &mut Reader<'_, '_>) -> Result<Vec<Vec<u8>>> {
    (0..reader.len(8)?).map(|_| reader.bytes()).collect()
}

#[cfg(test)]
mod tests;
