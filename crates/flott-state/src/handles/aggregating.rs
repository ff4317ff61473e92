//! One accumulator per key, to which inputs are added and from which a result is made.

use super::contents::StateKind;
use super::{Binding, Scoped};
use crate::backend::KeyedStateStore;
use crate::ttl::{StateTtlConfig, Stored};
use flott_types::{Data, Result};
use std::fmt;
use std::sync::Arc;

/// The accumulation of all inputs that were added, for each key. What is stored is the accumulator.
///
/// Every method fails if no key is in scope, if another handle uses the name for state of another type, and, at the
/// first access, if what was restored under the name is not an `Acc`.
pub struct AggregatingState<In, Acc, Out> {
    binding: Binding,
    functions: Arc<Functions<In, Acc, Out>>,
}

type Add<In, Acc> = dyn Fn(&mut Acc, In) + Send + Sync;

struct Functions<In, Acc, Out> {
    create: Box<dyn Fn() -> Acc + Send + Sync>,
    add: Box<Add<In, Acc>>,
    result: Box<dyn Fn(&Acc) -> Out + Send + Sync>,
}

impl<In, Acc, Out> Clone for AggregatingState<In, Acc, Out> {
    fn clone(&self) -> Self {
        Self { binding: self.binding.clone(), functions: Arc::clone(&self.functions) }
    }
}

impl<In, Acc, Out> fmt::Debug for AggregatingState<In, Acc, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AggregatingState").field(&self.binding).finish()
    }
}

impl<In, Acc: Data, Out> AggregatingState<In, Acc, Out> {
    /// The aggregating state called `name`; names are unique within an operator and do not start with `_`.
    ///
    /// `create` makes an empty accumulator, `add` adds an input to one, and `result` is what [`Self::get`] returns.
    pub fn new(
        name: impl Into<Arc<str>>,
        create: impl Fn() -> Acc + Send + Sync + 'static,
        add: impl Fn(&mut Acc, In) + Send + Sync + 'static,
        result: impl Fn(&Acc) -> Out + Send + Sync + 'static,
    ) -> Self {
        let functions = Functions { create: Box::new(create), add: Box::new(add), result: Box::new(result) };
        Self {
            binding: Binding::new::<Stored<Acc>>(name, StateKind::Aggregating),
            functions: Arc::new(functions),
        }
    }

    /// Forgets the accumulator of a key when it was not used for a while.
    #[must_use]
    pub fn with_ttl(mut self, ttl: StateTtlConfig) -> Self {
        self.binding.ttl = Some(ttl);
        self
    }

    fn open<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, Stored<Acc>>> {
        self.binding.open(store)
    }

    fn open_read<'a, S: KeyedStateStore>(&self, store: &'a mut S) -> Result<Scoped<'a, S::Key, Stored<Acc>>> {
        self.binding.open_read(store)
    }

    /// Adds `input` to the accumulator of the current key.
    ///
    /// # Errors
    /// See [`AggregatingState`].
    pub fn add<S: KeyedStateStore>(&self, store: &mut S, input: In) -> Result<()> {
        let mut state = self.open(store)?;
        let expiry = state.expiry;
        if let Some(expiry) = expiry {
            state.retain(|stored| stored.is_readable(expiry));
        }
        let stored = state.get_or_insert_with(|| Stored::new((self.functions.create)(), expiry));
        (self.functions.add)(&mut stored.value, input);
        stored.wrote(expiry);
        Ok(())
    }

    /// The result for the current key, if any input was added.
    ///
    /// # Errors
    /// See [`AggregatingState`].
    pub fn get<S: KeyedStateStore>(&self, store: &mut S) -> Result<Option<Out>> {
        let mut state = self.open_read(store)?;
        if let Some(expiry) = state.expiry {
            state.retain(|stored| stored.read(expiry));
        }
        Ok(state.get().map(|stored| (self.functions.result)(&stored.value)))
    }

    /// Removes the accumulator of the current key.
    ///
    /// # Errors
    /// See [`AggregatingState`].
    pub fn clear<S: KeyedStateStore>(&self, store: &mut S) -> Result<()> {
        self.open(store)?.remove();
        Ok(())
    }
}
