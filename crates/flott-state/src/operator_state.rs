//! State that belongs to an operator subtask and to no key.
//!
//! Restored state is decoded when a handle first asks for it, also if the handle only reads; so a slot holds the
//! restored bytes and a cell for what they mean.

mod broadcast;
mod list;

pub use broadcast::BroadcastState;
pub use list::OperatorListState;

use crate::backend::is_reserved;
use crate::handles::BoundName;
use crate::snapshot::OperatorSnapshot;
use flott_types::{Error, ErrorKind, Result, SubtaskIndex};
use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

/// How a state is divided among new subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Entry by entry, round-robin.
    List,
    /// All entries to each.
    Union,
    /// The same everywhere, as one entry.
    Broadcast,
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Union => "union list",
            Self::Broadcast => "broadcast",
        })
    }
}

/// What the backend does with a state whose type it does not know.
pub(crate) trait OperatorState: Any + Send {
    /// The entries of the state, encoded.
    fn snapshot(&self, name: &str) -> Result<Vec<Vec<u8>>>;
    /// The state that [`OperatorState::snapshot`] wrote, perhaps on several subtasks.
    fn restore(name: &str, entries: &[Vec<u8>]) -> Result<Self>
    where
        Self: Sized;
}

struct Slot {
    name: Arc<str>,
    distribution: Distribution,
    restored: Vec<Vec<u8>>,
    state: OnceCell<Box<dyn OperatorState>>,
}

/// The list, union list and broadcast states of one operator subtask, by name.
pub struct OperatorStateBackend {
    subtask: SubtaskIndex,
    slots: Vec<Slot>,
}

impl fmt::Debug for OperatorStateBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.slots.iter().map(|slot| &slot.name).collect();
        f.debug_struct("OperatorStateBackend")
            .field("subtask", &self.subtask)
            .field("states", &names)
            .finish()
    }
}

impl OperatorStateBackend {
    /// An empty backend for `subtask`.
    pub fn new(subtask: SubtaskIndex) -> Self {
        Self { subtask, slots: Vec::new() }
    }

