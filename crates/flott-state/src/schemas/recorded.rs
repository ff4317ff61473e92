//! The schemas of one operator subtask's keyed states, from snapshot to snapshot.

use super::{EntryReader, schema_of};
use crate::snapshot::OperatorSnapshot;
use flott_schema::{Migration, StateSchemas, Type, compatible_entry};
use flott_types::{Data, Error, ErrorKind, KeyGroupRange, Result};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name under which operators record the schemas of their keyed states: a union state, so that every subtask has all of them
/// and builds that know nothing of schemas leave it alone.
pub const STATE_SCHEMAS: &str = "_schemas";

/// What a snapshot says of the types of states: for each state, the schema of its entries in some key groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) states: BTreeMap<String, Vec<(KeyGroupRange, Arc<Type>)>>,
    /// Whether a record was left out, because it is of a version that this build does not know.
    pub(crate) has_later: bool,
}

impl Recorded {
    /// Reads the records of a snapshot, as far as they are about key groups of `range` and about states that have an entry there.
    pub(crate) fn read(snapshot: &OperatorSnapshot, range: KeyGroupRange) -> Result<Self> {
        let mut recorded = Self::default();
        for bytes in snapshot.union.get(STATE_SCHEMAS).into_iter().flatten() {
            let record = StateSchemas::decode(bytes).map_err(|error| {
                Error::new(ErrorKind::Corruption, "the schemas of keyed states cannot be read")
                    .with_source(error)
            })?;
            match record {
                Some(record) => recorded.add(record, snapshot, range),
                None => recorded.has_later = true,
            }
        }
        Ok(recorded)
    }

    fn add(&mut self, record: StateSchemas, snapshot: &OperatorSnapshot, range: KeyGroupRange) {
        let (start, end) = record.key_groups;
        let part = KeyGroupRange { start: start.max(range.start), end: end.min(range.end) };
        for (name, schema) in record.entries {
            let groups = snapshot.keyed.get(&name);
            // What has no entry may become anything.
            if groups.is_some_and(|groups| groups.keys().any(|group| part.contains(*group))) {
                self.states.entry(name).or_default().push((part, Arc::new(schema)));
            }
        }
    }

    /// How entries of the state `name` are read as `schema`; `Err` says which field does not fit.
    pub(crate) fn reader(&self, name: &str, schema: Option<&Type>) -> Result<EntryReader, String> {
        let mut migrations = Vec::new();
        for (range, migration) in self.migrations(name, schema)? {
            if !migration.is_unchanged() {
                migrations.push((range, migration));
            }
        }
        Ok(EntryReader::new(migrations, self.has_later))
    }

    fn migrations(
        &self,
        name: &str,
        schema: Option<&Type>,
    ) -> Result<Vec<(KeyGroupRange, Migration)>, String> {
        // A type without schema reads what it can, as it did before there were schemas.
        let (Some(schema), Some(recorded)) = (schema, self.states.get(name)) else { return Ok(Vec::new()) };
        let migration = |(range, old): &(KeyGroupRange, Arc<Type>)| {
            let migration = compatible_entry(old, schema)
                .map_err(|refused| format!("the type of state '{name}' has changed: {refused}"))?;
            Ok((*range, migration))
        };
        recorded.iter().map(migration).collect()
    }

    /// What changes when entries of the state `name` are read as `schema`, for people.
    pub(crate) fn changes(&self, name: &str, schema: Option<&Type>) -> Result<BTreeSet<String>, String> {
        let migrations = self.migrations(name, schema)?;
        Ok(migrations.iter().flat_map(|(_, migration)| migration.changes()).cloned().collect())
    }
}

/// The schemas of the keyed states of one operator subtask: those that it has bound, and as the snapshot recorded them those of states
/// that nobody has asked for yet.
#[derive(Clone, Debug)]
pub struct KeyedSchemas {
    range: KeyGroupRange,
    recorded: Recorded,
    bound: BTreeMap<String, Option<Arc<Type>>>,
    /// What goes into snapshots, until another state is bound.
    encoded: OnceCell<Vec<Vec<u8>>>,
}

impl Default for KeyedSchemas {
    fn default() -> Self {
        Self::new(KeyGroupRange { start: 0, end: 1 })
    }
}

impl KeyedSchemas {
    /// None, of a subtask with the key groups of `range`.
    pub fn new(range: KeyGroupRange) -> Self {
        Self { range, recorded: Recorded::default(), bound: BTreeMap::new(), encoded: OnceCell::new() }
    }

    /// Takes over what a snapshot recorded. States that are bound already are bound again after that.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if it cannot be read.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.recorded = Recorded::read(snapshot, self.range)?;
        self.encoded.take();
        Ok(())
    }

    /// Notes that the entries of the state `name` are `E` from now on, and returns how those that were restored are read.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`] with the field that does not fit if they cannot become `E`.
    pub fn bind<E: Data>(&mut self, name: &str) -> Result<EntryReader> {
        let schema = schema_of::<E>();
        let reader = self.reader(name, schema.as_deref())?;
        self.set_bound(name, schema);
        Ok(reader)
    }

    /// How the restored entries of a state are read as `schema`.
    pub(crate) fn reader(&self, name: &str, schema: Option<&Type>) -> Result<EntryReader> {
        self.recorded.reader(name, schema).map_err(Error::user)
    }

    pub(crate) fn set_bound(&mut self, name: &str, schema: Option<Arc<Type>>) {
        self.recorded.states.remove(name);
        self.bound.insert(name.to_owned(), schema);
        self.encoded.take();
    }

    /// Adds the schemas to a snapshot.
    ///
    /// # Errors
    /// If they cannot be encoded.
    pub fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let encoded = match self.encoded.get() {
            Some(encoded) => encoded,
            None => {
                let encoded = self.encode()?;
                self.encoded.get_or_init(|| encoded)
            }
        };
        if !encoded.is_empty() {
            snapshot.union.insert(STATE_SCHEMAS.to_owned(), encoded.clone());
        }
        Ok(())
    }

    fn encode(&self) -> Result<Vec<Vec<u8>>> {
        let records = self.records();
        let encoded = records.iter().filter(|record| !record.entries.is_empty()).map(StateSchemas::encode);
        encoded
            .collect::<Result<_, _>>()
            .map_err(|error| Error::user("cannot write the schemas of state").with_source(error))
    }

    /// One record, or several if states that were left as they were are not of one type everywhere.
    fn records(&self) -> Vec<StateSchemas> {
        let left = self.recorded.states.values().flatten();
        let cuts = left.flat_map(|(range, _)| [range.start, range.end]);
        let cuts: BTreeSet<u32> = cuts.chain([self.range.start, self.range.end]).collect();
        let mut records: Vec<StateSchemas> = Vec::new();
        for (start, end) in cuts.iter().zip(cuts.iter().skip(1)) {
            let entries = self.entries_at(*start);
            match records.last_mut() {
                Some(last) if last.entries == entries => last.key_groups.1 = *end,
                _ => records.push(StateSchemas { key_groups: (*start, *end), entries }),
            }
        }
        records
    }

    /// The schemas of the key group with this number.
    fn entries_at(&self, group: u32) -> BTreeMap<String, Type> {
        let bound = self.bound.iter().filter_map(|(name, schema)| Some((name, schema.as_ref()?)));
        let left = self.recorded.states.iter().filter_map(|(name, schemas)| {
            let found = schemas.iter().find(|(range, _)| range.start <= group && group < range.end);
            Some((name, &found?.1))
        });
        bound.chain(left).map(|(name, schema)| (name.clone(), (**schema).clone())).collect()
    }
}
