//! From the bytes of states to rows, by schema.

use anyhow::{Context, Result, anyhow, ensure};
use flott_checkpoint::{GroupBytes, Scope, SectionKind, StateKind};
use flott_schema::{Type, Value, decode_prefix};
use serde::ser::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Columns by name, in order.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::savepoint) struct Row(pub(super) Vec<(&'static str, Value)>);

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Decodes the entries of one key group of a keyed state, each by itself. States of handles have their kind before the first entry; a
/// section is only written if it has an entry, which may be of no bytes.
pub(in crate::savepoint) fn decode_entries(
    name: &str,
    ty: &Type,
    bytes: &GroupBytes,
    mut each: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    if !bytes.has_changes() {
        return bytes
            .for_each_section(|section| Entries::new(name, ty).decode(section, &mut |_, entry| each(entry)));
    }
    // Of a checkpoint that goes on from earlier ones: of each key the newest counts.
    let entries = Entries::new(name, ty);
    let key_type = key_type(entries.ty).context("its schema does not say what its keys are")?;
    if name == SLICES {
        return decode_slices(&entries, key_type, bytes, each);
    }
    let keys = Entries { ty: key_type, ..entries };
    // Sessions of a key are several, beside each other.
    let mut newest = BTreeMap::<_, Vec<_>>::new();
    bytes.for_each_change(|kind, section| {
        if kind == SectionKind::Removed {
            return keys.decode(section, &mut |bytes, _| {
                newest.remove(bytes);
                Ok(())
            });
        }
        let mut last = None;
        entries.decode(section, &mut |bytes, entry| {
            let key = prefix(key_type, bytes)?.to_vec();
            let of_key = newest.entry(key.clone()).or_default();
            if kind == SectionKind::Changed && last.as_ref() != Some(&key) {
                of_key.clear();
            }
            of_key.push(entry);
            last = Some(key);
            Ok(())
        })
    })?;
    newest.into_values().flatten().try_for_each(each)
}

/// The state of windows by slices: of a slice of a key the newest counts, and what is removed are slices, by time.
const SLICES: &str = "_windows/slices";

fn decode_slices(
    entries: &Entries<'_>,
    key_type: &Type,
    bytes: &GroupBytes,
    each: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let times = Entries { ty: &Type::I64, ..*entries };
    let mut newest = BTreeMap::new();
    bytes.for_each_change(|kind, section| match kind {
        SectionKind::Whole | SectionKind::Changed => entries.decode(section, &mut |bytes, entry| {
            let key = prefix(key_type, bytes)?;
            let (end, _) = decode_prefix(&Type::I64, &bytes[key.len()..])?;
            newest.insert((key.to_vec(), time(&end)?), entry);
            Ok(())
        }),
        SectionKind::Removed => times.decode(section, &mut |_, until| {
            let until = time(&until)?;
            newest.retain(|(_, end), _| *end > until);
            Ok(())
        }),
    })?;
    newest.into_values().try_for_each(each)
}

fn time(value: &Value) -> Result<i128> {
    match value {
        Value::Signed(time) => Ok(*time),
        _ => Err(anyhow!("{value:?} is no time")),
    }
}

/// The bytes of the value of a type that others follow.
fn prefix<'b>(ty: &Type, bytes: &'b [u8]) -> Result<&'b [u8]> {
    let (_, behind) = decode_prefix(ty, bytes)?;
    Ok(bytes.get(..bytes.len() - behind.len()).unwrap_or_default())
}

/// An entry is a pair of a key and what the state has for it.
fn key_type(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Tuple(parts) => parts.first(),
        _ => None,
    }
}

/// What sections of a state consist of.
#[derive(Clone, Copy)]
struct Entries<'t> {
    is_engine: bool,
    /// Window operators write a section as one list.
    is_list: bool,
    ty: &'t Type,
}

impl<'t> Entries<'t> {
    fn new(name: &str, ty: &'t Type) -> Self {
        let is_engine = name.starts_with('_');
        match ty {
            Type::Sequence(entry) if is_engine => Self { is_engine, is_list: true, ty: entry },
            ty => Self { is_engine, is_list: false, ty },
        }
    }

