//! The types of a program's states, as far as they are known before a record has come.
//!
//! Operators of the engine know their tables. A function of the user's holds handles, and nobody asks it for them: a handle that is made or
//! cloned while somebody listens on the same thread says so. Factories make or clone a function for each subtask, so listening to them
//! once finds its handles.

use crate::backend::is_reserved;
use crate::handles::StateKind;
use crate::operator_state::Distribution;
use crate::snapshot::KeyGroupBytes;
use flott_schema::{Type, trace};
use flott_types::{Data, Key};
use serde::de::DeserializeOwned;
use std::any::TypeId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// The schema of `T`, or `None` if it has none. It is traced once in a process: the same job is started many times in tests, and a
/// handle is bound by each subtask.
pub(crate) fn schema_of<T: DeserializeOwned + 'static>() -> Option<Arc<Type>> {
    static TRACED: Mutex<BTreeMap<TypeId, Option<Arc<Type>>>> = Mutex::new(BTreeMap::new());
    let id = TypeId::of::<T>();
    let traced = || TRACED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = traced().get(&id) {
        return known.clone();
    }
    // `Deserialize` is the user's code, and gets values that its `Serialize` would not write.
    let schema = catch_unwind(AssertUnwindSafe(trace::<T>)).ok().and_then(Result::ok).map(Arc::new);
    traced().insert(id, schema.clone());
    schema
}

/// What a handle says of itself.
#[derive(Clone, Debug)]
pub(crate) struct HandleType {
    pub(crate) name: Arc<str>,
    pub(crate) kind: StateKind,
    /// The schema of what it has for one key.
    pub(crate) contents: fn() -> Option<Arc<Type>>,
}

/// What a handle of operator state says of itself.
#[derive(Clone, Debug)]
pub(crate) struct OperatorHandleType {
    pub(crate) name: Arc<str>,
    pub(crate) distribution: Distribution,
    /// The schema of an entry.
    pub(crate) entry: fn() -> Option<Arc<Type>>,
}

thread_local! {
    static LISTENING: RefCell<Option<HandleTypes>> = const { RefCell::new(None) };
}

/// Says that a handle of keyed state was made or cloned.
pub(crate) fn announce(handle: impl FnOnce() -> HandleType) {
    LISTENING.with_borrow_mut(|listening| {
        if let Some(handles) = listening {
            handles.keyed.push(handle());
        }
    });
}

/// Says that a handle of operator state was made or cloned.
pub(crate) fn announce_operator(handle: impl FnOnce() -> OperatorHandleType) {
    LISTENING.with_borrow_mut(|listening| {
        if let Some(handles) = listening {
            handles.operator.push(handle());
        }
    });
}

/// The handles of state that a function holds.
#[derive(Clone, Debug, Default)]
pub struct HandleTypes {
    keyed: Vec<HandleType>,
    operator: Vec<OperatorHandleType>,
}

