//! What a snapshot consists of: operators, their states, how many key groups and bytes.

use crate::codec::checksum;
use crate::inspect::kind::{Scope, StateKind};
use crate::inspect::{STATE_SCHEMAS, for_each_part, kind_name, owners};
use crate::manifest::OperatorManifest;
use crate::part;
use crate::restore::OpenSnapshot;
use flott_schema::{OperatorSchemas, StateSchemas, Type};
use flott_state::{GroupBytes, IN_FLIGHT, OperatorSnapshot, decode_parts};
use flott_types::{
    Error, ErrorKind, FileHandle, KeyGroup, OperatorUid, Result, SubtaskIndex, key_group_range,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// What a checkpoint or savepoint consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotDescription {
    /// Its directory.
    pub path: String,
    /// `checkpoint`, `savepoint`, `savepoint (stop)` or `savepoint (stop with drain)`.
    pub kind: &'static str,
    /// The job that took it.
    pub job_id: String,
    /// Its number.
    pub checkpoint_id: u64,
    /// The start of the job that took it.
    pub generation: u64,
    /// When it was triggered, in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Whether it was taken after all input had been processed.
    pub is_final: bool,
    /// The version of the key hash that divides keyed state.
    pub key_hash_version: u32,
    /// The version of the format of the manifest.
    pub manifest_version: u32,
    /// The version of the format of parts, the newest if there are several; 0 if there is no part.
    pub part_version: u32,
    /// Number of parts.
    pub files: usize,
    /// Bytes in parts.
    pub bytes: u64,
    /// Operators by uid, also those without state.
    pub operators: Vec<OperatorDescription>,
}

/// One operator of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorDescription {
    /// Under which its state is found again.
    pub uid: String,
    /// As people call it.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Splits with a position, over all subtasks; `None` if it is no source.
    pub positions: Option<u64>,
    /// Bytes of the split enumerator; `None` if it is no source.
    pub enumerator_bytes: Option<u64>,
    /// Bytes of all its states and of the enumerator.
    pub bytes: u64,
    /// Its states, sorted by name.
    pub states: Vec<StateDescription>,
    /// Its subtasks, by index.
    pub subtasks: Vec<SubtaskDescription>,
    /// The encoded schemas of keyed states, each as subtasks recorded it; those of other states are with them. See docs/design/0005-state-schema.md.
    #[serde(skip)]
    pub schemas: Vec<Vec<u8>>,
}

/// One state of an operator, over all subtasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateDescription {
    /// Its name; those of the engine begin with `_`.
    pub name: String,
    /// How it is divided among subtasks.
    pub scope: Scope,
    /// What it is used as.
    pub kind: StateKind,
    /// Key groups with at least one entry; `None` if it is not keyed.
    pub key_groups: Option<usize>,
    /// Entries; `None` if it is keyed, because only the program can tell them apart.
    pub entries: Option<u64>,
    /// Bytes, without names and lengths.
    pub bytes: u64,
    /// What its entries are, if that is recorded (of records in flight the records of their edges, of source positions the split inside); several if its type has changed and not every subtask has read it since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Type>,
    /// Length and checksum of each key group.
    #[serde(skip)]
    pub groups: BTreeMap<KeyGroup, (u64, u64)>,
    /// Checksum over operator state.
    #[serde(skip)]
    pub checksum: u64,
}

/// One subtask of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubtaskDescription {
    /// Its index.
    pub index: u32,
    /// The file that its state is in, with that of the other operators of its chain; `None` if it has none.
    pub file: Option<String>,
    /// Whether it had processed all its input.
    pub finished: bool,
    /// The first key group that is its, and one past the last.
    pub key_groups: (u32, u32),
    /// Bytes of its states.
    pub bytes: u64,
}

