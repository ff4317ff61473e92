//! Serialized entries on their way into sections of key groups.

use super::GroupLayout;
use crate::codec::encode;
use crate::snapshot::SectionKind;
use flott_types::{KeyGroup, Result};
use std::collections::BTreeMap;

/// Takes a section of a key group.
pub type SectionSink<'a> = &'a mut dyn FnMut(KeyGroup, SectionKind, Vec<u8>) -> Result<()>;

/// So many sections' worth of entries wait at most, over all key groups.
const SECTIONS_WAITING_MAX: usize = 8;

/// But each key group may have so many bytes waiting: the table of contents would take more than the sections otherwise.
const GROUP_BYTES_WAITING: usize = 4096;

/// Serialized entries by key group that were not handed on yet.
pub(super) struct Groups {
    kind: SectionKind,
    layout: GroupLayout,
    section_bytes: usize,
    groups: BTreeMap<KeyGroup, Group>,
    /// In all of them.
    n_bytes: usize,
}

#[derive(Debug, Default)]
struct Group {
    n_entries: u64,
    bytes: Vec<u8>,
}

impl Groups {
    pub(super) fn new(kind: SectionKind, layout: GroupLayout) -> Self {
        Self { kind, layout, section_bytes: usize::MAX, groups: BTreeMap::new(), n_bytes: 0 }
    }

    /// What sections are from now on.
    pub(super) fn set_kind(&mut self, kind: SectionKind) {
        self.kind = kind;
    }

    /// Sections have about so many bytes from now on.
    pub(super) fn divide(&mut self, section_bytes: usize) {
        self.section_bytes = section_bytes.max(1);
    }

    /// The first key group that has anything.
    pub(super) fn first(&self) -> Option<KeyGroup> {
        self.groups.keys().next().copied()
    }

    /// Adds what `encode` writes, and says how many entries that is.
    pub(super) fn add(
        &mut self,
        number: KeyGroup,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<u64>,
        sink: SectionSink<'_>,
    ) -> Result<()> {
        let group = self.groups.entry(number).or_default();
        let n_before = group.bytes.len();
        group.n_entries += encode(&mut group.bytes)?;
        let n_bytes = group.bytes.len();
        self.n_bytes += n_bytes.saturating_sub(n_before);
        if n_bytes >= self.section_bytes {
            return self.hand_on(number, sink);
        }
        if self.n_bytes >= self.n_bytes_max() {
            return self.hand_largest_on(sink);
        }
        Ok(())
    }

    /// Bytes that may wait. With small sections a key group has less than one of them.
    fn n_bytes_max(&self) -> usize {
        let of_group = GROUP_BYTES_WAITING.min(self.section_bytes);
        let of_groups = self.groups.len().saturating_mul(of_group);
        self.section_bytes.saturating_mul(SECTIONS_WAITING_MAX).max(of_groups)
    }

    /// Hands the key groups on that have most, until half of what may wait is left.
    fn hand_largest_on(&mut self, sink: SectionSink<'_>) -> Result<()> {
        let n_left = self.n_bytes_max() / 2;
        let mut by_len: Vec<_> =
            self.groups.iter().map(|(number, group)| (group.bytes.len(), *number)).collect();
        by_len.sort_unstable_by(|a, b| b.cmp(a));
        for (_, number) in by_len {
            if self.n_bytes <= n_left {
                break;
            }
            self.hand_on(number, sink)?;
        }
        Ok(())
    }

    /// Hands on what a key group has.
    pub(super) fn hand_on(&mut self, number: KeyGroup, sink: SectionSink<'_>) -> Result<()> {
        let Some(group) = self.groups.remove(&number) else { return Ok(()) };
        self.n_bytes = self.n_bytes.saturating_sub(group.bytes.len());
        if group.n_entries == 0 { Ok(()) } else { sink(number, self.kind, group.into_bytes(self.layout)?) }
    }

    /// Hands on everything.
    pub(super) fn hand_all_on(&mut self, sink: SectionSink<'_>) -> Result<()> {
        while let Some(number) = self.first() {
            self.hand_on(number, sink)?;
        }
        Ok(())
    }
}

impl Group {
    fn into_bytes(self, layout: GroupLayout) -> Result<Vec<u8>> {
        let mut whole = match layout {
            GroupLayout::Entries => return Ok(self.bytes),
            GroupLayout::Kind(kind) => {
                let mut whole = Vec::with_capacity(self.bytes.len() + 1);
                whole.push(kind);
                whole
            }
            GroupLayout::Counted => encode("the number of entries", &self.n_entries)?,
        };
        whole.extend_from_slice(&self.bytes);
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_env::sim::SimRng;

    /// Whatever comes, little waits, sections are not much longer than they should be, and every entry is in one of its key group.
    #[test]
    fn few_bytes_wait_and_every_entry_comes_out() {
        for (section_bytes, n_groups) in [(1, 3_u32), (100, 4), (100, 1000), (5000, 40), (1 << 20, 128)] {
            let mut groups = Groups::new(SectionKind::Whole, GroupLayout::Counted);
            groups.divide(section_bytes);
            let mut rng = SimRng::new(section_bytes as u64);
            let (mut put, mut got) = (BTreeMap::new(), BTreeMap::new());
            let mut sink = |group: KeyGroup, _: SectionKind, bytes: Vec<u8>| {
                assert!(bytes.len() <= section_bytes.saturating_add(260 + 5), "{} bytes", bytes.len());
                let (n_entries, entries) = crate::codec::decode_prefix::<u64>("a number", &bytes)?;
                let (n, n_bytes) = got.entry(group).or_insert((0, 0));
                (*n, *n_bytes) = (*n + n_entries, *n_bytes + entries.len());
                Ok(())
            };
            for _ in 0..20_000 {
                // Some key groups have more than others.
                let n_frequent = 1 + rng.below(u64::from(n_groups));
                let number = KeyGroup(rng.below(n_frequent) as u32);
                let (len, is_left_out) = (rng.below(260) as usize, rng.one_in(10));
                let encode = |bytes: &mut Vec<u8>| {
                    if !is_left_out {
                        bytes.extend(vec![7; len]);
                        let (n, n_bytes) = put.entry(number).or_insert((0, 0));
                        (*n, *n_bytes) = (*n + 1, *n_bytes + len);
                    }
                    Ok(u64::from(!is_left_out))
                };
                groups.add(number, encode, &mut sink).unwrap();
                assert!(groups.n_bytes <= (8 * section_bytes).max(1000 * 4096));
                assert!(groups.n_bytes <= groups.n_bytes_max());
                assert_eq!(
                    groups.n_bytes,
                    groups.groups.values().map(|group| group.bytes.len()).sum::<usize>()
                );
            }
            groups.hand_all_on(&mut sink).unwrap();
            assert_eq!(got, put);
        }
    }
}
