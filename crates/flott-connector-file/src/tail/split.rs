//! The split: the files of a pattern, and how far each has been read.

use flott_api::SourceSplit;
use flott_types::SplitId;
use serde::{Deserialize, Serialize};
use std::path::Path;
use twox_hash::XxHash3_64;

/// So many bytes at its start tell a file from others.
pub(super) const PREFIX_BYTES_MAX: usize = 1024;

/// The files of one pattern, with positions in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailSplit {
    pub(super) directory: String,
    pub(super) glob: String,
    pub(super) files: Vec<TailedFile>,
}

impl TailSplit {
    pub(super) fn new(directory: &Path, glob: &str) -> Self {
        Self { directory: directory.to_string_lossy().into_owned(), glob: glob.to_owned(), files: Vec::new() }
    }
}

impl SourceSplit for TailSplit {
    fn split_id(&self) -> SplitId {
        SplitId(Path::new(&self.directory).join(&self.glob).to_string_lossy().into_owned())
    }
}

/// A file that is read, whatever it is called by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TailedFile {
    /// Device and number on it.
    pub(super) id: (u64, u64),
    /// The name that it had last.
    pub(super) name: String,
    /// The start of the first line that was not put out.
    pub(super) offset: u64,
    /// How long it was when it was last looked at.
    pub(super) seen_len: u64,
    pub(super) prefix: Prefix,
    /// The line at the offset is the rest of one that was too long.
    pub(super) is_in_long_line: bool,
    /// For how many looks, with time between them, it has not been there, or not changed.
    #[serde(skip)]
    pub(super) n_missing: u32,
    #[serde(skip)]
    pub(super) n_idle: u32,
}

impl TailedFile {
    pub(super) fn new(id: (u64, u64), name: String) -> Self {
        let prefix = Prefix::of(&[], 0);
        Self { id, name, offset: 0, seen_len: 0, prefix, is_in_long_line: false, n_missing: 0, n_idle: 0 }
    }
}

/// What a file begins with, as far as it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prefix {
    len: u16,
    hash: u64,
}

impl Prefix {
    /// Of a file with this beginning that was read so far.
    pub(super) fn of(head: &[u8], offset: u64) -> Self {
        let len = head.len().min(PREFIX_BYTES_MAX).min(usize::try_from(offset).unwrap_or(usize::MAX));
        let prefix = head.get(..len).unwrap_or_default();
        Self { len: len as u16, hash: XxHash3_64::oneshot(prefix) }
    }

    /// Whether a file with this beginning may be the one.
    pub(super) fn is_of(self, head: &[u8]) -> bool {
        head.get(..self.len.into()).is_some_and(|prefix| XxHash3_64::oneshot(prefix) == self.hash)
    }

    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }
}
