//! The bytes of key groups: in memory, or in a file from which they are read when somebody wants them.

use flott_types::{Error, ErrorKind, KeyGroup, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The entries of one keyed state, by key group.
pub type KeyGroupBytes = BTreeMap<KeyGroup, GroupBytes>;

/// The entries of a keyed state in one key group: one or more *sections*, each a run of whole entries after what the state puts before
/// them. How they are divided means nothing; their order does, if some of them are changes.
#[derive(Clone, Default)]
pub struct GroupBytes {
    sections: Vec<(SectionKind, Section)>,
}

/// What is in a section. The numbers are part of the snapshot format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionKind {
    /// Entries of keys that no other section of its kind has.
    #[default]
    Whole = 0,
    /// Entries that take the place of those of the same keys in sections before.
    Changed = 1,
    /// Keys alone, or what else a state says of entries in sections before: these are gone.
    Removed = 2,
}

impl SectionKind {
    /// The kind that has the number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Whole, Self::Changed, Self::Removed].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Bytes that are in a file.
pub trait StoredSection: Send + Sync + fmt::Debug {
    /// Their number.
    fn n_bytes(&self) -> u64;

    /// The first of them.
    fn first_byte(&self) -> Option<u8>;

    /// Reads them, and compares them with their checksum.
    ///
    /// # Errors
    /// If the file cannot be read or has other bytes than were written.
    fn read(&self) -> Result<Vec<u8>>;
}

#[derive(Clone)]
enum Section {
    Memory(Arc<Vec<u8>>),
    Stored(Arc<dyn StoredSection>),
}

impl Section {
    fn n_bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Stored(stored) => stored.n_bytes(),
        }
    }

    fn first_byte(&self) -> Option<u8> {
        match self {
            Self::Memory(bytes) => bytes.first().copied(),
            Self::Stored(stored) => stored.first_byte(),
        }
    }

    fn read(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::Stored(stored) => stored.read().map(Cow::Owned),
        }
    }
}

impl From<Vec<u8>> for GroupBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { sections: vec![(SectionKind::Whole, Section::Memory(Arc::new(bytes)))] }
    }
}

impl GroupBytes {
    /// Adds a section that is in memory.
    pub fn push(&mut self, kind: SectionKind, bytes: Vec<u8>) {
        self.sections.push((kind, Section::Memory(Arc::new(bytes))));
    }

    /// Adds a section that is in a file.
    pub fn push_stored(&mut self, kind: SectionKind, section: Arc<dyn StoredSection>) {
        self.sections.push((kind, Section::Stored(section)));
    }

    /// Adds the sections of `newer`, which are changes of what is here.
    pub fn extend(&mut self, newer: Self) {
        self.sections.extend(newer.sections);
    }

    /// Bytes in all sections.
    pub fn n_bytes(&self) -> u64 {
        self.sections.iter().map(|(_, section)| section.n_bytes()).sum()
    }

    /// The first byte of each section, without reading it; `None` for one that is empty.
    pub fn first_bytes(&self) -> impl Iterator<Item = Option<u8>> + '_ {
        self.sections.iter().map(|(_, section)| section.first_byte())
    }

    /// Calls `each` with the bytes of every section; one of a file is in memory only as long.
    ///
    /// # Errors
    /// If a section cannot be read, or what `each` returns. [`ErrorKind::Corruption`] if there are changes, which nobody writes for a state
    /// that is read like this.
    pub fn for_each_section<E: From<Error>>(
        &self,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.has_changes() {
            let message = "state that is always written whole has changes";
            return Err(Error::new(ErrorKind::Corruption, message).into());
        }
        self.for_each_change(|_, section| each(section))
    }

    /// Calls `each` with the kind and the bytes of every section, in their order; one of a file is in memory only as long.
    ///
    /// # Errors
    /// If a section cannot be read, or what `each` returns.
    pub fn for_each_change<E: From<Error>>(
        &self,
        mut each: impl FnMut(SectionKind, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.sections.iter().try_for_each(|(kind, section)| each(*kind, &section.read()?))
    }

    /// Calls `each` with the bytes of what was removed, in order; nothing else is read.
    ///
    /// # Errors
    /// If a section cannot be read, or what `each` returns.
    pub fn for_each_removed<E: From<Error>>(
        &self,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let removed = self.sections.iter().filter(|(kind, _)| *kind == SectionKind::Removed);
        removed.map(|(_, section)| section).try_for_each(|section| each(&section.read()?))
    }

    /// Whether some sections are changes of those before them.
    pub fn has_changes(&self) -> bool {
        self.sections.iter().any(|(kind, _)| *kind != SectionKind::Whole)
    }

    /// Whether any of it is in a file.
    pub fn is_stored(&self) -> bool {
        self.sections.iter().any(|(_, section)| matches!(section, Section::Stored(_)))
    }

    /// The same with all bytes in memory.
    ///
    /// # Errors
    /// If a section cannot be read.
    pub fn in_memory(&self) -> Result<Self> {
        let mut sections = Vec::with_capacity(self.sections.len());
        for (kind, section) in &self.sections {
            let section = match section {
                Section::Memory(bytes) => Section::Memory(Arc::clone(bytes)),
                Section::Stored(stored) => Section::Memory(Arc::new(stored.read()?)),
            };
            sections.push((*kind, section));
        }
        Ok(Self { sections })
    }

    /// The bytes of all sections, one after the other: to look at, not to be read as entries.
    ///
    /// # Errors
    /// If a section cannot be read.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.for_each_change(|_, section| {
            bytes.extend_from_slice(section);
            Ok::<_, Error>(())
        })?;
        Ok(bytes)
    }
}

/// Sections in files are the same if they are the same section of the same file; nothing is read.
impl PartialEq for GroupBytes {
    fn eq(&self, other: &Self) -> bool {
        self.sections.len() == other.sections.len()
            && self.sections.iter().zip(&other.sections).all(|((kind, section), (other_kind, other))| {
                let is_same = match (section, other) {
                    (Section::Memory(a), Section::Memory(b)) => a == b,
                    (Section::Stored(a), Section::Stored(b)) => Arc::ptr_eq(a, b),
                    (Section::Memory(_), Section::Stored(_)) | (Section::Stored(_), Section::Memory(_)) => {
                        false
                    }
                };
                is_same && kind == other_kind
            })
    }
}

impl Eq for GroupBytes {}

impl fmt::Debug for GroupBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sections.as_slice() {
            [(SectionKind::Whole, section)] => section.fmt(f),
            sections => f.debug_list().entries(sections).finish(),
        }
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => bytes.fmt(f),
            Self::Stored(stored) => stored.fmt(f),
        }
    }
}

/// Key groups whose bytes are in memory, each one section.
pub fn groups_in_memory(groups: BTreeMap<KeyGroup, Vec<u8>>) -> KeyGroupBytes {
    groups.into_iter().map(|(group, bytes)| (group, bytes.into())).collect()
}
