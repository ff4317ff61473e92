//! The named keyed states of one operator subtask.

use crate::begun::{BegunSnapshot, GroupLayout, SnapshotProgress};
use crate::local::LocalState;
use crate::schemas::{EntryReader, KeyedSchemas, schema_of};
use crate::snapshot::{KeyGroupBytes, OperatorSnapshot};
use crate::table::KeyedTable;
use flott_schema::Type;
use flott_types::{Data, Error, ErrorKind, Key, KeyGroupRange, Result, SubtaskIndex, Timestamp};
use flott_types::{key_group, key_group_range, key_hash};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What the backend does with a state whose value type it does not know.
pub trait KeyedState: Any + Send {
    /// Writes all entries that have not expired at `now`, by key group.
    ///
    /// # Errors
    /// If an entry cannot be serialized, or the disk cannot be read.
    fn snapshot(&self, name: &str, max_parallelism: u32, now: Timestamp) -> Result<KeyGroupBytes>;

    /// Announces the same entries, which [`KeyedState::snapshot_step`] sends.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn begin_snapshot(
        &mut self,
        name: &str,
        max_parallelism: u32,
        now: Timestamp,
        begun: &mut BegunSnapshot,
    ) -> Result<()>;

    /// Goes on with what was begun, for `places` places of the table.
    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress;
}

impl<K: Key, V: Data> KeyedState for KeyedTable<K, V> {
    fn snapshot(&self, name: &str, max_parallelism: u32, _: Timestamp) -> Result<KeyGroupBytes> {
        KeyedTable::snapshot(self, name, max_parallelism)
    }

    fn begin_snapshot(
        &mut self,
        name: &str,
        max_parallelism: u32,
        _: Timestamp,
        begun: &mut BegunSnapshot,
    ) -> Result<()> {
        self.begin_snapshot_of_pairs(&begun.stream(name, max_parallelism, GroupLayout::Entries))
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        KeyedTable::snapshot_step(self, places)
    }
}

/// A key and its hash.
#[derive(Clone, Debug)]
pub struct KeyScope<K> {
    /// The key.
    pub key: K,
    /// Its [`key_hash`].
    pub hash: u64,
}

/// The keyed states of one operator subtask, by name, and the key in whose scope they are read and written.
pub struct KeyedStateBackend<K> {
    max_parallelism: u32,
    range: KeyGroupRange,
    scope: Option<KeyScope<K>>,
    now: Timestamp,
    states: Vec<(Arc<str>, Box<dyn KeyedState>)>,
    /// Restored states that nobody has asked for yet: kept, and written again.
    unread: BTreeMap<String, KeyGroupBytes>,
    /// Of the states and of what else the operator keeps by key.
    schemas: KeyedSchemas,
    local: LocalState,
}

impl<K> fmt::Debug for KeyedStateBackend<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.states.iter().map(|(name, _)| name).collect();
        f.debug_struct("KeyedStateBackend")
            .field("range", &self.range)
            .field("states", &names)
            .finish_non_exhaustive()
    }
}

impl<K: Key> KeyedStateBackend<K> {
    /// An empty backend for `subtask` of `parallelism`.
    pub fn new(subtask: SubtaskIndex, parallelism: u32, max_parallelism: u32) -> Self {
        let range = key_group_range(subtask, max_parallelism, parallelism);
        Self {
            max_parallelism,
            range,
            scope: None,
            now: 0,
            states: Vec::new(),
            unread: BTreeMap::new(),
            schemas: KeyedSchemas::new(range),
            local: LocalState::default(),
        }
    }

    /// The same backend with its tables where `local` says.
    ///
    /// # Panics
    /// If state has been used already.
    #[must_use]
    pub fn with_local_state(mut self, local: LocalState) -> Self {
        assert!(self.states.is_empty(), "where state is, is decided before it is used");
        self.local = local;
        self
    }

    /// The schemas of the operator's keyed states, for what it keeps by key besides these.
    pub fn schemas(&mut self) -> &mut KeyedSchemas {
        &mut self.schemas
    }

    pub(crate) fn local_state(&self) -> &LocalState {
        &self.local
    }

    /// The number of key groups of the job.
    pub fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// Puts `key` in scope and returns its hash.
    ///
    /// # Panics
    /// If the key does not belong to this subtask: a partitioner has sent the record to the wrong place.
    #[inline]
    pub fn set_current_key(&mut self, key: K) -> u64 {
        let hash = key_hash(&key);
        let group = key_group(hash, self.max_parallelism);
        assert!(
            self.range.contains(group),
            "key group {group} is outside of this subtask's {:?}",
            self.range
        );
        self.scope = Some(KeyScope { key, hash });
        hash
    }

    /// Takes the key out of scope: until the next one is set, keyed state cannot be used.
    pub fn clear_current_key(&mut self) {
        self.scope = None;
    }

    /// The key in scope.
    ///
    /// # Panics
    /// If no key is in scope: keyed state was used where records have no key.
    #[inline]
    pub fn current(&self) -> &KeyScope<K> {
        self.scope.as_ref().expect("keyed state is used while a record or timer of a key is processed")
    }

