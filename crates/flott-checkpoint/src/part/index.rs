//! Where the sections of a part are: its last bytes.

use super::lists::named;
use crate::codec::{Reader, checksum, corrupt, put_bytes, put_len};
use flott_state::SectionKind;
use flott_types::{KeyGroup, OperatorUid, Result};
use std::collections::BTreeMap;

/// What a part begins with.
pub(super) const MAGIC: [u8; 8] = *b"FLOTTSNP";
/// Magic and version.
pub(super) const HEADER_LEN: usize = 12;
/// Length of the index and checksum.
pub(super) const TRAILER_LEN: usize = 16;

/// A run of bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) checksum: u64,
    /// Its first byte, 0 if it is empty.
    pub(super) first: u8,
    /// What is in it; in version 2 everything is whole.
    pub(super) kind: SectionKind,
}

/// Bytes of a section in the index at least.
const SECTION_LEN: usize = 8 + 8 + 8 + 1;

/// The sections of one keyed state.
#[derive(Debug, Default)]
pub(super) struct IndexedState {
    /// They are changes of what the part before has of the state; in version 2 nothing is.
    pub(super) continues: bool,
    pub(super) groups: BTreeMap<KeyGroup, Vec<Section>>,
}

/// What one operator has in the file.
#[derive(Debug)]
pub(super) struct IndexedOperator {
    pub(super) uid: OperatorUid,
    pub(super) key_hash_version: u32,
    pub(super) max_parallelism: u32,
    pub(super) keyed: BTreeMap<String, IndexedState>,
    /// Its list, union and broadcast states.
    pub(super) lists: Section,
}

pub(super) fn header(version: u32) -> Vec<u8> {
    [&MAGIC[..], &version.to_le_bytes()].concat()
}

/// The bytes behind the last section.
pub(super) fn encode(header: &[u8], operators: &[IndexedOperator]) -> Vec<u8> {
    let mut out = Vec::new();
    put_len(&mut out, operators.len());
    for operator in operators {
        put_bytes(&mut out, operator.uid.0.as_bytes());
        out.extend(operator.key_hash_version.to_le_bytes());
        out.extend(operator.max_parallelism.to_le_bytes());
        put_len(&mut out, operator.keyed.len());
        for (name, state) in &operator.keyed {
            put_bytes(&mut out, name.as_bytes());
            out.push(state.continues.into());
            put_len(&mut out, state.groups.len());
            for (group, sections) in &state.groups {
                out.extend(group.0.to_le_bytes());
                put_len(&mut out, sections.len());
                sections.iter().for_each(|section| section.put(&mut out));
            }
        }
        operator.lists.put(&mut out);
    }
    let len = out.len();
    put_len(&mut out, len);
    let checksum = checksum(&[header, &out].concat());
    out.extend(checksum.to_le_bytes());
    out
}

/// The length of the index, by the last bytes of a file of `len` bytes.
pub(super) fn index_len(file: &str, len: u64, trailer: &[u8]) -> Result<u64> {
    let at = len.saturating_sub(TRAILER_LEN as u64) as usize;
    let index_len = Reader::at(file, at, trailer).u64()?;
    let rest = (len as usize).checked_sub(HEADER_LEN + TRAILER_LEN);
    if rest.is_none_or(|rest| index_len > rest as u64) {
        let what = format_args!("an index of {index_len} bytes is announced, the file has {len}");
        return Err(corrupt(file, at, what));
    }
    Ok(index_len)
}

