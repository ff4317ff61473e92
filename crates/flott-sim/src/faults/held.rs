//! The keyed state in a checkpoint, in a form that does not depend on subtasks, backends, or the order in which it was written.

use super::expected::Numbered;
use super::program::KEYED;
use flott_api::windowing::TimeWindow;
use flott_checkpoint::{Manifest, OperatorManifest, RestoredState};
use flott_state::{GroupBytes, KEY_GROUP_WATERMARKS, KeyGroupBytes, OperatorSnapshot, SectionKind};
use flott_types::{
    Error, ErrorKind, KeyGroup, Result, SubtaskIndex, Timestamp, Watermark, key_group, key_group_range,
    key_hash,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// The name of a state, a key, and what is below the key: the end of a slice, the start of a session, the time of a timer.
pub(crate) type Place = (&'static str, u32, Timestamp);

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Records, in order.
    Records(Vec<Numbered>),
    /// The end of a session, and its records.
    Session(Timestamp, Vec<Numbered>),
    /// How many records, and the sum of their numbers.
    Count(u64, u64),
    /// That it is there is all.
    Timer,
}

/// What windows aggregate, by slice.
pub(crate) const SLICES: &str = "_windows/slices";
/// Open sessions.
pub(crate) const SESSIONS: &str = "_windows/sessions";
/// Timers of event time.
pub(crate) const TIMERS: &str = "_timers/event";
/// The map state of a job with timers.
pub(crate) const GROUPS: &str = "groups";
/// The value state of a job that counts.
pub(crate) const COUNT: &str = "count";

/// The first bytes of sections of value state and of map state.
const VALUE: u8 = 1;
const MAP: u8 = 3;

/// An element of a state of the user's, and when it was last used if anybody wants to know.
type Stored<V> = (V, Option<Timestamp>);

/// The state of the keyed operator of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyedDump {
    /// What is there.
    pub(crate) entries: BTreeMap<Place, Held>,
    /// How far event time has come in key groups, from the first to before the last. Not in those of subtasks that had ended before.
    pub(crate) reached: Vec<(u32, u32, Watermark)>,
    max_parallelism: u32,
}

impl KeyedDump {
    /// Reads the state of the keyed operator, if the job has one.
    ///
    /// # Errors
    /// If it cannot be read, or is in parts where it does not belong.
    pub(crate) fn read(manifest: &Manifest, state: &RestoredState) -> Result<Self> {
        let is_keyed = |operator: &&OperatorManifest| KEYED.contains(&operator.uid.0.as_str());
        let Some(operator) = manifest.operators.iter().find(is_keyed) else { return Ok(Self::default()) };
        let mut dump = Self { max_parallelism: operator.max_parallelism, ..Self::default() };
        for (part, subtask) in state.parts(&operator.uid).into_iter().flatten().zip(0..) {
            dump.add(part, SubtaskIndex(subtask), operator)?;
        }
        Ok(dump)
    }

    /// The event time that `key` has reached; `None` if nobody knows any more.
    pub(crate) fn reached(&self, key: u32) -> Option<Watermark> {
        let KeyGroup(group) = key_group(key_hash(&key), self.max_parallelism.max(1));
        let run = self.reached.iter().find(|(start, end, _)| (*start..*end).contains(&group));
        run.map(|(_, _, watermark)| *watermark)
    }

