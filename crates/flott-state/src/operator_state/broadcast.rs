//! A map that is the same on all subtasks.

use super::{Distribution, OperatorState, OperatorStateStore, OperatorStateStoreMut, RestoredEntry};
use crate::handles::{BoundName, impl_handle};
use crate::schemas::{EntryDecoder, OperatorHandleType, announce_operator, schema_of};
use flott_schema::Type;
use flott_types::{Data, Error, ErrorKind, Result};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A map of the operator that is the same on all subtasks, ordered by its keys.
///
/// It is the same because every subtask gets the same broadcast records and makes the same changes for each; so it is
/// written only with an [`OperatorStateStoreMut`], which the engine hands out while a broadcast record is processed.
/// After a restart at any parallelism each subtask has what one of them had.
///
/// Every method fails if the name is used for operator state of another type or distribution, and, at the first
/// access, if what was restored under the name is not such a map.
pub struct BroadcastState<MK, MV> {
    binding: BroadcastBinding,
    types: PhantomData<fn() -> (MK, MV)>,
}

struct BroadcastBinding {
    name: BoundName,
    /// The schema of the map.
    map: fn() -> Option<Arc<Type>>,
}

impl BroadcastBinding {
    fn announced(self) -> Self {
        let (distribution, entry) = (Distribution::Broadcast, self.map);
        announce_operator(|| OperatorHandleType { name: Arc::clone(&self.name.name), distribution, entry });
        self
    }
}

impl Clone for BroadcastBinding {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), map: self.map }.announced()
    }
}

impl fmt::Debug for BroadcastBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

impl_handle!(BroadcastState<MK, MV>);

struct Map<MK, MV>(BTreeMap<MK, MV>);

impl<MK: Data + Ord, MV: Data> OperatorState for Map<MK, MV> {
    fn snapshot(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        Ok(vec![crate::encode(name, &self.0)?])
    }

    fn schema(&self) -> Option<Arc<Type>> {
        // An empty map is one of any type.
        if self.0.is_empty() { None } else { schema_of::<BTreeMap<MK, MV>>() }
    }

    fn restore(name: &str, entries: &[RestoredEntry]) -> Result<Self> {
        match entries {
            [] => Ok(Self(BTreeMap::new())),
            [RestoredEntry { bytes, schema }] => {
                let mut decoder = EntryDecoder::new::<BTreeMap<MK, MV>>();
                decoder.decode(name, bytes, schema.as_ref()).map(Self)
            }
            more => {
                let message = format!("broadcast state '{name}' has {} entries", more.len());
                Err(Error::new(ErrorKind::Corruption, message))
            }
        }
    }
}

impl<MK: Data + Ord, MV: Data> BroadcastState<MK, MV> {
    /// The broadcast state called `name`; names are unique within an operator and do not start with `_`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let binding = BroadcastBinding { name: BoundName::new(name), map: schema_of::<BTreeMap<MK, MV>> };
        Self { binding: binding.announced(), types: PhantomData }
    }

    fn read<'a>(&self, store: &'a impl OperatorStateStore) -> Result<Option<&'a BTreeMap<MK, MV>>> {
        let map = store.operator_state().get::<Map<MK, MV>>(&self.binding.name, Distribution::Broadcast)?;
        Ok(map.map(|map| &map.0))
    }

    fn open<'a>(&self, store: &'a mut impl OperatorStateStoreMut) -> Result<&'a mut BTreeMap<MK, MV>> {
        let map =
            store.operator_state_mut().get_mut::<Map<MK, MV>>(&self.binding.name, Distribution::Broadcast)?;
        Ok(&mut map.0)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn get<'a, Q>(&self, store: &'a impl OperatorStateStore, key: &Q) -> Result<Option<&'a MV>>
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        Ok(self.read(store)?.and_then(|map| map.get(key)))
    }

    /// Whether there is a value for `key`.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn contains<Q>(&self, store: &impl OperatorStateStore, key: &Q) -> Result<bool>
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        Ok(self.get(store, key)?.is_some())
    }

    /// The entries, in the order of their keys.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn iter<'a, S: OperatorStateStore>(
        &self,
        store: &'a S,
    ) -> Result<impl DoubleEndedIterator<Item = (&'a MK, &'a MV)> + use<'a, S, MK, MV>> {
        Ok(self.read(store)?.into_iter().flatten())
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn is_empty(&self, store: &impl OperatorStateStore) -> Result<bool> {
        Ok(self.read(store)?.is_none_or(BTreeMap::is_empty))
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn put(&self, store: &mut impl OperatorStateStoreMut, key: MK, value: MV) -> Result<()> {
        self.open(store)?.insert(key, value);
        Ok(())
    }

    /// Removes `key` and returns its value.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn remove<Q>(&self, store: &mut impl OperatorStateStoreMut, key: &Q) -> Result<Option<MV>>
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        Ok(self.open(store)?.remove(key))
    }

    /// Keeps the entries for which `keep` says so.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn retain(
        &self,
        store: &mut impl OperatorStateStoreMut,
        keep: impl FnMut(&MK, &mut MV) -> bool,
    ) -> Result<()> {
        self.open(store)?.retain(keep);
        Ok(())
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// See [`BroadcastState`].
    pub fn clear(&self, store: &mut impl OperatorStateStoreMut) -> Result<()> {
        self.open(store)?.clear();
        Ok(())
    }
}
