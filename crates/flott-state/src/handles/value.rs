//! One value per key.

use super::contents::StateKind;
use super::{Binding, Scoped, impl_handle};
use crate::backend::KeyedStateStore;
use crate::ttl::{StateTtlConfig, Stored};
use flott_types::{Data, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// A value for each key.
///
/// Every method fails if no key is in scope, if another handle uses the name for state of another type, and, at the
/// first access, if what was restored under the name is not a `V`.
pub struct ValueState<V> {
    binding: Binding,
    types: PhantomData<fn() -> V>,
}

impl_handle!(ValueState<V>);

impl<V: Data> ValueState<V> {
    /// The value state called `name`; names are unique within an operator and do not start with `_`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { binding: Binding::new::<Stored<V>>(name, StateKind::Value), types: PhantomData }
    }

    /// Forgets the value of a key when it was not used for a while.
    #[must_use]
    pub fn with_ttl(mut self, ttl: StateTtlConfig) -> Self {
        self.binding.ttl = Some(ttl);
        self
    }

    fn open<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, Stored<V>>> {
        self.binding.open(store)
    }

    fn open_read<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, Stored<V>>> {
        self.binding.open_read(store)
    }

    /// The value of the current key.
    ///
    /// # Errors
    /// See [`ValueState`].
    #[inline]
    pub fn get<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Option<&'a V>> {
        let mut state = self.open_read(store)?;
        if let Some(expiry) = state.expiry {
            state.retain(|stored| stored.read(expiry));
        }
        Ok(state.get().map(|stored| &stored.value))
    }

    /// Sets the value of the current key.
    ///
    /// # Errors
    /// See [`ValueState`].
    #[inline]
    pub fn set<S: KeyedStateStore>(&self, store: &mut S, value: V) -> Result<()> {
        let state = self.open(store)?;
        let stored = Stored::new(value, state.expiry);
        state.insert(stored);
        Ok(())
    }

    /// Changes the value of the current key, which starts as `default`, and returns it.
    ///
    /// # Errors
    /// See [`ValueState`].
    #[inline]
    pub fn update_or<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
        default: V,
        update: impl FnOnce(&mut V),
    ) -> Result<&'a V> {
        self.update_or_else(store, || default, update)
    }

    /// Changes the value of the current key, which `default` makes if there is none, and returns it.
    ///
    /// # Errors
    /// See [`ValueState`].
    #[inline]
    pub fn update_or_else<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
        default: impl FnOnce() -> V,
        update: impl FnOnce(&mut V),
    ) -> Result<&'a V> {
        let mut state = self.open(store)?;
        let expiry = state.expiry;
        if let Some(expiry) = expiry {
            state.retain(|stored| stored.is_readable(expiry));
        }
        let stored = state.get_or_insert_with(|| Stored::new(default(), expiry));
        update(&mut stored.value);
        stored.wrote(expiry);
        Ok(&stored.value)
    }

    /// Removes the value of the current key and returns it.
    ///
    /// # Errors
    /// See [`ValueState`].
    pub fn take<S: KeyedStateStore>(&self, store: &mut S) -> Result<Option<V>> {
        let mut state = self.open(store)?;
        let expiry = state.expiry;
        let taken = state.remove().filter(|stored| expiry.is_none_or(|expiry| stored.is_readable(expiry)));
        Ok(taken.map(|stored| stored.value))
    }

    /// Removes the value of the current key.
    ///
    /// # Errors
    /// See [`ValueState`].
    pub fn clear<S: KeyedStateStore>(&self, store: &mut S) -> Result<()> {
        self.open(store)?.remove();
        Ok(())
    }
}
