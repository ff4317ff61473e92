//! State that belongs to an operator subtask and to no key.
//!
//! Restored state is decoded when a handle first asks for it, also if the handle only reads; so a slot holds the
//! restored bytes and a cell for what they mean.

mod broadcast;
mod list;

pub use broadcast::BroadcastState;
pub use list::OperatorListState;

use crate::backend::is_reserved;
use crate::codec::encode;
use crate::handles::BoundName;
use crate::schemas::{EntryDecoder, schema_of};
use crate::snapshot::OperatorSnapshot;
use flott_schema::{EntrySchemas, Type};
use flott_types::{Error, ErrorKind, Result, SubtaskIndex};
use serde::Serialize;
use serde::de::DeserializeOwned;
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
    /// The type of its entries; `None` if it has no schema, or nothing was written that is of it.
    fn schema(&self) -> Option<Arc<Type>>;
    /// The state that [`OperatorState::snapshot`] wrote, perhaps on several subtasks and as other types.
    fn restore(name: &str, entries: &[RestoredEntry]) -> Result<Self>
    where
        Self: Sized;
}

/// An entry of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct RestoredEntry {
    bytes: Vec<u8>,
    /// The type as which it was written, if that is known.
    schema: Option<Arc<Type>>,
}

struct Slot {
    name: Arc<str>,
    distribution: Distribution,
    restored: Vec<RestoredEntry>,
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
            let OperatorSnapshot { list, union, broadcast, schemas, .. } = snapshot;
            let schemas = match slot.distribution {
                Distribution::List => &mut schemas.list,
                Distribution::Union => &mut schemas.union,
                Distribution::Broadcast => &mut schemas.broadcast,
            };
            let entries = match (slot.state.get(), slot.distribution) {
                (Some(state), _) => {
                    let entries = state.snapshot(&name)?;
                    schemas.push(&name, entries.len() as u64, state.schema().as_ref());
                    entries
                }
                (None, Distribution::Union) if self.subtask.0 != 0 => Vec::new(),
                (None, _) => {
                    let restored = &slot.restored;
                    restored.iter().for_each(|entry| schemas.push(&name, 1, entry.schema.as_ref()));
                    restored.iter().map(|entry| entry.bytes.clone()).collect()
                }
            };
            match slot.distribution {
                Distribution::List => drop(list.insert(name, entries)),
                Distribution::Union => drop(union.insert(name, entries)),
                Distribution::Broadcast => {
                    let entry = entries.into_iter().next().expect("a broadcast state is one entry");
                    broadcast.insert(name, entry);
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
        let OperatorSnapshot { list, union, broadcast, schemas, .. } = snapshot;
        let lists = list.iter().map(|(name, entries)| (name, Distribution::List, entries.as_slice()));
        let unions = union.iter().map(|(name, entries)| (name, Distribution::Union, entries.as_slice()));
        let broadcasts = broadcast.iter();
        let broadcasts =
            broadcasts.map(|(name, entry)| (name, Distribution::Broadcast, std::slice::from_ref(entry)));
        let states = lists.chain(unions).chain(broadcasts);
        for (name, distribution, entries) in states.filter(|(name, ..)| !is_reserved(name)) {
            let schemas = match distribution {
                Distribution::List => &schemas.list,
                Distribution::Union => &schemas.union,
                Distribution::Broadcast => &schemas.broadcast,
            };
            let restored = restored_entries(name, entries, schemas);
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

fn restored_entries(name: &str, entries: &[Vec<u8>], schemas: &EntrySchemas) -> Vec<RestoredEntry> {
    let entries = entries.iter().zip(schemas.of(name));
    entries.map(|(bytes, schema)| RestoredEntry { bytes: bytes.clone(), schema: schema.cloned() }).collect()
}

impl OperatorSnapshot {
    /// Notes that the entries of a list state of the engine hold values of type `T`.
    pub fn describe_list<T: DeserializeOwned + 'static>(&mut self, name: &str) {
        let n_entries = self.list.get(name).map_or(0, Vec::len) as u64;
        self.schemas.list.push(name, n_entries, schema_of::<T>().as_ref());
    }

    /// Adds a list state of the engine, whose entries are `T`, or borrowed as `E`, which is written alike.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`] if an entry cannot be serialized.
    pub fn put_list<T: DeserializeOwned + 'static, E: Serialize>(
        &mut self,
        name: &str,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<()> {
        let entries = entries.into_iter().map(|entry| encode(name, &entry)).collect::<Result<_>>()?;
        self.list.insert(name.to_owned(), entries);
        self.describe_list::<T>(name);
        Ok(())
    }

    /// The entries of a list state of the engine, also of one that was written as an older type.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if they are not what was written, [`ErrorKind::UserError`] with the field that does not fit if they
    /// cannot become `T`.
    pub fn get_list<T: DeserializeOwned + 'static>(&self, name: &str) -> Result<Vec<T>> {
        let mut decoder = EntryDecoder::new::<T>();
        let entries = self.list.get(name).map(Vec::as_slice).unwrap_or_default();
        let entries = entries.iter().zip(self.schemas.list.of(name));
        entries.map(|(bytes, schema)| decoder.decode(name, bytes, schema)).collect()
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
