//! One value per key that a function combines from all that was added.

use super::contents::StateKind;
use super::{Binding, Scoped};
use crate::backend::KeyedStateStore;
use crate::ttl::{StateTtlConfig, Stored};
use flott_types::{Data, Result};
use std::fmt;
use std::sync::Arc;

/// The combination of all values that were added, for each key.
///
/// Every method fails if no key is in scope, if another handle uses the name for state of another type, and, at the
/// first access, if what was restored under the name is not a `V`.
pub struct ReducingState<V> {
    binding: Binding,
    reduce: Arc<dyn Fn(V, V) -> V + Send + Sync>,
}

impl<V> Clone for ReducingState<V> {
    fn clone(&self) -> Self {
        Self { binding: self.binding.clone(), reduce: Arc::clone(&self.reduce) }
    }
}

impl<V> fmt::Debug for ReducingState<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReducingState").field(&self.binding).finish()
    }
}

impl<V: Data> ReducingState<V> {
    /// The reducing state called `name`; names are unique within an operator and do not start with `_`.
    ///
    /// `reduce` gets what was combined so far and the added value, and should be associative.
    pub fn new(name: impl Into<Arc<str>>, reduce: impl Fn(V, V) -> V + Send + Sync + 'static) -> Self {
        Self { binding: Binding::new::<Stored<V>>(name, StateKind::Reducing), reduce: Arc::new(reduce) }
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

    /// Combines `value` with the value of the current key.
    ///
    /// # Errors
    /// See [`ReducingState`].
    pub fn add<S: KeyedStateStore>(&self, store: &mut S, value: V) -> Result<()> {
        let state = self.open(store)?;
        let expiry = state.expiry;
        state.replace(|stored| {
            let stored = stored.filter(|stored| expiry.is_none_or(|expiry| stored.is_readable(expiry)));
            let value = match stored {
                Some(stored) => (self.reduce)(stored.value, value),
                None => value,
            };
            Some(Stored::new(value, expiry))
        });
        Ok(())
    }

    /// The combined value of the current key, if any was added.
    ///
    /// # Errors
    /// See [`ReducingState`].
    pub fn get<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Option<&'a V>> {
        let mut state = self.open_read(store)?;
        if let Some(expiry) = state.expiry {
            state.retain(|stored| stored.read(expiry));
        }
        Ok(state.get().map(|stored| &stored.value))
    }

    /// Removes the value of the current key.
    ///
    /// # Errors
    /// See [`ReducingState`].
    pub fn clear<S: KeyedStateStore>(&self, store: &mut S) -> Result<()> {
        self.open(store)?.remove();
        Ok(())
    }
}
