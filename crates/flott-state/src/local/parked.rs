//! Restored key groups on the local disk, until somebody asks for their state.

use super::{LocalFile, Space};
use crate::snapshot::{KeyGroupBytes, StoredSection};
use flott_types::{Error, ErrorKind, Result};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// A section in a file of its process.
#[derive(Debug)]
struct ParkedSection {
    file: Arc<LocalFile>,
    offset: u64,
    n_bytes: u64,
    first: Option<u8>,
    checksum: u64,
}

/// Copies sections that are in other files into one of `space`.
pub(super) fn park(space: &Arc<Space>, groups: &KeyGroupBytes) -> Result<KeyGroupBytes> {
    let (file, mut writer) = LocalFile::create(space)?;
    let file = Arc::new(file);
    let mut offset = 0;
    let mut parked = KeyGroupBytes::new();
    for (group, bytes) in groups {
        let of_group = parked.entry(*group).or_default();
        bytes.for_each_change(|kind, section| {
            writer.write_all(section).map_err(|error| file.error("write", error))?;
            let n_bytes = section.len() as u64;
            let parked = ParkedSection {
                file: Arc::clone(&file),
                offset,
                n_bytes,
                first: section.first().copied(),
                checksum: XxHash3_64::oneshot(section),
            };
            of_group.push_stored(kind, Arc::new(parked));
            offset += n_bytes;
            Ok(())
        })?;
    }
    writer.flush().map_err(|error| file.error("write", error))?;
    Ok(parked)
}

impl ParkedSection {
    fn corrupt(&self) -> Error {
        let path = self.file.path().display();
        let message = format!("state on disk is damaged: '{path}' at byte {}", self.offset);
        Error::new(ErrorKind::Corruption, message)
    }
}

impl StoredSection for ParkedSection {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn first_byte(&self) -> Option<u8> {
        self.first
    }

    fn read(&self) -> Result<Vec<u8>> {
        let mut reader = self.file.open()?;
        // It was in memory when it was written.
        let mut bytes = vec![0; usize::try_from(self.n_bytes).unwrap_or(usize::MAX)];
        let read = reader.seek(SeekFrom::Start(self.offset)).and_then(|_| reader.read_exact(&mut bytes));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt().with_source(error),
            _ => self.file.error("read", error),
        })?;
        if XxHash3_64::oneshot(&bytes) == self.checksum { Ok(bytes) } else { Err(self.corrupt()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{GroupBytes, SectionKind};
    use crate::testing::memory_space;
    use flott_types::KeyGroup;

    #[test]
    fn parked_sections_are_what_they_were_and_their_file_goes_with_them() {
        let (disk, space) = memory_space(0);
        let mut two = GroupBytes::from(vec![7, 8, 9]);
        two.push(SectionKind::Removed, vec![1; 1000]);
        let groups = KeyGroupBytes::from([(KeyGroup(3), vec![].into()), (KeyGroup(4), two)]);
        let parked = park(&space, &groups).unwrap();
        assert!(parked.values().all(GroupBytes::is_stored));
        for (group, bytes) in &groups {
            assert_eq!(parked[group].in_memory().unwrap(), *bytes);
            assert!(parked[group].first_bytes().eq(bytes.first_bytes()));
            assert_eq!(parked[group].n_bytes(), bytes.n_bytes());
        }
        let (path, bytes) = disk.files().into_iter().find(|(path, _)| path.extension().is_some()).unwrap();
        let mut flipped = bytes.clone();
        flipped[4] ^= 1;
        for damaged in [flipped, bytes[..4].to_vec()] {
            disk.corrupt(&path, damaged);
            assert_eq!(parked[&KeyGroup(4)].to_vec().unwrap_err().kind(), ErrorKind::Corruption);
        }
        drop(parked);
        assert!(!disk.files().contains_key(&path));
    }
}
