//! List, union and broadcast states: small, and read as a whole. From version 4 on the schemas of their entries follow.
//!
//! Written by hand rather than with serde: entries are runs of bytes, which are copied at once here.

use crate::codec::{Reader, put_bytes, put_len};
use flott_schema::{EntrySchemas, OperatorSchemas};
use flott_state::OperatorSnapshot;
use flott_types::{Error, Result};
use std::collections::BTreeMap;

/// Appends the list, union and broadcast states of an operator.
///
/// # Errors
/// If their schemas cannot be encoded.
pub(super) fn put(out: &mut Vec<u8>, snapshot: &OperatorSnapshot) -> Result<()> {
    put_states(out, snapshot);
    let schemas = snapshot.schemas.encode();
    put_bytes(
        out,
        &schemas.map_err(|error| Error::user("cannot write the schemas of state").with_source(error))?,
    );
    Ok(())
}

/// As versions before the fourth did.
pub(super) fn put_states(out: &mut Vec<u8>, snapshot: &OperatorSnapshot) {
    for lists in [&snapshot.list, &snapshot.union] {
        put_len(out, lists.len());
        for (name, entries) in lists {
            put_bytes(out, name.as_bytes());
            put_len(out, entries.len());
            entries.iter().for_each(|entry| put_bytes(out, entry));
        }
    }
    put_len(out, snapshot.broadcast.len());
    for (name, bytes) in &snapshot.broadcast {
        put_bytes(out, name.as_bytes());
        put_bytes(out, bytes);
    }
}

/// Reads them into `snapshot`, from a file of this version.
pub(super) fn read(reader: &mut Reader<'_, '_>, version: u32, snapshot: &mut OperatorSnapshot) -> Result<()> {
    snapshot.list = named(reader, entries)?;
    snapshot.union = named(reader, entries)?;
    snapshot.broadcast = named(reader, |reader| reader.bytes())?;
    if version >= 4 {
        let record = reader.bytes()?;
        snapshot.schemas = OperatorSchemas::decode(&record)
            .map_err(|error| reader.error("the schemas of state cannot be read").with_source(error))?;
        check_schemas(reader, snapshot)?;
    }
    Ok(())
}

/// A schema that is taken for another entry's would misread it.
fn check_schemas(reader: &Reader<'_, '_>, snapshot: &OperatorSnapshot) -> Result<()> {
    let check = |schemas: &EntrySchemas, n_entries: &dyn Fn(&str) -> Option<usize>| {
        for (name, recorded) in schemas.states() {
            let n_entries = n_entries(name).unwrap_or_default() as u64;
            if recorded != n_entries {
                let what =
                    format_args!("schemas of {recorded} entries of state '{name}', which has {n_entries}");
                return Err(reader.error(what));
            }
        }
        Ok(())
    };
    let OperatorSnapshot { list, union, broadcast, schemas, .. } = snapshot;
    check(&schemas.list, &|name| list.get(name).map(Vec::len))?;
    check(&schemas.union, &|name| union.get(name).map(Vec::len))?;
    check(&schemas.broadcast, &|name| broadcast.get(name).map(|_| 1))
}

/// States by name, each read by `state`.
pub(super) fn named<T>(
    reader: &mut Reader<'_, '_>,
    mut state: impl FnMut(&mut Reader<'_, '_>) -> Result<T>,
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

pub(super) fn entries(reader: &mut Reader<'_, '_>) -> Result<Vec<Vec<u8>>> {
    (0..reader.len(8)?).map(|_| reader.bytes()).collect()
}
