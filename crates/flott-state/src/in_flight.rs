//! What barriers have overtaken, as a part of the receiving subtask's snapshot, and how new subtasks divide it.
//!
//! The entries of one list state of the operator that heads the receiving task: a layout of its channels with the schemas of their
//! records, then what was in flight in them, in the order of arrival. Records are one run of bytes that only the edge can read, since it
//! knows their type.

use crate::codec::{decode_prefix, encode, encode_into};
use crate::schemas::{EntryDecoder, schema_of};
use flott_schema::{OperatorSchemas, Type};
use flott_types::{
    Data, Error, ErrorKind, KeyGroupRange, OperatorUid, RecordBatch, Result, StreamElement, StreamStatus,
    SubtaskIndex, TagId, Timestamp, Watermark, key_group_range,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The name of the list state.
pub const IN_FLIGHT: &str = "_in_flight";

const WHAT: &str = "records in flight";

/// How records of an edge find their subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Routing {
    /// By the key group of their key.
    ByKey,
    /// As a function of the user's says.
    ByFunction,
    /// To any.
    Any,
}

/// An edge into a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightEdge {
    /// The operator that writes.
    pub source: OperatorUid,
    /// The operator that reads.
    pub target: OperatorUid,
    /// Which of its inputs.
    pub input: u32,
    /// The side output that is read.
    pub side: Option<TagId>,
    /// Counts the edges that are equal otherwise.
    pub ordinal: u32,
    /// How records find their subtask.
    pub routing: Routing,
}

impl InFlightEdge {
    /// Whether both are the same edge of a program, however records are divided.
    pub fn is(&self, other: &Self) -> bool {
        Self { routing: other.routing, ..self.clone() } == *other
    }
}

impl fmt::Display for InFlightEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from '{}' to '{}'", self.source, self.target)?;
        if self.input > 0 {
            f.write_str(" (second input)")?;
        }
        self.side.as_ref().map_or(Ok(()), |side| write!(f, " (side output '{side}')"))
    }
}

/// A channel, as the records in flight find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightChannel {
    /// The edge, as an index into [`InFlightLayout::edges`].
    pub edge: u32,
    /// Who writes.
    pub producer: SubtaskIndex,
    /// The watermark before the first element in flight.
    pub watermark: Watermark,
    /// Whether it was idle then.
    pub is_idle: bool,
}

/// Whose records these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightLayout {
    /// The subtask that had them.
    pub subtask: SubtaskIndex,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The edges into the task.
    pub edges: Vec<InFlightEdge>,
    /// All channels, those of the second input behind those of the first.
    pub channels: Vec<InFlightChannel>,
}

impl InFlightLayout {
    /// The edge of a channel.
    pub fn edge_of(&self, channel: usize) -> Option<&InFlightEdge> {
        self.edges.get(self.channels.get(channel)?.edge as usize)
    }
}

#[derive(Serialize, Deserialize)]
enum Head {
    Layout(InFlightLayout),
    /// So many of them, in bytes that follow.
    Records(u32, u32),
    Watermark(u32, Watermark),
    Status(u32, bool),
}

/// Something that was in flight in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InFlightElement<'a> {
    /// Records, for [`decode_records`].
    Records(&'a [u8]),
    /// Event time.
    Watermark(Watermark),
    /// Idle or active.
    Status(StreamStatus),
}

/// What one subtask had in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightPart<'a> {
    /// Whose it is.
    pub layout: InFlightLayout,
    /// The types of the records, by edge; as far as they are known.
    pub schemas: Vec<Option<Arc<Type>>>,
    /// By channel, in the order of arrival.
    pub elements: Vec<(usize, InFlightElement<'a>)>,
}

