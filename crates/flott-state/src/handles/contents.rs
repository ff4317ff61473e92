//! What a state has per key, and the table of it.

use crate::backend::KeyedState;
use crate::begun::{BegunSnapshot, GroupLayout, SnapshotProgress};
use crate::codec::encode_into;
use crate::schemas::EntryReader;
use crate::snapshot::{KeyGroupBytes, SectionKind, groups_in_memory};
use crate::table::{KeyedTable, checked_hash};
use crate::ttl::{StateTtlConfig, Stored};
use flott_types::{Data, Error, ErrorKind, Key, KeyGroup, Result, Timestamp, key_group, key_hash};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a state is used as. Its number is the first byte of each key group in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateKind {
    Value = 1,
    List = 2,
    Map = 3,
    Reducing = 4,
    Aggregating = 5,
}

impl StateKind {
    const ALL: [Self; 5] = [Self::Value, Self::List, Self::Map, Self::Reducing, Self::Aggregating];

    /// Refuses key groups of state of another kind.
    pub(crate) fn check(self, name: &str, groups: &KeyGroupBytes) -> Result<()> {
        groups
            .values()
            .flat_map(|bytes| bytes.first_bytes())
            .try_for_each(|first| self.check_first(name, first))
    }

    /// Refuses a section of state of another kind by its first byte.
    fn check_first(self, name: &str, first: Option<u8>) -> Result<()> {
        let first = first.ok_or_else(|| {
            Error::new(ErrorKind::Corruption, format!("a key group of state '{name}' has no bytes"))
        })?;
        let written = Self::ALL.into_iter().find(|kind| *kind as u8 == first).ok_or_else(|| {
            Error::new(ErrorKind::Corruption, format!("state '{name}' is of the unknown kind {first}"))
        })?;
        if written != self {
            let message = format!("the snapshot has '{name}' as {written} state, the program as {self}");
            return Err(Error::user(message));
        }
        Ok(())
    }

    /// The entries in a section of a key group.
    fn entries<'a>(self, name: &str, section: &'a [u8]) -> Result<&'a [u8]> {
        self.check_first(name, section.first().copied())?;
        Ok(section.get(1..).unwrap_or_default())
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::List => "list",
            Self::Map => "map",
            Self::Reducing => "reducing",
            Self::Aggregating => "aggregating",
        })
    }
}

/// What a state has for one key: elements, each with the time of its last use.
pub(crate) trait Contents: Data {
    /// The number of elements.
    fn n_elements(&self) -> usize;
    /// Removes the elements that have expired; says whether any are left.
    fn clean_up(&mut self, horizon: Timestamp) -> bool;
    /// The elements that have not expired, if there are any.
    fn live(&self, horizon: Timestamp) -> Option<Cow<'_, Self>>;
    /// Starts the time to live of elements that have none.
    fn track_from(&mut self, now: Timestamp);
}

impl<V: Data> Contents for Stored<V> {
    fn n_elements(&self) -> usize {
        1
    }
    fn clean_up(&mut self, horizon: Timestamp) -> bool {
        !self.expired(horizon)
    }
    fn live(&self, horizon: Timestamp) -> Option<Cow<'_, Self>> {
        (!self.expired(horizon)).then_some(Cow::Borrowed(self))
    }
    fn track_from(&mut self, now: Timestamp) {
        Stored::track_from(self, now);
    }
}

impl<V: Data> Contents for Vec<Stored<V>> {
    fn n_elements(&self) -> usize {
        self.len()
    }
    fn clean_up(&mut self, horizon: Timestamp) -> bool {
        self.retain(|element| !element.expired(horizon));
        !self.is_empty()
    }
    fn live(&self, horizon: Timestamp) -> Option<Cow<'_, Self>> {
        if self.iter().all(|element| !element.expired(horizon)) {
            return Some(Cow::Borrowed(self));
        }
        let live: Self = self.iter().filter(|element| !element.expired(horizon)).cloned().collect();
        (!live.is_empty()).then_some(Cow::Owned(live))
    }
    fn track_from(&mut self, now: Timestamp) {
        self.iter_mut().for_each(|element| element.track_from(now));
    }
}