/// Describes a snapshot. Every file is read, and compared with the manifest on the way.
///
/// # Errors
/// As [`OpenSnapshot::verify`].
pub fn describe_snapshot(snapshot: &OpenSnapshot) -> Result<SnapshotDescription> {
    let manifest = snapshot.manifest();
    let mut operators: BTreeMap<&OperatorUid, Collected> =
        manifest.operators.iter().map(|operator| (&operator.uid, Collected::default())).collect();
    let owners = owners(snapshot);
    for_each_part(snapshot, |handle, parts| {
        for (uid, part) in parts {
            let subtask = owners.get(handle.path.as_str()).and_then(|subtasks| subtasks.get(&uid));
            // What no operator of the manifest claims is for `verify` to complain about.
            if let (Some(subtask), Some(collected)) = (subtask, operators.get_mut(&uid)) {
                collected.add(*subtask, &part)?;
                collected.add_types(handle, &part)?;
            }
        }
        Ok(())
    })?;
    let files = manifest.files();
    let mut part_version = 0;
    for handle in &files {
        part_version = part_version.max(snapshot.part_version(handle)?);
    }
    let describe = |operator: &OperatorManifest| {
        operators.remove(&operator.uid).unwrap_or_default().into_description(operator)
    };
    Ok(SnapshotDescription {
        path: snapshot.path(),
        kind: kind_name(manifest.kind),
        job_id: manifest.job_id.to_string(),
        checkpoint_id: manifest.checkpoint_id.0,
        generation: manifest.generation.0,
        timestamp_ms: manifest.timestamp,
        is_final: manifest.is_final,
        key_hash_version: manifest.key_hash_version,
        manifest_version: version(&manifest.encode()),
        part_version,
        files: files.len(),
        bytes: files.iter().map(|file| file.len).sum(),
        operators: manifest.operators.iter().map(describe).collect(),
    })
}

/// The format version in the frame of a manifest. Only the version that this build writes was read to get here.
fn version(frame: &[u8]) -> u32 {
    let version = frame.get(8..12).and_then(|bytes| bytes.try_into().ok());
    version.map_or(0, u32::from_le_bytes)
}

/// What the files say of one operator.
#[derive(Debug, Default)]
struct Collected {
    states: BTreeMap<(String, Scope), StateDescription>,
    bytes_of_subtask: BTreeMap<SubtaskIndex, u64>,
    positions: Option<u64>,
    schemas: Vec<Vec<u8>>,
}

impl Collected {
    fn add(&mut self, subtask: SubtaskIndex, part: &OperatorSnapshot) -> Result<()> {
        *self.bytes_of_subtask.entry(subtask).or_default() += part::state_len(part);
        for (name, groups) in &part.keyed {
            let kind = StateKind::of_keyed(name, groups);
            let state = self.state(name, Scope::Keyed, kind);
            if state.kind == StateKind::Keyed {
                state.kind = kind;
            }
            state.bytes += groups.values().map(GroupBytes::n_bytes).sum::<u64>();
            for (group, bytes) in groups {
                let mut hasher = XxHash3_64::new();
                bytes.for_each_change(|_, section| {
                    hasher.write(section);
                    Ok::<_, Error>(())
                })?;
                state.groups.insert(*group, (bytes.n_bytes(), hasher.finish()));
            }
            state.key_groups = Some(state.groups.len());
        }
        let lists = part.list.iter().map(|(name, entries)| (Scope::List, name, entries.iter().collect()));
        let unions = part.union.iter().map(|(name, entries)| (Scope::Union, name, entries.iter().collect()));
        let broadcasts = part.broadcast.iter().map(|(name, bytes)| (Scope::Broadcast, name, vec![bytes]));
        for (scope, name, entries) in lists.chain(unions).chain(broadcasts) {
            self.add_operator_state(scope, name, &entries);
        }
        Ok(())
    }