/// Reads the index, with its trailer, of a file that begins with `header`.
pub(super) fn decode(file: &str, header: &[u8], base: usize, index: &[u8]) -> Result<Vec<IndexedOperator>> {
    let body_len = index.len().saturating_sub(TRAILER_LEN);
    let mut trailer = Reader::at(file, base + body_len, index.get(body_len..).unwrap_or_default());
    trailer.take(8)?;
    let stored = trailer.u64()?;
    let checked = index.get(..body_len + 8).unwrap_or_default();
    let computed = checksum(&[header, checked].concat());
    if stored != computed {
        let what = format_args!("checksum {stored:016x} is stored, the index has {computed:016x}");
        return Err(trailer.error(what));
    }
    // Not damage: the checksum is right.
    super::check_version(file, header)?;
    let version = super::version(header);
    let mut reader = Reader::at(file, base, index.get(..body_len).unwrap_or_default());
    let operators =
        (0..reader.len(8)?).map(|_| operator(&mut reader, version)).collect::<Result<Vec<_>>>()?;
    let mut uids: Vec<_> = operators.iter().map(|operator| &operator.uid).collect();
    uids.sort();
    if let Some([uid, _]) = uids.array_windows().find(|[a, b]| a == b) {
        return Err(reader.error(format_args!("operator '{uid}' is there twice")));
    }
    check_tiling(&reader, base, &operators)?;
    reader.finish()?;
    Ok(operators)
}

/// Sections follow each other from the header to the index, so no byte is without a checksum and none is read as two things.
fn check_tiling(reader: &Reader<'_, '_>, base: usize, operators: &[IndexedOperator]) -> Result<()> {
    let keyed = operators.iter().flat_map(|operator| operator.keyed.values());
    let keyed = keyed.flat_map(|state| state.groups.values()).flatten();
    let mut sections: Vec<_> = keyed.chain(operators.iter().map(|operator| &operator.lists)).collect();
    sections.sort_by_key(|section| (section.offset, section.len));
    let mut end = HEADER_LEN as u64;
    for section in sections {
        let next = section.offset.checked_add(section.len).filter(|_| section.offset == end);
        end = next.ok_or_else(|| {
            reader.error(format_args!("a section begins at byte {}, not at {end}", section.offset))
        })?;
    }
    if end == base as u64 {
        return Ok(());
    }
    Err(reader.error(format_args!("sections end at byte {end}, the index begins at {base}")))
}

fn operator(reader: &mut Reader<'_, '_>, version: u32) -> Result<IndexedOperator> {
    Ok(IndexedOperator {
        uid: OperatorUid(reader.string()?),
        key_hash_version: reader.u32()?,
        max_parallelism: reader.u32()?,
        keyed: named(reader, |reader| state(reader, version))?,
        lists: Section::read(reader, version)?,
    })
}

fn state(reader: &mut Reader<'_, '_>, version: u32) -> Result<IndexedState> {
    let continues = match version {
        2 => false,
        _ => match reader.u8()? {
            0 => false,
            1 => true,
            other => return Err(reader.error(format_args!("{other} does not say whether a state goes on"))),
        },
    };
    let mut groups = BTreeMap::new();
    for _ in 0..reader.len(12)? {
        let group = KeyGroup(reader.u32()?);
        let n_sections = reader.len(SECTION_LEN)?;
        let sections = (0..n_sections).map(|_| Section::read(reader, version)).collect::<Result<_>>()?;
        if groups.insert(group, sections).is_some() {
            return Err(reader.error(format_args!("key group {group} is there twice")));
        }
    }
    Ok(IndexedState { continues, groups })
}

impl Section {
    /// A section that begins at `offset`.
    pub(super) fn of(offset: u64, kind: SectionKind, bytes: &[u8]) -> Self {
        let first = bytes.first().copied().unwrap_or_default();
        Self { offset, len: bytes.len() as u64, checksum: checksum(bytes), first, kind }
    }

    fn put(&self, out: &mut Vec<u8>) {
        for number in [self.offset, self.len, self.checksum] {
            out.extend(number.to_le_bytes());
        }
        out.extend([self.first, self.kind as u8]);
    }

    fn read(reader: &mut Reader<'_, '_>, version: u32) -> Result<Self> {
        let (offset, len, checksum, first) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u8()?);
        let number = if version == 2 { 0 } else { reader.u8()? };
        let kind = SectionKind::from_number(number)
            .ok_or_else(|| reader.error(format_args!("a section is of the unknown kind {number}")))?;
        Ok(Self { offset, len, checksum, first, kind })
    }
}