impl<MK: Data + Ord, MV: Data> Contents for BTreeMap<MK, Stored<MV>> {
    fn n_elements(&self) -> usize {
        self.len()
    }
    fn clean_up(&mut self, horizon: Timestamp) -> bool {
        self.retain(|_, element| !element.expired(horizon));
        !self.is_empty()
    }
    fn live(&self, horizon: Timestamp) -> Option<Cow<'_, Self>> {
        if self.values().all(|element| !element.expired(horizon)) {
            return Some(Cow::Borrowed(self));
        }
        let live = self.iter().filter(|(_, element)| !element.expired(horizon));
        let live: Self = live.map(|(key, element)| (key.clone(), element.clone())).collect();
        (!live.is_empty()).then_some(Cow::Owned(live))
    }
    fn track_from(&mut self, now: Timestamp) {
        self.values_mut().for_each(|element| element.track_from(now));
    }
}

/// All keys of a state.
pub(crate) struct StateTable<K, X> {
    pub(crate) table: KeyedTable<K, X>,
    pub(crate) kind: StateKind,
    pub(crate) ttl: Option<StateTtlConfig>,
    /// The place of the table that is looked at next to clean it up.
    cursor: usize,
    /// How many elements more than its share incremental cleanup has looked at.
    overdrawn: usize,
}

impl<K: Key, X: Contents> StateTable<K, X> {
    pub(crate) fn new(kind: StateKind, ttl: Option<StateTtlConfig>, mut table: KeyedTable<K, X>) -> Self {
        if ttl.is_some_and(|ttl| ttl.cleanup_entries > 0) {
            table.expire_cold(X::clean_up);
        }
        Self { table, kind, ttl, cursor: 0, overdrawn: 0 }
    }

    /// Adds what [`KeyedState::snapshot`] wrote.
    pub(crate) fn restore(
        &mut self,
        name: &str,
        max_parallelism: u32,
        now: Timestamp,
        groups: &KeyGroupBytes,
        reader: &EntryReader,
    ) -> Result<()> {
        groups.iter().try_for_each(|(group, bytes)| {
            bytes.for_each_change(|kind, section| {
                let entries = self.kind.entries(name, section)?;
                if kind == SectionKind::Removed {
                    return self.table.restore_removed(name, max_parallelism, *group, entries);
                }
                reader.read_entries(name, *group, entries, |(key, mut contents): (K, X)| {
                    let hash = checked_hash(name, &key, *group, max_parallelism)?;
                    if self.ttl.is_some() {
                        contents.track_from(now);
                    }
                    self.table.load_mut(hash, &key)?.insert(hash, &key, contents);
                    Ok(())
                })
            })
        })
    }

    /// Looks at `n` more elements to remove what has expired. A list or map is looked at as a whole; if that is more
    /// than `n`, the next calls do nothing until it is made up for, so the cost per call is `n` on average.
    pub(crate) fn clean_up(&mut self, n: usize, horizon: Timestamp) {
        self.table.set_horizon(horizon);
        let mut seen = self.overdrawn;
        while seen < n {
            seen += 1;
            self.cursor = self.table.sweep(self.cursor, |contents| {
                seen += contents.n_elements().saturating_sub(1);
                contents.clean_up(horizon)
            });
        }
        self.overdrawn = seen - n;
    }
}

impl<K: Key, X: Contents> KeyedState for StateTable<K, X> {
    fn begin_snapshot(
        &mut self,
        name: &str,
        max_parallelism: u32,
        now: Timestamp,
        begun: &mut BegunSnapshot,
    ) -> Result<()> {
        let horizon = self.ttl.map_or(Timestamp::MIN, |ttl| ttl.at(now).horizon);
        let stream = begun.stream(name, max_parallelism, GroupLayout::Kind(self.kind as u8));
        let name: Arc<str> = name.into();
        self.table.begin_snapshot(&stream, move |key, contents, bytes| match contents.live(horizon) {
            Some(live) => encode_into(&name, &(key, &*live), bytes).map(|()| 1),
            None => Ok(0),
        })
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        self.table.snapshot_step(places)
    }

    fn snapshot(&self, name: &str, max_parallelism: u32, now: Timestamp) -> Result<KeyGroupBytes> {
        let horizon = self.ttl.map_or(Timestamp::MIN, |ttl| ttl.at(now).horizon);
        let mut groups = BTreeMap::<KeyGroup, Vec<u8>>::new();
        self.table.for_each(|key, contents| {
            if let Some(live) = contents.live(horizon) {
                let group = key_group(key_hash(key), max_parallelism);
                let bytes = groups.entry(group).or_insert_with(|| vec![self.kind as u8]);
                encode_into(name, &(key, &*live), bytes)?;
            }
            Ok(())
        })?;
        Ok(groups_in_memory(groups))
    }
}