    /// Calls `each` with the bytes and the value of every entry.
    fn decode(self, bytes: &[u8], each: &mut impl FnMut(&[u8], Value) -> Result<()>) -> Result<()> {
        let entries =
            if self.is_engine { Some(bytes) } else { bytes.split_first().map(|(_, entries)| entries) };
        let mut rest = entries.context("it has no bytes")?;
        let mut n_left = None;
        if self.is_list {
            let (Value::Unsigned(n_entries), behind) = decode_prefix(&Type::U64, rest)? else {
                return Err(anyhow!("it does not begin with the number of its entries"));
            };
            (n_left, rest) = (Some(n_entries), behind);
        }
        while n_left != Some(0) {
            let position = bytes.len() - rest.len();
            let (entry, behind) =
                decode_prefix(self.ty, rest).with_context(|| format!("entry at byte {position}"))?;
            // A key of no bytes is there once at most: a few bytes must not announce any number of them.
            let is_last = n_left.map_or(behind.is_empty(), |n_left| n_left == 1);
            ensure!(
                behind.len() < rest.len() || is_last,
                "the entry at byte {position} has no bytes, and is not the last"
            );
            each(rest.get(..rest.len() - behind.len()).unwrap_or_default(), entry)?;
            rest = behind;
            match &mut n_left {
                Some(n_left) => *n_left -= 1,
                None if rest.is_empty() => return Ok(()),
                None => {}
            }
        }
        ensure!(rest.is_empty(), "{} bytes follow the last entry", rest.len());
        Ok(())
    }
}

/// How the entries of a state become rows.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::savepoint) struct Layout {
    shape: Shape,
    /// The name of the first column, a number: the key group, or the subtask of state that belongs to no key.
    pub(super) place: &'static str,
    /// Names and types of the columns behind it.
    pub(super) columns: Vec<(&'static str, Type)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One element per key.
    One,
    /// A row for each element of a key's list.
    List,
    /// A row for each entry of a key's map.
    Map,
    /// Timers: time, key, namespace.
    Timer,
    /// State of the engine: a key with something of its own.
    Plain,
    /// Slices of windows: a key with the end of a slice and what was aggregated in it.
    Slices,
    /// An entry of a list that belongs to no key.
    Entry,
    /// Broadcast state: a row for each entry of the map.
    Broadcast,
}

impl Layout {
    /// The rows of a state of `kind` whose entries are `ty`.
    pub(in crate::savepoint) fn new(scope: Scope, kind: StateKind, ty: &Type) -> Result<Self> {
        let place = "subtask";
        match (scope, ty) {
            (Scope::Keyed, _) => Self::keyed(kind, ty),
            (Scope::List | Scope::Union, _) => {
                let columns = vec![("index", Type::U64), ("value", ty.clone())];
                Ok(Self { shape: Shape::Entry, place, columns })
            }
            (Scope::Broadcast, Type::Map(key, value)) => {
                let columns = vec![("key", (**key).clone()), ("value", (**value).clone())];
                Ok(Self { shape: Shape::Broadcast, place, columns })
            }
            (Scope::Broadcast, _) => Err(anyhow!("its schema, {ty}, is not that of broadcast state")),
        }
    }

