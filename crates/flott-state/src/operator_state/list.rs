//! A list that is divided among the subtasks, or given to each as a whole.

use super::{Distribution, OperatorState, OperatorStateStore, OperatorStateStoreMut, RestoredEntry};
use crate::handles::{BoundName, impl_handle};
use crate::schemas::{EntryDecoder, OperatorHandleType, announce_operator, schema_of};
use flott_schema::Type;
use flott_types::{Data, Result};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A list of the operator subtask.
///
/// The lists of all subtasks together are one list. After a restart at any parallelism its entries are dealt out to the
/// subtasks one by one ([`OperatorListState::new`]), or each subtask gets all of them and keeps what it is in charge of
/// ([`OperatorListState::union`]).
///
/// Every method fails if the name is used for operator state of another type or distribution, and, at the first
/// access, if what was restored under the name is not a list of `T`.
pub struct OperatorListState<T> {
    binding: ListBinding,
    types: PhantomData<fn() -> T>,
}

struct ListBinding {
    name: BoundName,
    distribution: Distribution,
    /// The schema of an entry.
    entry: fn() -> Option<Arc<Type>>,
}

impl ListBinding {
    fn announced(self) -> Self {
        let (distribution, entry) = (self.distribution, self.entry);
        announce_operator(|| OperatorHandleType { name: Arc::clone(&self.name.name), distribution, entry });
        self
    }
}

impl Clone for ListBinding {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), distribution: self.distribution, entry: self.entry }.announced()
    }
}

impl fmt::Debug for ListBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, distribution, .. } = self;
        f.debug_struct("ListBinding").field("name", name).field("distribution", distribution).finish()
    }
}

impl_handle!(OperatorListState<T>);

struct List<T>(Vec<T>);

impl<T: Data> OperatorState for List<T> {
    fn snapshot(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        self.0.iter().map(|entry| crate::encode(name, entry)).collect()
    }

    fn schema(&self) -> Option<Arc<Type>> {
        schema_of::<T>()
    }

    fn restore(name: &str, entries: &[RestoredEntry]) -> Result<Self> {
        let mut decoder = EntryDecoder::new::<T>();
        let decoded = entries.iter().map(|entry| decoder.decode(name, &entry.bytes, entry.schema.as_ref()));
        decoded.collect::<Result<_>>().map(Self)
    }
}

impl<T: Data> OperatorListState<T> {
    /// The list called `name`, whose entries are dealt out to the subtasks after a restart. Names are unique within
    /// an operator and do not start with `_`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::with_distribution(name, Distribution::List)
    }

    /// The list called `name`, of which each subtask gets the entries of all subtasks after a restart.
    ///
    /// A subtask that has looked at the list writes all that is in it at the next snapshot, so it must first remove
    /// what belongs to others: otherwise the list is multiplied by the parallelism with each restart.
    pub fn union(name: impl Into<Arc<str>>) -> Self {
        Self::with_distribution(name, Distribution::Union)
    }

    fn with_distribution(name: impl Into<Arc<str>>, distribution: Distribution) -> Self {
        let binding = ListBinding { name: BoundName::new(name), distribution, entry: schema_of::<T> };
        Self { binding: binding.announced(), types: PhantomData }
    }

    fn open<'a>(&self, store: &'a mut impl OperatorStateStoreMut) -> Result<&'a mut List<T>> {
        store.operator_state_mut().get_mut(&self.binding.name, self.binding.distribution)
    }

    /// The entries.
    ///
    /// # Errors
    /// See [`OperatorListState`].
    pub fn get<'a>(&self, store: &'a impl OperatorStateStore) -> Result<&'a [T]> {
        let list = store.operator_state().get::<List<T>>(&self.binding.name, self.binding.distribution)?;
        Ok(list.map_or(&[], |list| &list.0))
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// See [`OperatorListState`].
    pub fn add(&self, store: &mut impl OperatorStateStoreMut, entry: T) -> Result<()> {
        self.open(store)?.0.push(entry);
        Ok(())
    }

    /// Appends entries.
    ///
    /// # Errors
    /// See [`OperatorListState`].
    pub fn add_all(
        &self,
        store: &mut impl OperatorStateStoreMut,
        entries: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.open(store)?.0.extend(entries);
        Ok(())
    }

    /// Replaces all entries.
    ///
    /// # Errors
    /// See [`OperatorListState`].
    pub fn update(&self, store: &mut impl OperatorStateStoreMut, entries: Vec<T>) -> Result<()> {
        self.open(store)?.0 = entries;
        Ok(())
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// See [`OperatorListState`].
    pub fn clear(&self, store: &mut impl OperatorStateStoreMut) -> Result<()> {
        self.open(store)?.0.clear();
        Ok(())
    }
}