    /// Whether two are the same, however key groups are divided.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let reached = |dump: &Self| {
            let mut runs: Vec<(u32, u32, Watermark)> = Vec::new();
            let mut divided = dump.reached.clone();
            divided.sort_by_key(|(start, ..)| *start);
            for (start, end, watermark) in divided {
                match runs.last_mut() {
                    Some((_, until, known)) if *until == start && *known == watermark => *until = end,
                    Some(_) | None => runs.push((start, end, watermark)),
                }
            }
            runs
        };
        self.entries == other.entries && reached(self) == reached(other)
    }

    fn add(
        &mut self,
        part: &OperatorSnapshot,
        subtask: SubtaskIndex,
        operator: &OperatorManifest,
    ) -> Result<()> {
        let range = key_group_range(subtask, operator.max_parallelism, operator.parallelism);
        for entry in part.union.get(KEY_GROUP_WATERMARKS).into_iter().flatten() {
            let (_, runs): (u32, Vec<(u32, u32, Watermark)>) = flott_state::decode("watermarks", entry)?;
            self.reached.extend(runs);
        }
        for (name, groups) in &part.keyed {
            if let Some(group) = groups.keys().find(|group| !range.contains(**group)) {
                return Err(wrong(format!("subtask {subtask} has key group {group} of '{name}'")));
            }
            self.add_state(name, groups)?;
        }
        Ok(())
    }

    fn add_state(&mut self, name: &str, groups: &KeyGroupBytes) -> Result<()> {
        match name {
            SLICES => groups.iter().try_for_each(|(group, bytes)| self.add_slices(*group, bytes)),
            SESSIONS => groups.values().try_for_each(|bytes| self.add_sessions(bytes)),
            TIMERS => {
                self.add_groups(groups, listed, |dump, (at, key)| dump.insert((TIMERS, key, at), Held::Timer))
            }
            GROUPS => self.add_changes(GROUPS, MAP, groups, |dump, key, map| {
                let map: BTreeMap<Timestamp, Stored<Vec<Numbered>>> = map;
                map.into_iter().try_for_each(|(at, (records, _))| {
                    dump.insert((GROUPS, key, at), Held::Records(sorted(records)))
                })
            }),
            COUNT => self.add_changes(COUNT, VALUE, groups, |dump, key, value| {
                let ((count, sum), _): Stored<(u64, u64)> = value;
                dump.insert((COUNT, key, 0), Held::Count(count, sum))
            }),
            _ if groups.is_empty() => Ok(()),
            _ => Err(wrong(format!("nobody has made the state '{name}'"))),
        }
    }

    /// Takes the slices of a key group: entries by key and slice, some of which may take the place of others, and until when slices are gone.
    fn add_slices(&mut self, group: KeyGroup, bytes: &GroupBytes) -> Result<()> {
        let max_parallelism = self.max_parallelism;
        bytes.for_each_change(|kind, section| {
            if kind == SectionKind::Removed {
                let until: Option<Timestamp> = counted(section)?.into_iter().max();
                self.entries.retain(|(of, key, end), _| {
                    let is_of_group = *of == SLICES && key_group(key_hash(key), max_parallelism) == group;
                    !is_of_group || Some(*end) > until
                });
                return Ok(());
            }
            for (key, (end, records)) in counted::<(u32, (Timestamp, Vec<Numbered>))>(section)? {
                let held =
                    self.entries.entry((SLICES, key, end)).or_insert_with(|| Held::Records(Vec::new()));
                if let Held::Records(known) = held {
                    if kind == SectionKind::Changed {
                        known.clear();
                    }
                    known.extend(records);
                    known.sort_unstable();
                }
            }
            Ok(())
        })
    }

    /// Takes the sessions of a key group. Of changes, those of one key are beside each other.
    fn add_sessions(&mut self, bytes: &GroupBytes) -> Result<()> {
        bytes.for_each_change(|kind, section| {
            if kind == SectionKind::Removed {
                counted(section)?.into_iter().for_each(|key| self.remove(SESSIONS, key));
                return Ok(());
            }
            let sessions: Vec<(u32, (TimeWindow, Vec<Numbered>))> = counted(section)?;
            let mut replaced = None;
            for (key, (window, records)) in sessions {
                if kind == SectionKind::Changed && replaced.replace(key) != Some(key) {
                    self.remove(SESSIONS, key);
                }
                self.insert((SESSIONS, key, window.start), Held::Session(window.end, sorted(records)))?;
            }
            Ok(())
        })
    }

    /// Takes the entries of key groups, in sections that are read by `decode`.
    fn add_groups<E>(
        &mut self,
        groups: &KeyGroupBytes,
        decode: impl Fn(&[u8]) -> Result<Vec<E>>,
        mut add: impl FnMut(&mut Self, E) -> Result<()>,
    ) -> Result<()> {
        groups.values().try_for_each(|group| {
            group.for_each_section(|section| decode(section)?.into_iter().try_for_each(|it| add(self, it)))
        })
    }

    /// Takes the entries of a state of the user's, some of which may be changes of others.
    fn add_changes<V: DeserializeOwned>(
        &mut self,
        name: &'static str,
        of: u8,
        groups: &KeyGroupBytes,
        add: impl Fn(&mut Self, u32, V) -> Result<()>,
    ) -> Result<()> {
        groups.values().try_for_each(|group| {
            group.for_each_change(|kind, section| match kind {
                SectionKind::Whole => {
                    of_kind(of, section)?.into_iter().try_for_each(|(key, held)| add(self, key, held))
                }
                SectionKind::Changed => of_kind(of, section)?.into_iter().try_for_each(|(key, held)| {
                    self.remove(name, key);
                    add(self, key, held)
                }),
                SectionKind::Removed => {
                    of_kind(of, section)?.into_iter().for_each(|key| self.remove(name, key));
                    Ok(())
                }
            })
        })
    }

    fn remove(&mut self, name: &'static str, key: u32) {
        self.entries.retain(|(of, owner, _), _| (*of, *owner) != (name, key));
    }

    fn insert(&mut self, place: Place, held: Held) -> Result<()> {
        match self.entries.insert(place, held) {
            Some(known) => Err(wrong(format!("{place:?} is there twice, once with {known:?}"))),
            None => Ok(()),
        }
    }
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::Corruption, what)
}

fn sorted(mut records: Vec<Numbered>) -> Vec<Numbered> {
    records.sort_unstable();
    records
}

/// A section that is a vector.
fn counted<E: DeserializeOwned>(section: &[u8]) -> Result<Vec<E>> {
    flott_state::decode("a section of entries", section)
}

/// A section that is entries, one after the other.
fn listed<E: DeserializeOwned>(mut section: &[u8]) -> Result<Vec<E>> {
    let mut entries = Vec::new();
    while !section.is_empty() {
        let (entry, rest) = postcard::take_from_bytes(section)
            .map_err(|error| wrong("cannot read an entry".to_owned()).with_source(error))?;
        entries.push(entry);
        section = rest;
    }
    Ok(entries)
}

/// The same behind the byte that tells the kind of the state.
fn of_kind<E: DeserializeOwned>(kind: u8, section: &[u8]) -> Result<Vec<E>> {
    match section.split_first() {
        Some((first, entries)) if *first == kind => listed(entries),
        first => Err(wrong(format!("a section of kind {kind} begins with {first:?}"))),
    }
}