    /// Adds all states to a snapshot.
    ///
    /// A state that nobody has asked for since it was restored is written as it was; a union list state, which all
    /// subtasks have in full, in that case by subtask 0 only.
    ///
    /// # Errors
    /// If an entry cannot be serialized.
    pub fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        for slot in &self.slots {
            let name = slot.name.to_string();
            let entries = match (slot.state.get(), slot.distribution) {
                (Some(state), _) => state.snapshot(&name)?,
                (None, Distribution::Union) if self.subtask.0 != 0 => Vec::new(),
                (None, _) => slot.restored.clone(),
            };
            match slot.distribution {
                Distribution::List => drop(snapshot.list.insert(name, entries)),
                Distribution::Union => drop(snapshot.union.insert(name, entries)),
                Distribution::Broadcast => {
                    let entry = entries.into_iter().next().expect("a broadcast state is one entry");
                    snapshot.broadcast.insert(name, entry);
                }
            }
        }
        Ok(())
    }

    /// Takes over the list, union list and broadcast states of a snapshot; each is decoded when a handle first asks
    /// for it.
    ///
    /// # Panics
    /// If state has been used already: restore comes before the function's `open`.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if a name occurs twice.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        assert!(self.slots.is_empty(), "operator state is restored before it is used");
        let lists = snapshot.list.iter().map(|(name, entries)| (name, Distribution::List, entries.clone()));
        let unions =
            snapshot.union.iter().map(|(name, entries)| (name, Distribution::Union, entries.clone()));
        let broadcasts = snapshot.broadcast.iter();
        let broadcasts = broadcasts.map(|(name, bytes)| (name, Distribution::Broadcast, vec![bytes.clone()]));
        let states = lists.chain(unions).chain(broadcasts);
        for (name, distribution, restored) in states.filter(|(name, ..)| !is_reserved(name)) {
            if self.slots.iter().any(|slot| *slot.name == **name) {
                let message = format!("the snapshot has two operator states '{name}'");
                return Err(Error::new(ErrorKind::Corruption, message));
            }
            self.slots.push(Slot {
                name: Arc::from(name.as_str()),
                distribution,
                restored,
                state: OnceCell::new(),
            });
        }
        Ok(())
    }

    /// The place of the state called `name`, if there is one.
    #[inline]
    fn find(&self, name: &BoundName, distribution: Distribution) -> Result<Option<usize>> {
        let hint = name.place();
        if self
            .slots
            .get(hint)
            .is_some_and(|slot| slot.name == name.name && slot.distribution == distribution)
        {
            return Ok(Some(hint));
        }
        let Some(place) = self.slots.iter().position(|slot| slot.name == name.name) else {
            return Ok(None);
        };
        let known = self.slots[place].distribution;
        if known != distribution {
            let name = &name.name;
            return Err(Error::user(format!("the {known} state '{name}' is used as {distribution} state")));
        }
        name.set_place(place);
        Ok(Some(place))
    }

    /// The state called `name`, unless it was neither restored nor written.
    #[inline]
    fn get<S: OperatorState>(&self, name: &BoundName, distribution: Distribution) -> Result<Option<&S>> {
        let Some(place) = self.find(name, distribution)? else {
            return Ok(None);
        };
        let slot = &self.slots[place];
        if slot.state.get().is_none() {
            slot.decode::<S>()?;
        }
        let state: &dyn Any = slot.state.get().expect("the state has just been decoded").as_ref();
        state.downcast_ref().map(Some).ok_or_else(|| other_type(&slot.name))
    }

    /// The state called `name` to change; it is empty if it was neither restored nor written.
    fn get_mut<S: OperatorState>(&mut self, name: &BoundName, distribution: Distribution) -> Result<&mut S> {
        let place = match self.find(name, distribution)? {
            Some(place) => place,
            None => self.add::<S>(name, distribution)?,
        };
        let slot = &mut self.slots[place];
        if slot.state.get().is_none() {
            slot.decode::<S>()?;
            slot.restored = Vec::new();
        }
        let state: &mut dyn Any = slot.state.get_mut().expect("the state has just been decoded").as_mut();
        state.downcast_mut().ok_or_else(|| other_type(&slot.name))
    }

    fn add<S: OperatorState>(&mut self, name: &BoundName, distribution: Distribution) -> Result<usize> {
        let name = Arc::clone(&name.name);
        if is_reserved(&name) {
            return Err(Error::user(format!(
                "the state name '{name}' starts with '_', which the engine uses itself"
            )));
        }
        let state: Box<dyn OperatorState> = Box::new(S::restore(&name, &[])?);
        self.slots.push(Slot { name, distribution, restored: Vec::new(), state: OnceCell::from(state) });
        Ok(self.slots.len() - 1)
    }
}

impl Slot {
    fn decode<S: OperatorState>(&self) -> Result<()> {
        let state = S::restore(&self.name, &self.restored)
            .map_err(|error| error.context(format!("restoring operator state '{}'", self.name)))?;
        let state: Box<dyn OperatorState> = Box::new(state);
        assert!(self.state.set(state).is_ok(), "operator state '{}' is decoded twice", self.name);
        Ok(())
    }
}

/// Who can be asked for operator state: the contexts that user functions get.
///
/// A context that lets its user read only, such as that of a record that meets broadcast state, implements this trait
/// and not [`OperatorStateStoreMut`].
pub trait OperatorStateStore {
    /// The operator states of the subtask.
    fn operator_state(&self) -> &OperatorStateBackend;
}

/// Who lets operator state be written.
pub trait OperatorStateStoreMut: OperatorStateStore {
    /// The operator states of the subtask, to change.
    fn operator_state_mut(&mut self) -> &mut OperatorStateBackend;
}

impl OperatorStateStore for OperatorStateBackend {
    fn operator_state(&self) -> &OperatorStateBackend {
        self
    }
}

impl OperatorStateStoreMut for OperatorStateBackend {
    fn operator_state_mut(&mut self) -> &mut OperatorStateBackend {
        self
    }
}

fn other_type(name: &str) -> Error {
    Error::user(format!("two operator states of different types have the name '{name}'"))
}

#[cfg(test)]
mod tests;
