//! List, union and broadcast states: small, and read as a whole.
//!
//! Written by hand rather than with serde: entries are runs of bytes, which are copied at once here.

use crate::codec::{Reader, put_bytes, put_len};
use flott_state::OperatorSnapshot;
use flott_types::Result;
use std::collections::BTreeMap;

/// Appends the list, union and broadcast states of an operator.
pub(super) fn put(out: &mut Vec<u8>, snapshot: &OperatorSnapshot) {
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

/// Reads them into `snapshot`.
pub(super) fn read(reader: &mut Reader<'_, '_>, snapshot: &mut OperatorSnapshot) -> Result<()> {
    snapshot.list = named(reader, entries)?;
    snapshot.union = named(reader, entries)?;
    snapshot.broadcast = named(reader, |reader| reader.bytes())?;
    Ok(())
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
