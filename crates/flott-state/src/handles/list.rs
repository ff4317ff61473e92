//! A list per key.

use super::contents::StateKind;
use super::{Binding, Scoped, impl_handle};
use crate::backend::KeyedStateStore;
use crate::ttl::{StateTtlConfig, Stored};
use flott_types::{Data, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// A list for each key, in the order in which elements were added. An empty list takes no space.
///
/// Every method fails if no key is in scope, if another handle uses the name for state of another type, and, at the
/// first access, if what was restored under the name is not a list of `V`.
pub struct ListState<V> {
    binding: Binding,
    types: PhantomData<fn() -> V>,
}

impl_handle!(ListState<V>);

impl<V: Data> ListState<V> {
    /// The list state called `name`; names are unique within an operator and do not start with `_`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { binding: Binding::new::<Vec<Stored<V>>>(name, StateKind::List), types: PhantomData }
    }

    /// Forgets each element when it was not used for a while.
    #[must_use]
    pub fn with_ttl(mut self, ttl: StateTtlConfig) -> Self {
        self.binding.ttl = Some(ttl);
        self
    }

    fn open<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, Vec<Stored<V>>>> {
        self.binding.open(store)
    }

    fn open_read<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
    ) -> Result<Scoped<'a, S::Key, Vec<Stored<V>>>> {
        self.binding.open_read(store)
    }

    /// Appends an element to the list of the current key.
    ///
    /// # Errors
    /// See [`ListState`].
    pub fn add<S: KeyedStateStore>(&self, store: &mut S, element: V) -> Result<()> {
        let state = self.open(store)?;
        let expiry = state.expiry;
        state.get_or_insert_with(Vec::new).push(Stored::new(element, expiry));
        Ok(())
    }

    /// Appends elements to the list of the current key.
    ///
    /// # Errors
    /// See [`ListState`].
    pub fn add_all<S: KeyedStateStore>(
        &self,
        store: &mut S,
        elements: impl IntoIterator<Item = V>,
    ) -> Result<()> {
        let state = self.open(store)?;
        let expiry = state.expiry;
        let mut elements = elements.into_iter().map(|element| Stored::new(element, expiry)).peekable();
        if elements.peek().is_some() {
            state.get_or_insert_with(Vec::new).extend(elements);
        }
        Ok(())
    }

    /// The elements of the list of the current key.
    ///
    /// # Errors
    /// See [`ListState`].
    pub fn get<'a, S: KeyedStateStore>(
        &self,
        store: &'a mut S,
    ) -> Result<impl DoubleEndedIterator<Item = &'a V> + ExactSizeIterator + use<'a, S, V>> {
        let mut state = self.open_read(store)?;
        if let Some(expiry) = state.expiry {
            state.retain(|list| {
                list.retain_mut(|element| element.read(expiry));
                !list.is_empty()
            });
        }
        let list = state.get().map_or(&[][..], Vec::as_slice);
        Ok(list.iter().map(|element| &element.value))
    }

    /// Sets the list of the current key.
    ///
    /// # Errors
    /// See [`ListState`].
    pub fn update<S: KeyedStateStore>(&self, store: &mut S, elements: Vec<V>) -> Result<()> {
        let mut state = self.open(store)?;
        let expiry = state.expiry;
        if elements.is_empty() {
            state.remove();
        } else {
            state.insert(elements.into_iter().map(|element| Stored::new(element, expiry)).collect());
        }
        Ok(())
    }

    /// Removes the list of the current key and returns its elements.
    ///
    /// # Errors
    /// See [`ListState`].
    pub fn take<S: KeyedStateStore>(&self, store: &mut S) -> Result<Vec<V>> {
        let mut state = self.open(store)?;
        let expiry = state.expiry;
        let list = state.remove().unwrap_or_default().into_iter();
        let readable = list.filter(|element| expiry.is_none_or(|expiry| element.is_readable(expiry)));
        Ok(readable.map(|element| element.value).collect())
    }

    /// Removes the list of the current key.
    ///
    /// # Errors
    /// See [`ListState`].
    pub fn clear<S: KeyedStateStore>(&self, store: &mut S) -> Result<()> {
        self.open(store)?.remove();
        Ok(())
    }
}
