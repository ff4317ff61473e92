//! A map per key.

use super::contents::StateKind;
use super::{Binding, Scoped, impl_handle};
use crate::backend::KeyedStateStore;
use crate::ttl::{Expiry, StateTtlConfig, Stored};
use flott_types::{Data, Result};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// A map for each key, ordered by the map's keys. An empty map takes no space.
///
/// Every method fails if no key is in scope, if another handle uses the name for state of another type, and, at the
/// first access, if what was restored under the name is not such a map.
pub struct MapState<MK, MV> {
    binding: Binding,
    types: PhantomData<fn() -> (MK, MV)>,
}

impl_handle!(MapState<MK, MV>);

type Map<MK, MV> = BTreeMap<MK, Stored<MV>>;

impl<MK: Data + Ord, MV: Data> MapState<MK, MV> {
    /// The map state called `name`; names are unique within an operator and do not start with `_`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { binding: Binding::new::<Map<MK, MV>>(name, StateKind::Map), types: PhantomData }
    }

    /// Forgets each entry when it was not used for a while.
    #[must_use]
    pub fn with_ttl(mut self, ttl: StateTtlConfig) -> Self {
        self.binding.ttl = Some(ttl);
        self
    }

    fn open<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, Map<MK, MV>>> {
        self.binding.open(store)
    }

    fn open_read<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, Map<MK, MV>>> {
        self.binding.open_read(store)
    }

    /// The value of `key` in the map of the current key.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn get<'a, S, Q>(&self, store: &'a mut S, key: &Q) -> Result<Option<&'a MV>>
    where
        S: KeyedStateStore,
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut state = self.open_read(store)?;
        if let Some(expiry) = state.expiry {
            state.retain(|map| {
                if map.get_mut(key).is_some_and(|element| !element.read(expiry)) {
                    map.remove(key);
                }
                !map.is_empty()
            });
        }
        Ok(state.get().and_then(|map| map.get(key)).map(|element| &element.value))
    }

    /// Whether the map of the current key has a value for `key`. This counts as reading it.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn contains<S, Q>(&self, store: &mut S, key: &Q) -> Result<bool>
    where
        S: KeyedStateStore,
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        Ok(self.get(store, key)?.is_some())
    }

    /// Sets the value of `key` in the map of the current key.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn put<S: KeyedStateStore>(&self, store: &mut S, key: MK, value: MV) -> Result<()> {
        let state = self.open(store)?;
        let element = Stored::new(value, state.expiry);
        state.get_or_insert_with(BTreeMap::new).insert(key, element);
        Ok(())
    }

    /// Changes the value of `key` in the map of the current key, which starts as `default`, and returns it.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn update_or<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
        key: MK,
        default: MV,
        update: impl FnOnce(&mut MV),
    ) -> Result<&'a MV> {
        let state = self.open(store)?;
        let expiry = state.expiry;
        let element = match state.get_or_insert_with(BTreeMap::new).entry(key) {
            Entry::Vacant(entry) => entry.insert(Stored::new(default, expiry)),
            Entry::Occupied(entry) => {
                let element = entry.into_mut();
                if !is_readable(element, expiry) {
                    element.value = default;
                }
                element
            }
        };
        update(&mut element.value);
        element.wrote(expiry);
        Ok(&element.value)
    }

    /// Removes `key` from the map of the current key and returns its value.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn remove<S, Q>(&self, store: &mut S, key: &Q) -> Result<Option<MV>>
    where
        S: KeyedStateStore,
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut state = self.open(store)?;
        let expiry = state.expiry;
        let mut removed = None;
        state.retain(|map| {
            removed = map.remove(key);
            !map.is_empty()
        });
        let readable = removed.filter(|element| expiry.is_none_or(|expiry| element.is_readable(expiry)));
        Ok(readable.map(|element| element.value))
    }

    /// The entries of the map of the current key, in the order of the map's keys.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn iter<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
    ) -> Result<impl DoubleEndedIterator<Item = (&'a MK, &'a MV)> + use<'a, S, MK, MV>> {
        self.range(store, ..)
    }

    /// The keys of the map of the current key, in order. This counts as reading the entries.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn keys<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
    ) -> Result<impl DoubleEndedIterator<Item = &'a MK> + use<'a, S, MK, MV>> {
        Ok(self.iter(store)?.map(|(key, _)| key))
    }

    /// The values of the map of the current key, in the order of the map's keys.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn values<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
    ) -> Result<impl DoubleEndedIterator<Item = &'a MV> + use<'a, S, MK, MV>> {
        Ok(self.iter(store)?.map(|(_, value)| value))
    }

    /// The entries of the map of the current key whose keys are within `bounds`, in order; none if the bounds exclude
    /// each other.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn range<'a, S: KeyedStateStore, R: RangeBounds<MK>>(
        &self,
        store: &'a mut S,
        bounds: R,
    ) -> Result<impl DoubleEndedIterator<Item = (&'a MK, &'a MV)> + use<'a, S, MK, MV, R>> {
        let mut state = self.open_read(store)?;
        let bounds = ordered(&bounds);
        if let (Some(expiry), Some(bounds)) = (state.expiry, bounds) {
            state.retain(|map| {
                map.extract_if(bounds, |_, element| !element.read(expiry)).for_each(drop);
                !map.is_empty()
            });
        }
        let entries = state.get().zip(bounds).map(|(map, bounds)| map.range(bounds));
        Ok(entries.into_iter().flatten().map(|(key, element)| (key, &element.value)))
    }

    /// Removes the entries whose keys are within `bounds` from the map of the current key.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn remove_range<S: KeyedStateStore>(
        &self,
        store: &mut S,
        bounds: impl RangeBounds<MK>,
    ) -> Result<()> {
        let mut state = self.open(store)?;
        if let Some(bounds) = ordered(&bounds) {
            state.retain(|map| {
                map.extract_if(bounds, |_, _| true).for_each(drop);
                !map.is_empty()
            });
        }
        Ok(())
    }

    /// Removes the entries that `keep` does not want from the map of the current key. What is kept is not renewed.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn retain<S: KeyedStateStore>(
        &self,
        store: &mut S,
        mut keep: impl FnMut(&MK, &MV) -> bool,
    ) -> Result<()> {
        let mut state = self.open(store)?;
        let expiry = state.expiry;
        state.retain(|map| {
            map.retain(|key, element| is_readable(element, expiry) && keep(key, &element.value));
            !map.is_empty()
        });
        Ok(())
    }

    /// Whether the map of the current key has no entry. This does not count as reading.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn is_empty<S: KeyedStateStore>(&self, store: &mut S) -> Result<bool> {
        let state = self.open_read(store)?;
        let expiry = state.expiry;
        Ok(state.get().is_none_or(|map| !map.values().any(|element| is_readable(element, expiry))))
    }

    /// Removes the map of the current key.
    ///
    /// # Errors
    /// See [`MapState`].
    pub fn clear<S: KeyedStateStore>(&self, store: &mut S) -> Result<()> {
        self.open(store)?.remove();
        Ok(())
    }
}

fn is_readable<V>(element: &Stored<V>, expiry: Option<Expiry>) -> bool {
    expiry.is_none_or(|expiry| element.is_readable(expiry))
}

/// The bounds, unless they exclude each other: a `BTreeMap` panics at these.
fn ordered<T: Ord>(bounds: &impl RangeBounds<T>) -> Option<(Bound<&T>, Bound<&T>)> {
    let bounds = (bounds.start_bound(), bounds.end_bound());
    let ordered = match bounds {
        (Bound::Excluded(start), Bound::Excluded(end)) => start < end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start <= end
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
    };
    ordered.then_some(bounds)
}