    fn add_types(&mut self, handle: &FileHandle, part: &OperatorSnapshot) -> Result<()> {
        for bytes in part.union.get(STATE_SCHEMAS).into_iter().flatten() {
            let record = StateSchemas::decode(bytes).map_err(|error| {
                let message = format!("file '{}' has schemas that cannot be read", handle.path);
                Error::new(ErrorKind::Corruption, message).with_source(error)
            })?;
            for (name, ty) in record.unwrap_or_default().entries {
                let state = self.states.get_mut(&(name, Scope::Keyed));
                if let Some(state) = state.filter(|state| !state.types.contains(&ty)) {
                    state.types.push(ty);
                }
            }
        }
        self.add_entry_types(part);
        for in_flight in decode_parts(part.list.get(IN_FLIGHT).map(Vec::as_slice).unwrap_or_default())? {
            for ty in in_flight.schemas.iter().flatten() {
                self.add_type(IN_FLIGHT, Scope::List, ty);
            }
        }
        Ok(())
    }

    /// The types of list, union and broadcast states.
    fn add_entry_types(&mut self, part: &OperatorSnapshot) {
        let OperatorSchemas { list, union, broadcast } = &part.schemas;
        let scopes = [(Scope::List, list), (Scope::Union, union), (Scope::Broadcast, broadcast)];
        for (scope, schemas) in scopes {
            for (name, _) in schemas.states() {
                for ty in schemas.types_of(name) {
                    self.add_type(name, scope, ty);
                }
            }
        }
    }

    fn add_type(&mut self, name: &str, scope: Scope, ty: &Type) {
        let state = self.states.get_mut(&(name.to_owned(), scope));
        if let Some(state) = state.filter(|state| !state.types.contains(ty)) {
            state.types.push(ty.clone());
        }
    }

    fn add_operator_state(&mut self, scope: Scope, name: &str, entries: &[&Vec<u8>]) {
        if name == STATE_SCHEMAS {
            self.schemas.extend(entries.iter().copied().cloned());
            return;
        }
        let kind = StateKind::of_operator(scope, name);
        if kind == StateKind::Positions {
            *self.positions.get_or_insert(0) += entries.len() as u64;
        }
        let state = self.state(name, scope, kind);
        if scope == Scope::Broadcast && state.entries.is_some() {
            // Every subtask has the same.
            return;
        }
        *state.entries.get_or_insert(0) += entries.len() as u64;
        state.bytes += entries.iter().map(|entry| entry.len() as u64).sum::<u64>();
        for entry in entries {
            let both = [state.checksum.to_le_bytes(), checksum(entry).to_le_bytes()].concat();
            state.checksum = checksum(&both);
        }
    }

    fn state(&mut self, name: &str, scope: Scope, kind: StateKind) -> &mut StateDescription {
        self.states.entry((name.to_owned(), scope)).or_insert_with(|| StateDescription {
            name: name.to_owned(),
            scope,
            kind,
            key_groups: None,
            entries: None,
            bytes: 0,
            types: Vec::new(),
            groups: BTreeMap::new(),
            checksum: 0,
        })
    }

    fn into_description(self, operator: &OperatorManifest) -> OperatorDescription {
        let OperatorManifest { uid, name, parallelism, max_parallelism, subtasks, enumerator } = operator;
        let enumerator_bytes = enumerator.as_ref().map(|bytes| bytes.len() as u64);
        let states: Vec<_> = self.states.into_values().collect();
        let describe = |(index, subtask): (u32, &crate::manifest::SubtaskManifest)| {
            let range = key_group_range(SubtaskIndex(index), *max_parallelism, *parallelism);
            SubtaskDescription {
                index,
                file: subtask.part.as_ref().map(|part| part.path.clone()),
                finished: subtask.finished,
                key_groups: (range.start, range.end),
                bytes: self.bytes_of_subtask.get(&SubtaskIndex(index)).copied().unwrap_or_default(),
            }
        };
        OperatorDescription {
            uid: uid.to_string(),
            name: name.clone(),
            parallelism: *parallelism,
            max_parallelism: *max_parallelism,
            positions: self.positions.or(enumerator_bytes.map(|_| 0)),
            enumerator_bytes,
            bytes: states.iter().map(|state| state.bytes).sum::<u64>() + enumerator_bytes.unwrap_or_default(),
            states,
            subtasks: (0..).zip(subtasks).map(describe).collect(),
            schemas: self.schemas,
        }
    }
}
