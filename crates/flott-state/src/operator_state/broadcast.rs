//! A map that is the same on all subtasks.

use super::{Distribution, OperatorState, OperatorStateStore, OperatorStateStoreMut};
use crate::handles::{BoundName, impl_handle};
use flott_types::{Data, Error, ErrorKind, Result};
use std::borrow::Borrow;
use std::collections::BTreeMap;
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
    binding: BoundName,
    types: PhantomData<fn() -> (MK, MV)>,
}

impl_handle!(BroadcastState<MK, MV>);

struct Map<MK, MV>(BTreeMap<MK, MV>);

impl<MK: Data + Ord, MV: Data> OperatorState for Map<MK, MV> {
    fn snapshot(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        Ok(vec![crate::encode(name, &self.0)?])
    }

    fn restore(name: &str, entries: &[Vec<u8>]) -> Result<Self> {
        match entries {
            [] => Ok(Self(BTreeMap::new())),
            [bytes] => crate::decode(name, bytes).map(Self),
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
        Self { binding: BoundName::new(name), types: PhantomData }
    }

    fn read<'a>(&self, store: &'a impl OperatorStateStore) -> Result<Option<&'a BTreeMap<MK, MV>>> {
        let map = store.operator_state().get::<Map<MK, MV>>(&self.binding, Distribution::Broadcast)?;
        Ok(map.map(|map| &map.0))
    }

    fn open<'a>(&self, store: &'a mut impl OperatorStateStoreMut) -> Result<&'a mut BTreeMap<MK, MV>> {
        let map =
            store.operator_state_mut().get_mut::<Map<MK, MV>>(&self.binding, Distribution::Broadcast)?;
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
