//! How the entries of a restored state are read.

use crate::codec::decode_prefix;
use flott_schema::{DecodeError, Migration};
use flott_types::{Error, ErrorKind, KeyGroup, KeyGroupRange, Result};
use serde::de::DeserializeOwned;
use std::any::type_name;

/// Reads the entries of one state as the types of the program: as they were written, or through a migration where they are of other
/// types.
#[derive(Clone, Debug, Default)]
pub struct EntryReader {
    migrations: Vec<(KeyGroupRange, Migration)>,
    has_later_schema: bool,
}

impl EntryReader {
    /// A reader of entries of types that have changed in these key groups. Others are read as they are.
    pub(crate) fn new(migrations: Vec<(KeyGroupRange, Migration)>, has_later_schema: bool) -> Self {
        Self { migrations, has_later_schema }
    }

    /// Whether every entry is read as it was written.
    pub fn is_unchanged(&self) -> bool {
        self.migrations.is_empty()
    }

    /// Reads an entry that fills `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if the bytes are not an entry.
    pub fn decode<T: DeserializeOwned>(&self, what: &str, group: KeyGroup, bytes: &[u8]) -> Result<T> {
        match self.decode_prefix(what, group, bytes)? {
            (entry, []) => Ok(entry),
            (_, rest) => {
                Err(Error::new(ErrorKind::Corruption, format!("{} bytes follow {what}", rest.len())))
            }
        }
    }

    /// Reads the entries of one key group. A group is written only if it has an entry, and an entry may take no bytes (a unit key
    /// with a unit value), so there is always a first one.
    pub(crate) fn read_entries<T: DeserializeOwned>(
        &self,
        what: &str,
        group: KeyGroup,
        bytes: &[u8],
        mut each: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut rest = bytes;
        loop {
            let (entry, after) = self.decode_prefix(what, group, rest)?;
            each(entry)?;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    fn decode_prefix<'b, T: DeserializeOwned>(
        &self,
        what: &str,
        group: KeyGroup,
        bytes: &'b [u8],
    ) -> Result<(T, &'b [u8])> {
        let migration = self.migrations.iter().find(|(range, _)| range.contains(group));
        match migration {
            Some((_, migration)) => {
                migration.decode_prefix(bytes).map_err(|error| migrating::<T>(what, error))
            }
            None => decode_prefix(what, bytes).map_err(|error| self.explain(error)),
        }
    }

    fn explain(&self, error: Error) -> Error {
        if !self.has_later_schema {
            return error;
        }
        error.context(
            "the snapshot is of a later version of Flott, whose schemas this one does not know: state whose type has changed cannot be read",
        )
    }
}

fn migrating<T>(what: &str, error: DecodeError) -> Error {
    let message = format!("cannot read {what} as {}", type_name::<T>());
    Error::new(ErrorKind::Corruption, message).with_source(error)
}
