//! What users hold: named states, read and written in the scope of the current key.
//!
//! A handle is a name. It finds its state in the backend at the first access and remembers the place; a clone starts
//! anew, because functions are cloned for each subtask, and both say of which type they are to whoever listens (`schemas`). Used with another backend, a handle finds its state there.

mod aggregating;
mod contents;
mod list;
mod map;
mod reducing;
#[cfg(test)]
mod tests;
mod value;

pub use aggregating::AggregatingState;
pub use list::ListState;
pub use map::MapState;
pub use reducing::ReducingState;
pub use value::ValueState;

use crate::backend::{KeyScope, KeyedStateBackend, KeyedStateStore};
use crate::schemas::{HandleType, announce, entry_schema, schema_of};
use crate::ttl::{Expiry, StateTtlConfig};
pub(crate) use contents::StateKind;
use contents::{Contents, StateTable};
use flott_schema::Type;
use flott_types::{Error, Key, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A name, and where in a backend it was last found.
pub(crate) struct BoundName {
    pub(crate) name: Arc<str>,
    place: AtomicUsize,
}

const UNBOUND: usize = usize::MAX;

impl BoundName {
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), place: AtomicUsize::new(UNBOUND) }
    }

    /// A hint: the backend is asked whether the name is there.
    #[inline]
    pub(crate) fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed)
    }

    pub(crate) fn set_place(&self, place: usize) {
        self.place.store(place, Ordering::Relaxed);
    }
}

impl Clone for BoundName {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.name))
    }
}

impl fmt::Debug for BoundName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

/// What all handles of keyed state have in common.
struct Binding {
    name: BoundName,
    kind: StateKind,
    ttl: Option<StateTtlConfig>,
    /// The schema of what the handle has for one key.
    contents: fn() -> Option<Arc<Type>>,
}

impl Binding {
    /// The handle of a state that has `X` for one key.
    fn new<X: Contents>(name: impl Into<Arc<str>>, kind: StateKind) -> Self {
        Self { name: BoundName::new(name), kind, ttl: None, contents: schema_of::<X> }.announced()
    }

    fn announced(self) -> Self {
        let (kind, contents) = (self.kind, self.contents);
        announce(|| HandleType { name: Arc::clone(&self.name.name), kind, contents });
        self
    }

    /// The state of this name in the scope of the current key, to change it.
    #[inline]
    fn open<'a, S: KeyedStateStore, X: Contents>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, X>> {
        let opened = self.find(store)?;
        opened.state.table.load_mut(opened.scope.hash, &opened.scope.key)?;
        Ok(opened)
    }

    /// The state of this name in the scope of the current key, to read it. What has a time to live is changed by that.
    #[inline]
    fn open_read<'a, S: KeyedStateStore, X: Contents>(
        &self,
        store: &'a mut S,
    ) -> Result<Scoped<'a, S::Key, X>> {
        let opened = self.find(store)?;
        let KeyScope { hash, key } = opened.scope;
        match opened.expiry {
            Some(_) => opened.state.table.load_mut(*hash, key)?,
            None => opened.state.table.load(*hash, key)?,
        };
        Ok(opened)
    }

    #[inline]
    fn find<'a, S: KeyedStateStore, X: Contents>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, X>> {
        let backend = store.keyed_state();
        let mut place = self.name.place();
        if !backend.is_at(place, &self.name.name) {
            place = self.bind::<S::Key, X>(backend)?;
        }
        let (state, scope, now) = backend.state::<StateTable<S::Key, X>>(place)?;
        let expiry = state.ttl.map(|ttl| ttl.at(now));
        if let (Some(ttl), Some(expiry)) = (state.ttl, expiry) {
            state.clean_up(ttl.cleanup_entries, expiry.horizon);
        }
        Ok(Scoped { state, scope, expiry })
    }

    #[cold]
    fn bind<K: Key, X: Contents>(&self, backend: &mut KeyedStateBackend<K>) -> Result<usize> {
        let (now, max_parallelism) = (backend.processing_time(), backend.max_parallelism());
        let name = &self.name.name;
        let table = backend.local_state().table();
        let schema = entry_schema::<K>(schema_of::<X>);
        let place = backend.bind_shared(name, schema.clone(), |groups, schemas| {
            let mut state = StateTable::<K, X>::new(self.kind, self.ttl, table);
            self.kind.check(name, groups)?;
            let reader = schemas.reader(name, schema.as_deref())?;
            state.restore(name, max_parallelism, now, groups, &reader)?;
            Ok(state)
        })?;
        let (state, _, _) = backend.state::<StateTable<K, X>>(place)?;
        if state.kind != self.kind {
            let (known, asked) = (state.kind, self.kind);
            return Err(Error::user(format!("the {known} state '{name}' is used as {asked} state")));
        }
        self.name.set_place(place);
        Ok(place)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, ttl, .. } = self;
        f.debug_struct("Binding").field("name", name).field("kind", kind).field("ttl", ttl).finish()
    }
}

impl Clone for Binding {
    fn clone(&self) -> Self {
        let Self { name, kind, ttl, contents } = self;
        Self { name: name.clone(), kind: *kind, ttl: *ttl, contents: *contents }.announced()
    }
}

/// A state in the scope of a key.
struct Scoped<'a, K, X> {
    state: &'a mut StateTable<K, X>,
    scope: &'a KeyScope<K>,
    /// What has expired, if the state has a time to live.
    expiry: Option<Expiry>,
}

impl<'a, K: Key, X: Contents> Scoped<'a, K, X> {
    #[inline]
    fn get(self) -> Option<&'a X> {
        self.state.table.get(self.scope.hash, &self.scope.key)
    }

    #[inline]
    fn get_mut(&mut self) -> Option<&mut X> {
        self.state.table.get_mut(self.scope.hash, &self.scope.key)
    }

    #[inline]
    fn get_or_insert_with(self, default: impl FnOnce() -> X) -> &'a mut X {
        self.state.table.get_or_insert_with(self.scope.hash, &self.scope.key, default)
    }

    #[inline]
    fn insert(self, contents: X) {
        self.state.table.insert(self.scope.hash, &self.scope.key, contents);
    }

    #[inline]
    fn replace(self, replace: impl FnOnce(Option<X>) -> Option<X>) {
        self.state.table.replace(self.scope.hash, &self.scope.key, replace);
    }

    #[inline]
    fn remove(&mut self) -> Option<X> {
        self.state.table.remove(self.scope.hash, &self.scope.key)
    }

    /// Applies `keep` to what the key has, if anything, and removes the key if that leaves nothing.
    fn retain(&mut self, keep: impl FnOnce(&mut X) -> bool) {
        if self.get_mut().is_some_and(|contents| !keep(contents)) {
            self.remove();
        }
    }
}

/// `Clone` and `Debug` for a handle that is a name and the types of what it stores, whatever these types implement.
macro_rules! impl_handle {
    ($handle:ident<$($param:ident),+>) => {
        impl<$($param),+> Clone for $handle<$($param),+> {
            fn clone(&self) -> Self {
                Self { binding: self.binding.clone(), types: std::marker::PhantomData }
            }
        }

        impl<$($param),+> std::fmt::Debug for $handle<$($param),+> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($handle)).field(&self.binding).finish()
            }
        }
    };
}
pub(crate) use impl_handle;
