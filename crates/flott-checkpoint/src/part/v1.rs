//! The first version of parts: everything in one frame, which is read as a whole. It is not written any more, and read for ever.

use super::{PartOperator, PartOperators, lists};
use crate::codec::{Format, Reader, unframe};
use flott_schema::OperatorSchemas;
use flott_state::{KeyGroupBytes, OperatorSnapshot};
use flott_types::{KeyGroup, OperatorUid, Result};
use std::collections::BTreeSet;

pub(super) const FORMAT: Format = Format { magic: *b"FLOTTSNP", version: 1 };

/// Reads a part file; `file` is for messages.
pub(super) fn decode(file: &str, bytes: &[u8]) -> Result<PartOperators> {
    let mut reader = Reader::new(file, unframe(FORMAT, file, bytes)?);
    let mut snapshots = PartOperators::new();
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

fn snapshot(reader: &mut Reader<'_, '_>) -> Result<PartOperator> {
    let snapshot = OperatorSnapshot {
        key_hash_version: reader.u32()?,
        max_parallelism: reader.u32()?,
        keyed: lists::named(reader, key_groups)?,
        list: lists::named(reader, lists::entries)?,
        union: lists::named(reader, lists::entries)?,
        broadcast: lists::named(reader, |reader| reader.bytes())?,
        schemas: OperatorSchemas::default(),
    };
    Ok(PartOperator { snapshot, continued: BTreeSet::new() })
}

fn key_groups(reader: &mut Reader<'_, '_>) -> Result<KeyGroupBytes> {
    let mut groups = KeyGroupBytes::new();
    for _ in 0..reader.len(12)? {
        let group = KeyGroup(reader.u32()?);
        if groups.insert(group, reader.bytes()?.into()).is_some() {
            return Err(reader.error(format_args!("key group {group} is there twice")));
        }
    }
    Ok(groups)
}