    fn keyed(kind: StateKind, ty: &Type) -> Result<Self> {
        let unfit = || anyhow!("its schema, {ty}, is not that of {kind} state");
        // Window operators write a key group as one list.
        let ty = if let Type::Sequence(entry) = ty { entry } else { ty };
        let Type::Tuple(parts) = ty else { return Err(unfit()) };
        let (shape, columns) = match (kind, parts.as_slice()) {
            (StateKind::EventTimers | StateKind::ProcessingTimers, [at, key, namespace]) => {
                let columns = [("key", key), ("timestamp_ms", at), ("namespace", namespace)];
                (Shape::Timer, columns.map(|(name, ty)| (name, ty.clone())).to_vec())
            }
            (StateKind::Value | StateKind::Reducing | StateKind::Aggregating, [key, stored]) => {
                (Shape::One, stored_columns(vec![("key", key.clone())], stored).ok_or_else(unfit)?)
            }
            (StateKind::ListOfKey, [key, Type::Sequence(stored)]) => {
                let columns = vec![("key", key.clone()), ("index", Type::U64)];
                (Shape::List, stored_columns(columns, stored).ok_or_else(unfit)?)
            }
            (StateKind::Map, [key, Type::Map(map_key, stored)]) => {
                let columns = vec![("key", key.clone()), ("map_key", (**map_key).clone())];
                (Shape::Map, stored_columns(columns, stored).ok_or_else(unfit)?)
            }
            (StateKind::EventTimers | StateKind::ProcessingTimers, _) => return Err(unfit()),
            (StateKind::Slices, [key, Type::Tuple(slice)]) => {
                let [end, value] = slice.as_slice() else { return Err(unfit()) };
                let columns = [("key", key), ("slice_end_ms", end), ("value", value)];
                (Shape::Slices, columns.map(|(name, ty)| (name, ty.clone())).to_vec())
            }
            (kind, [key, value]) if !kind.is_handle() => {
                (Shape::Plain, vec![("key", key.clone()), ("value", value.clone())])
            }
            _ => return Err(unfit()),
        };
        Ok(Self { shape, place: "key_group", columns })
    }

    /// The rows of one entry of a list, union or broadcast state.
    pub(in crate::savepoint) fn operator_rows(
        &self,
        subtask: u32,
        index: usize,
        entry: Value,
        mut each: impl FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        let subtask = (self.place, Value::Unsigned(subtask.into()));
        match (self.shape, entry) {
            (Shape::Broadcast, Value::Map(entries)) => entries.into_iter().try_for_each(|(key, value)| {
                each(Row(vec![subtask.clone(), ("key", key), ("value", value)]))
            }),
            (Shape::Entry, value) => {
                each(Row(vec![subtask, ("index", Value::Unsigned(index as u128)), ("value", value)]))
            }
            _ => Err(anyhow!("an entry is not what its schema says")),
        }
    }

    /// The rows of one entry of a keyed state.
    pub(in crate::savepoint) fn rows(
        &self,
        key_group: u32,
        entry: Value,
        mut each: impl FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        let unfit = || anyhow!("an entry is not what its schema says");
        let Value::Tuple(parts) = entry else { return Err(unfit()) };
        let group = (self.place, Value::Unsigned(key_group.into()));
        match (self.shape, <[Value; 2]>::try_from(parts)) {
            (Shape::Timer, Err(parts)) => {
                let [at, key, namespace] = <[Value; 3]>::try_from(parts).map_err(|_| unfit())?;
                each(Row(vec![group, ("key", key), ("timestamp_ms", at), ("namespace", namespace)]))
            }
            (Shape::Slices, Ok([key, Value::Tuple(slice)])) => {
                let [end, value] = <[Value; 2]>::try_from(slice).map_err(|_| unfit())?;
                each(Row(vec![group, ("key", key), ("slice_end_ms", end), ("value", value)]))
            }
            (Shape::Plain, Ok([key, value])) => each(Row(vec![group, ("key", key), ("value", value)])),
            (Shape::One, Ok([key, stored])) => {
                each(Row(with_stored(vec![group, ("key", key)], stored).ok_or_else(unfit)?))
            }
            (Shape::List, Ok([key, Value::Sequence(elements)])) => {
                for (idx, stored) in elements.into_iter().enumerate() {
                    let row =
                        vec![group.clone(), ("key", key.clone()), ("index", Value::Unsigned(idx as u128))];
                    each(Row(with_stored(row, stored).ok_or_else(unfit)?))?;
                }
                Ok(())
            }
            (Shape::Map, Ok([key, Value::Map(entries)])) => {
                for (map_key, stored) in entries {
                    let row = vec![group.clone(), ("key", key.clone()), ("map_key", map_key)];
                    each(Row(with_stored(row, stored).ok_or_else(unfit)?))?;
                }
                Ok(())
            }
            (
                Shape::One
                | Shape::List
                | Shape::Map
                | Shape::Timer
                | Shape::Plain
                | Shape::Slices
                | Shape::Entry
                | Shape::Broadcast,
                _,
            ) => Err(unfit()),
        }
    }
}