impl HandleTypes {
    /// Calls `make` and returns what it made, and which handles were made or cloned for it on this thread.
    pub fn of<T>(make: impl FnOnce() -> T) -> (T, Self) {
        let outer = LISTENING.replace(Some(Self::default()));
        let made = catch_unwind(AssertUnwindSafe(make));
        let heard = LISTENING.replace(outer).unwrap_or_default();
        match made {
            Ok(made) => (made, heard),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The schemas of the entries of an operator's states, by name, and of the records that it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateTypes {
    states: BTreeMap<String, KnownState>,
    keeps_others: bool,
    operator_states: BTreeMap<String, KnownOperatorState>,
    keeps_other_operator_states: bool,
    inputs: Vec<Option<Arc<Type>>>,
}

/// A list, union or broadcast state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownOperatorState {
    pub(super) distribution: Distribution,
    /// Of an entry; `None` for a type that has none.
    pub(super) schema: Option<Arc<Type>>,
    /// Whether entries of other types are read, too.
    pub(super) evolves: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KnownState {
    /// `None` if it is the engine's.
    kind: Option<StateKind>,
    /// Of its entries; `None` for a type that has none.
    schema: Option<Arc<Type>>,
}

impl StateTypes {
    /// Adds a state of the engine whose entries are `E`.
    pub fn add<E: Data>(&mut self, name: &str) {
        let known = KnownState { kind: None, schema: schema_of::<E>() };
        self.states.insert(name.to_owned(), known);
    }

    /// Adds the states of the handles of a function whose keys are `K`. States of other names are kept for handles that may come.
    pub fn add_handles<K: Key>(&mut self, handles: &HandleTypes) {
        self.keeps_others = true;
        for HandleType { name, kind, contents } in &handles.keyed {
            let known = KnownState { kind: Some(*kind), schema: entry_schema::<K>(*contents) };
            self.states.insert(name.to_string(), known);
        }
    }

    /// Adds a list state of the engine whose entries are `E`.
    pub fn add_list<E: DeserializeOwned + 'static>(&mut self, name: &str) {
        self.insert_list::<E>(name, true);
    }

    /// The same for the splits of a source, whose type may not change: its enumerator remembers splits, too, in bytes of its own.
    pub fn add_splits<S: DeserializeOwned + 'static>(&mut self, name: &str) {
        self.insert_list::<S>(name, false);
    }

    fn insert_list<E: DeserializeOwned + 'static>(&mut self, name: &str, evolves: bool) {
        let (distribution, schema) = (Distribution::List, schema_of::<E>());
        self.operator_states.insert(name.to_owned(), KnownOperatorState { distribution, schema, evolves });
    }

    /// Adds the list, union and broadcast states of the handles of a function. States of other names are kept for handles that may
    /// come.
    pub fn add_operator_handles(&mut self, handles: &HandleTypes) {
        self.keeps_other_operator_states = true;
        for OperatorHandleType { name, distribution, entry } in &handles.operator {
            let known = KnownOperatorState { distribution: *distribution, schema: entry(), evolves: true };
            self.operator_states.insert(name.to_string(), known);
        }
    }

    /// Adds the next input of the operator, whose records are `T`: they may be in flight.
    pub fn add_input<T: Data>(&mut self) {
        self.inputs.push(schema_of::<T>());
    }

    /// The schema of the records of an input; `None` if there is no such input, or its type has none.
    pub(super) fn input(&self, input: u32) -> Option<&Arc<Type>> {
        self.inputs.get(input as usize)?.as_ref()
    }

    pub(super) fn operator_state(&self, name: &str) -> Option<&KnownOperatorState> {
        self.operator_states.get(name)
    }

    /// Whether an operator of these states goes on with a list, union or broadcast state of this name. The engine's own are left to
    /// whoever wrote them.
    pub(super) fn claims_operator_state(&self, name: &str) -> bool {
        is_reserved(name) || self.keeps_other_operator_states || self.operator_states.contains_key(name)
    }

    /// The schema of the entries of a state; `None` if the state is unknown, or its type has none.
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.states.get(name)?.schema.as_deref()
    }

    /// Why a state that was written as these key groups cannot be of the kind that it is now.
    pub(crate) fn refuse_kind(&self, name: &str, groups: &KeyGroupBytes) -> Option<String> {
        self.states.get(name)?.kind?.check(name, groups).err().map(|error| error.report())
    }

    /// Whether an operator of these states goes on with a state of this name.
    pub fn claims(&self, name: &str) -> bool {
        self.states.contains_key(name) || self.keeps_others && !is_reserved(name)
    }
}

/// The schema of an entry of a handle's state: a key with what the handle has for it.
pub(crate) fn entry_schema<K: Key>(contents: fn() -> Option<Arc<Type>>) -> Option<Arc<Type>> {
    let (key, contents) = (schema_of::<K>()?, contents()?);
    Some(Arc::new(Type::Tuple(vec![(*key).clone(), (*contents).clone()])))
}
