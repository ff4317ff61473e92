//! The schemas of an operator's list, union and broadcast states as they stand in a snapshot: one for each entry.
//!
//! One state may have entries of several types: a subtask that has read it writes it as the program's type, one that has not leaves it
//! as it was restored, and at another parallelism the entries of both meet.

use crate::DecodeError;
use crate::record::{Head, SCHEMA_VERSION, malformed};
use crate::schema::Type;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// For each entry of each state the type as which it was written, or none if that type has no schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntrySchemas {
    states: BTreeMap<String, Vec<Run>>,
}

/// Entries in a row that are of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    n_entries: u64,
    schema: Option<Arc<Type>>,
}

impl EntrySchemas {
    /// Notes that the next `n_entries` of a state are of a type.
    pub fn push(&mut self, state: &str, n_entries: u64, schema: Option<&Arc<Type>>) {
        if n_entries == 0 {
            return;
        }
        let runs = match self.states.get_mut(state) {
            Some(runs) => runs,
            None => self.states.entry(state.to_owned()).or_default(),
        };
        match runs.last_mut() {
            Some(last) if is_same(last.schema.as_ref(), schema) => {
                last.n_entries = last.n_entries.saturating_add(n_entries);
            }
            _ => runs.push(Run { n_entries, schema: schema.cloned() }),
        }
    }

    /// The types of the entries of a state, in their order and without end: what is not recorded is `None`.
    pub fn of(&self, state: &str) -> impl Iterator<Item = Option<&Arc<Type>>> {
        let runs = self.states.get(state).map(Vec::as_slice).unwrap_or_default();
        let recorded = runs.iter().flat_map(|run| (0..run.n_entries).map(move |_| run.schema.as_ref()));
        recorded.chain(std::iter::repeat(None))
    }

    /// Each type of the entries of a state, once.
    pub fn types_of(&self, state: &str) -> Vec<&Arc<Type>> {
        let mut types: Vec<&Arc<Type>> = Vec::new();
        for schema in self.states.get(state).into_iter().flatten().filter_map(|run| run.schema.as_ref()) {
            if !types.contains(&schema) {
                types.push(schema);
            }
        }
        types
    }

    /// The states that something is recorded of, with the number of their entries.
    pub fn states(&self) -> impl Iterator<Item = (&str, u64)> {
        let n_entries = |runs: &[Run]| runs.iter().map(|run| run.n_entries).fold(0, u64::saturating_add);
        self.states.iter().map(move |(state, runs)| (state.as_str(), n_entries(runs)))
    }

    /// The same with types by their place in `types`, to which new ones are added.
    fn number<'a>(&'a self, types: &mut Vec<&'a Type>) -> WrittenRuns {
        let mut number = |schema: &'a Arc<Type>| {
            types.iter().position(|known| **known == **schema).unwrap_or_else(|| {
                types.push(schema);
                types.len() - 1
            })
        };
        let mut written = |run: &'a Run| (run.n_entries, run.schema.as_ref().map(&mut number));
        let states = self.states.iter();
        states.map(|(state, runs)| (state.clone(), runs.iter().map(&mut written).collect())).collect()
    }
}

fn is_same(a: Option<&Arc<Type>>, b: Option<&Arc<Type>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The schemas of all states of one operator subtask that belong to no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorSchemas {
    /// Of list states.
    pub list: EntrySchemas,
    /// Of union list states.
    pub union: EntrySchemas,
    /// Of broadcast states, which are one entry each: the map.
    pub broadcast: EntrySchemas,
}

/// How often a type follows another, by its number.
type WrittenRuns = BTreeMap<String, Vec<(u64, Option<usize>)>>;

#[derive(Serialize)]
struct Written<'a> {
    version: u16,
    types: Vec<&'a Type>,
    list: WrittenRuns,
    union: WrittenRuns,
    broadcast: WrittenRuns,
}

#[derive(Deserialize)]
struct Body {
    types: Vec<Type>,
    list: WrittenRuns,
    union: WrittenRuns,
    broadcast: WrittenRuns,
}

impl OperatorSchemas {
    /// Forgets states of which no entry has a schema.
    pub fn strip(&mut self) {
        for schemas in [&mut self.list, &mut self.union, &mut self.broadcast] {
            schemas.states.retain(|_, runs| runs.iter().any(|run| run.schema.is_some()));
        }
    }

    /// The bytes of the record; none if no entry has a schema.
    ///
    /// # Errors
    /// None that is known, a schema is plain data; whatever the encoder says is passed on.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let mut stripped = self.clone();
        stripped.strip();
        if stripped == Self::default() {
            return Ok(Vec::new());
        }
        let mut types: Vec<&Type> = Vec::new();
        let [list, union, broadcast] =
            [&stripped.list, &stripped.union, &stripped.broadcast].map(|schemas| schemas.number(&mut types));
        let written = Written { version: SCHEMA_VERSION, types, list, union, broadcast };
        serde_json::to_vec(&written).map_err(malformed)
    }

    /// Reads a record. One of another version is as good as none.
    ///
    /// # Errors
    /// If the bytes are not a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let Head { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != SCHEMA_VERSION {
            return Ok(Self::default());
        }
        let Body { types, list, union, broadcast } = serde_json::from_slice(bytes).map_err(malformed)?;
        let types: Vec<_> = types.into_iter().map(Arc::new).collect();
        let read = |written: WrittenRuns| -> Result<EntrySchemas, DecodeError> {
            let mut schemas = EntrySchemas::default();
            for (state, runs) in written {
                for (n_entries, number) in runs {
                    let schema = number.map(|number| types.get(number).ok_or(DecodeError::BadSchema));
                    schemas.push(&state, n_entries, schema.transpose()?);
                }
            }
            Ok(schemas)
        };
        Ok(Self { list: read(list)?, union: read(union)?, broadcast: read(broadcast)? })
    }
}