    /// Tells the processing time that decides about expiry, in milliseconds since the epoch.
    pub fn set_processing_time(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The processing time that decides about expiry.
    pub fn processing_time(&self) -> Timestamp {
        self.now
    }

    /// The place of the state `name`, whose entries are `E`. If it is new it is made by `make`, from what was restored for it and the way
    /// to read that.
    ///
    /// Names that start with `_` belong to the engine's state outside of backends, such as timers.
    ///
    /// # Errors
    /// If `make` fails, for instance because the restored bytes are not of this state's type: they are kept. If the restored entries
    /// cannot become `E`. If the name starts with `_`.
    pub fn bind<E: Data, S: KeyedState>(
        &mut self,
        name: &str,
        make: impl FnOnce(&KeyGroupBytes, &EntryReader) -> Result<S>,
    ) -> Result<usize> {
        let schema = schema_of::<E>();
        self.bind_shared(&Arc::from(name), schema.clone(), |groups, schemas| {
            make(groups, &schemas.reader(name, schema.as_deref())?)
        })
    }

    pub(crate) fn bind_shared<S: KeyedState>(
        &mut self,
        name: &Arc<str>,
        schema: Option<Arc<Type>>,
        make: impl FnOnce(&KeyGroupBytes, &KeyedSchemas) -> Result<S>,
    ) -> Result<usize> {
        if let Some(idx) = self.states.iter().position(|(known, _)| known == name) {
            return Ok(idx);
        }
        if is_reserved(name) {
            return Err(Error::user(format!(
                "the state name '{name}' starts with '_', which the engine uses itself"
            )));
        }
        let state = match self.unread.get(&**name) {
            Some(restored) => make(restored, &self.schemas)
                .map_err(|error| error.context(format!("restoring state '{name}'")))?,
            None => make(&KeyGroupBytes::new(), &self.schemas)?,
        };
        self.unread.remove(&**name);
        self.schemas.set_bound(name, schema);
        self.states.push((Arc::clone(name), Box::new(state)));
        Ok(self.states.len() - 1)
    }

    /// Whether the state at a place has this name; the same `Arc` makes it cheap.
    #[inline]
    pub(crate) fn is_at(&self, idx: usize, name: &Arc<str>) -> bool {
        // Comparing an `Arc<str>` does not look at the pointers first.
        self.states.get(idx).is_some_and(|(known, _)| Arc::ptr_eq(known, name) || known == name)
    }

    /// The state at a place that [`KeyedStateBackend::bind`] returned, with the key in scope.
    ///
    /// # Errors
    /// If the state has another type: two handles share a name. If no key is in scope: keyed state was used where
    /// records have no key, such as in `open`.
    #[inline]
    pub fn state<S: KeyedState>(&mut self, idx: usize) -> Result<(&mut S, &KeyScope<K>, Timestamp)> {
        let Some(scope) = &self.scope else {
            return Err(Error::user("keyed state was used where no key is in scope"));
        };
        let Some((name, state)) = self.states.get_mut(idx) else {
            return Err(Error::user(
                "a state handle was used with another operator than the one it was bound to",
            ));
        };
        let state: &mut dyn Any = state.as_mut();
        match state.downcast_mut::<S>() {
            Some(state) => Ok((state, scope, self.now)),
            None => Err(Error::user(format!("two states of different types have the name '{name}'"))),
        }
    }

    /// Adds all states to a snapshot.
    ///
    /// # Errors
    /// If an entry cannot be serialized.
    pub fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.max_parallelism = self.max_parallelism;
        for (name, state) in &self.states {
            snapshot.keyed.insert(name.to_string(), state.snapshot(name, self.max_parallelism, self.now)?);
        }
        for (name, groups) in &self.unread {
            snapshot.keyed.insert(name.clone(), groups.clone());
        }
        self.schemas.snapshot(snapshot)
    }

    /// Announces all states of the present moment, which [`KeyedStateBackend::snapshot_step`] sends.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        begun.snapshot.max_parallelism = self.max_parallelism;
        for (name, state) in &mut self.states {
            state.begin_snapshot(name, self.max_parallelism, self.now, begun)?;
        }
        for (name, groups) in &self.unread {
            begun.snapshot.keyed.insert(name.clone(), groups.clone());
        }
        self.schemas.snapshot(&mut begun.snapshot)
    }

    /// Goes on with what was begun, for `places` places of the first table that is not complete.
    pub fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        for (_, state) in &mut self.states {
            match state.snapshot_step(places) {
                SnapshotProgress::Complete => {}
                progress => return progress,
            }
        }
        SnapshotProgress::Complete
    }

    /// Takes over the keyed states of a snapshot; each is decoded when a handle first asks for it.
    ///
    /// # Panics
    /// If state has been used already: restore comes before the function's first record.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`] if the snapshot has another number of key groups, [`ErrorKind::Corruption`] if it
    /// has a key group that is not this subtask's.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        assert!(self.states.is_empty(), "keyed state is restored before it is used");
        if snapshot.max_parallelism != 0 && snapshot.max_parallelism != self.max_parallelism {
            return Err(Error::user(format!(
                "the snapshot has {} key groups, the job {}: set pipeline.max-parallelism to {}",
                snapshot.max_parallelism, self.max_parallelism, snapshot.max_parallelism
            )));
        }
        for (name, groups) in snapshot.keyed.iter().filter(|(name, _)| !is_reserved(name)) {
            if let Some(group) = groups.keys().find(|group| !self.range.contains(**group)) {
                let message = format!("key group {group} of state '{name}' is outside of {:?}", self.range);
                return Err(Error::new(ErrorKind::Corruption, message));
            }
            self.unread.insert(name.clone(), self.local.keep(groups)?);
        }
        self.schemas.restore(snapshot)
    }
}

/// Who can be asked for keyed state: the contexts that user functions get.
pub trait KeyedStateStore {
    /// The key type.
    type Key: Key;
    /// The states of the subtask.
    fn keyed_state(&mut self) -> &mut KeyedStateBackend<Self::Key>;
}

impl<K: Key> KeyedStateStore for KeyedStateBackend<K> {
    type Key = K;
    fn keyed_state(&mut self) -> &mut KeyedStateBackend<K> {
        self
    }
}

/// Whether a name belongs to state that the engine keeps outside of the backends.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('_')
}