impl InFlightPart<'_> {
    /// The type as which the records of a channel were written, if it is known.
    pub fn schema_of(&self, channel: usize) -> Option<&Arc<Type>> {
        self.schemas.get(self.layout.channels.get(channel)?.edge as usize)?.as_ref()
    }

    /// The edges on which there are records, with the types as which they were written.
    pub(crate) fn edges_with_records(&self) -> impl Iterator<Item = (&InFlightEdge, Option<&Arc<Type>>)> {
        let with_records = self.elements.iter().filter_map(|(channel, element)| match element {
            InFlightElement::Records(_) => Some(self.layout.channels.get(*channel)?.edge as usize),
            InFlightElement::Watermark(_) | InFlightElement::Status(_) => None,
        });
        let edges: BTreeSet<usize> = with_records.collect();
        edges.into_iter().filter_map(|edge| {
            Some((self.layout.edges.get(edge)?, self.schemas.get(edge).and_then(Option::as_ref)))
        })
    }
}

/// The type of the records of an edge, if it has a schema.
pub fn record_schema<T: Data>() -> Option<Arc<Type>> {
    schema_of::<T>()
}

/// The entry that begins what a subtask has in flight; `schemas` are those of the records of its edges.
///
/// # Errors
/// None that occurs: a layout can be written, and so can schemas.
pub fn encode_layout(layout: InFlightLayout, schemas: &[Option<Arc<Type>>]) -> Result<Vec<u8>> {
    let mut bytes = encode(WHAT, &Head::Layout(layout))?;
    // Entries of a list of which the n-th is the type of the n-th edge.
    let mut record = OperatorSchemas::default();
    schemas.iter().for_each(|schema| record.list.push(IN_FLIGHT, 1, schema.as_ref()));
    let record = record.encode().map_err(|error| Error::user("cannot write schemas").with_source(error))?;
    bytes.extend(record);
    Ok(bytes)
}

fn decode_schemas(layout: &InFlightLayout, record: &[u8]) -> Result<Vec<Option<Arc<Type>>>> {
    let record = OperatorSchemas::decode(record)
        .map_err(|error| corrupt("the schemas of the edges".to_owned()).with_source(error))?;
    Ok(record.list.of(IN_FLIGHT).take(layout.edges.len()).map(|schema| schema.cloned()).collect())
}

/// The entry of an element that was in flight in `channel`; `None` for what does not belong into a snapshot: barriers, and the end of
/// data, which comes again.
///
/// # Errors
/// [`ErrorKind::UserError`] if the records' `Serialize` implementation fails.
pub fn encode_element<T: Serialize>(channel: usize, element: &StreamElement<T>) -> Result<Option<Vec<u8>>> {
    let channel = channel as u32;
    let head = match element {
        StreamElement::Records(batch) => Head::Records(channel, batch.len() as u32),
        StreamElement::Watermark(watermark) => Head::Watermark(channel, *watermark),
        StreamElement::Status(status) => Head::Status(channel, *status == StreamStatus::Idle),
        StreamElement::Barrier(_) | StreamElement::EndOfData => return Ok(None),
    };
    let mut bytes = encode(WHAT, &head)?;
    if let StreamElement::Records(batch) = element {
        encode_into(WHAT, &batch.timestamps(), &mut bytes)?;
        encode_into(WHAT, &batch.records(), &mut bytes)?;
    }
    Ok(Some(bytes))
}

/// The records of an [`InFlightElement::Records`] that were written as `written`, if that is known.
///
/// # Errors
/// [`ErrorKind::Corruption`] if the bytes are no such records, [`ErrorKind::UserError`] with the field that does not fit if they cannot
/// become records of type `T`.
pub fn decode_records<T: Data>(bytes: &[u8], written: Option<&Arc<Type>>) -> Result<RecordBatch<T>> {
    let (timestamps, bytes): (Vec<Timestamp>, _) = decode_prefix(WHAT, bytes)?;
    let written = written.map(|written| Arc::new(Type::Sequence(Box::new((**written).clone()))));
    let records: Vec<T> = EntryDecoder::new::<Vec<T>>().decode(WHAT, bytes, written.as_ref())?;
    if timestamps.is_empty() || timestamps.len() == records.len() {
        return Ok(RecordBatch::from_columns(records, timestamps));
    }
    Err(corrupt(format!("{} timestamps for {} records", timestamps.len(), records.len())))
}