/// Elements of states are stored with the time of their last use, for their time to live.
fn stored_columns(
    mut columns: Vec<(&'static str, Type)>,
    stored: &Type,
) -> Option<Vec<(&'static str, Type)>> {
    let Type::Struct { fields, .. } = stored else { return None };
    let [value, used_at] = fields.as_slice() else { return None };
    columns.push(("value", value.ty.clone()));
    columns.push(("last_used_ms", used_at.ty.clone()));
    Some(columns)
}

fn with_stored(mut row: Vec<(&'static str, Value)>, stored: Value) -> Option<Vec<(&'static str, Value)>> {
    let Value::Struct(fields) = stored else { return None };
    let [(_, value), (_, used_at)] = <[_; 2]>::try_from(fields).ok()?;
    row.push(("value", value));
    row.push(("last_used_ms", used_at));
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: u128, value: u128) -> Value {
        Value::Tuple(vec![Value::Unsigned(key), Value::Unsigned(value)])
    }

    /// Of a checkpoint that goes on from earlier ones each slice of a key is exported once, if a window still needs it.
    #[test]
    fn slices_are_gone_by_time() {
        let slice = Type::Tuple(vec![Type::U64, Type::Tuple(vec![Type::I64, Type::U64])]);
        // Two entries: key 1 with what came until 5 (10 in zigzag), and key 2 until 6.
        let mut bytes = GroupBytes::from(vec![2, 1, 10, 7, 2, 12, 8]);
        bytes.push(SectionKind::Removed, vec![1, 10]);
        bytes.push(SectionKind::Changed, vec![2, 2, 12, 9, 1, 12, 5]);
        let mut found = Vec::new();
        let each = |entry| {
            found.push(entry);
            Ok(())
        };
        decode_entries("_windows/slices", &Type::Sequence(Box::new(slice)), &bytes, each).expect("whole");
        let entry = |key, value| {
            let of_slice = Value::Tuple(vec![Value::Signed(6), Value::Unsigned(value)]);
            Value::Tuple(vec![Value::Unsigned(key), of_slice])
        };
        assert_eq!(found, [entry(1, 5), entry(2, 9)]);
    }

    #[test]
    fn entries_of_no_bytes_are_not_counted_for_ever() {
        let entries = Type::Sequence(Box::new(Type::Unit));
        let decode =
            |bytes: Vec<u8>| decode_entries("_hostile", &entries, &GroupBytes::from(bytes), |_| Ok(()));
        decode(vec![1]).expect("a key of no bytes");
        let error = decode(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])
            .expect_err("2^64 - 1 of them");
        assert!(format!("{error:#}").contains("has no bytes"), "{error:#}");
    }

    /// Of a checkpoint that goes on from earlier ones each key is exported once, as it was last.
    #[test]
    fn changes_take_the_place_of_what_was_before() {
        let ty = Type::Tuple(vec![Type::U64, Type::U64]);
        let mut bytes = GroupBytes::from(vec![1, 10, 2, 20, 3, 30]);
        for (kind, section) in [
            (SectionKind::Changed, vec![2, 21, 4, 40]),
            (SectionKind::Removed, vec![1, 4]),
            (SectionKind::Changed, vec![4, 41]),
        ] {
            bytes.push(kind, section);
        }
        let mut found = Vec::new();
        let each = |entry| {
            found.push(entry);
            Ok(())
        };
        decode_entries("_reduce", &ty, &bytes, each).expect("whole");
        assert_eq!(found, [pair(2, 21), pair(3, 30), pair(4, 41)]);
    }
}
