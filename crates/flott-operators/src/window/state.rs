//! How window operators are written into snapshots.

use flott_state::{EntryReader, KeyGroupBytes, OperatorSnapshot, encode};
use flott_types::{Error, ErrorKind, Key, KeyGroup, Result, key_group, key_hash};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Keyed state of the general operator: the windows of each key.
pub(crate) const WINDOWS: &str = "_windows";
/// Keyed state of the slice operator: accumulators by key and slice.
pub(crate) const SLICES: &str = "_windows/slices";
/// Keyed state of the session operator: sessions by key.
pub(crate) const SESSIONS: &str = "_windows/sessions";
/// Keyed state of the count operator: the window being filled, by key.
pub(crate) const COUNTS: &str = "_windows/counts";

/// Refuses a snapshot in which another kind of window operator has left its state.
pub(crate) fn check_kind(own: &str, snapshot: &OperatorSnapshot) -> Result<()> {
    let states = [WINDOWS, SLICES, SESSIONS, COUNTS];
    match states.into_iter().find(|name| *name != own && snapshot.keyed.contains_key(*name)) {
        Some(found) => Err(Error::user(format!(
            "the snapshot has the window state '{found}' where '{own}' is expected: the operator's windows, trigger, \
             evictor or allowed lateness have changed in a way that does not fit"
        ))),
        None => Ok(()),
    }
}

/// Writes entries by the key group of their key. A key may have several.
pub(crate) fn snapshot_entries<'a, K: Key, V: Serialize>(
    what: &str,
    max_parallelism: u32,
    entries: impl Iterator<Item = (&'a K, V)>,
) -> Result<KeyGroupBytes> {
    let mut groups = BTreeMap::<KeyGroup, Vec<(&K, V)>>::new();
    for (key, value) in entries {
        groups.entry(key_group(key_hash(key), max_parallelism)).or_default().push((key, value));
    }
    groups.into_iter().map(|(group, entries)| Ok((group, encode(what, &entries)?.into()))).collect()
}

/// Reads a section of a key group, which [`snapshot_entries`] may have written, by `reader`; `each` gets the key's hash, key and value.
pub(crate) fn restore_section<K: Key, V: DeserializeOwned>(
    what: &str,
    max_parallelism: u32,
    group: KeyGroup,
    section: &[u8],
    reader: &EntryReader,
    mut each: impl FnMut(u64, K, V) -> Result<()>,
) -> Result<()> {
    reader.decode::<Vec<(K, V)>>(what, group, section)?.into_iter().try_for_each(|(key, value)| {
        let hash = check_group(what, max_parallelism, group, &key)?;
        each(hash, key, value)
    })
}

/// The hash of a key that was found in a key group, which must be its own.
pub(crate) fn check_group<K: Key>(what: &str, max_parallelism: u32, group: KeyGroup, key: &K) -> Result<u64> {
    let hash = key_hash(key);
    let expected = key_group(hash, max_parallelism);
    if expected == group {
        return Ok(hash);
    }
    let message = format!("a key of {what} was found in key group {group}, it belongs to {expected}");
    Err(Error::new(ErrorKind::Corruption, message))
}