/// Reads the entries of one or several subtasks.
///
/// # Errors
/// [`ErrorKind::Corruption`] if they are not what was written.
pub fn decode_parts(entries: &[Vec<u8>]) -> Result<Vec<InFlightPart<'_>>> {
    let mut parts: Vec<InFlightPart<'_>> = Vec::new();
    for entry in entries {
        let (head, rest): (Head, _) = decode_prefix(WHAT, entry)?;
        let (channel, element) = match head {
            Head::Layout(layout) => {
                check(&layout)?;
                let schemas = decode_schemas(&layout, rest)?;
                parts.push(InFlightPart { layout, schemas, elements: Vec::new() });
                continue;
            }
            Head::Records(channel, _) => (channel, InFlightElement::Records(rest)),
            Head::Watermark(channel, watermark) => (channel, InFlightElement::Watermark(watermark)),
            Head::Status(channel, true) => (channel, InFlightElement::Status(StreamStatus::Idle)),
            Head::Status(channel, false) => (channel, InFlightElement::Status(StreamStatus::Active)),
        };
        let part = parts.last_mut().ok_or_else(|| corrupt("an element without a layout".to_owned()))?;
        if channel as usize >= part.layout.channels.len() {
            return Err(corrupt(format!("channel {channel} of {}", part.layout.channels.len())));
        }
        part.elements.push((channel as usize, element));
    }
    Ok(parts)
}

/// How many records are in an entry, for people; 0 if it has none or is not readable.
pub fn count_records(entry: &[u8]) -> u64 {
    match decode_prefix(WHAT, entry) {
        Ok((Head::Records(_, count), _)) => u64::from(count),
        Ok(_) | Err(_) => 0,
    }
}

fn check(layout: &InFlightLayout) -> Result<()> {
    let has_edge = |channel: &InFlightChannel| (channel.edge as usize) < layout.edges.len();
    let is_sound = layout.subtask.0 < layout.parallelism
        && layout.parallelism <= layout.max_parallelism
        && layout.channels.iter().all(has_edge);
    if is_sound { Ok(()) } else { Err(corrupt("a layout that does not fit together".to_owned())) }
}

fn corrupt(what: String) -> Error {
    Error::new(ErrorKind::Corruption, format!("cannot read {WHAT}: {what}"))
}

/// What `subtask` of a changed `parallelism` gets of what the old subtasks had: everything that may hold records of its own. Who
/// processes it looks at each record, since only the edge can tell a key.
///
/// # Errors
/// [`ErrorKind::Corruption`] if the entries are not what was written.
pub fn assign_in_flight<'a>(
    parts: impl IntoIterator<Item = &'a [Vec<u8>]>,
    subtask: SubtaskIndex,
    parallelism: u32,
    max_parallelism: u32,
) -> Result<Vec<Vec<u8>>> {
    let mut assigned = Vec::new();
    for entries in parts {
        let Some(first) = entries.first() else { continue };
        let (Head::Layout(layout), _) = decode_prefix(WHAT, first)? else {
            return Err(corrupt("an element without a layout".to_owned()));
        };
        check(&layout)?;
        let may_hold = |edge: &InFlightEdge| match edge.routing {
            Routing::ByKey if layout.max_parallelism == max_parallelism => overlap(
                key_group_range(layout.subtask, max_parallelism, layout.parallelism),
                key_group_range(subtask, max_parallelism, parallelism),
            ),
            Routing::ByKey | Routing::ByFunction => true,
            Routing::Any => layout.subtask.0 % parallelism == subtask.0,
        };
        if layout.edges.iter().any(may_hold) {
            assigned.extend_from_slice(entries);
        }
    }
    Ok(assigned)
}

fn overlap(a: KeyGroupRange, b: KeyGroupRange) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests;
