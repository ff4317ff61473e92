//! The schemas of an operator's keyed states as they stand in a snapshot: JSON, which bounds how deep hostile bytes can lead.

use crate::DecodeError;
use crate::schema::Type;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the encoding of schemas.
pub const SCHEMA_VERSION: u16 = 1;

/// The schemas of entries by name of the state. An entry is what follows another in the bytes of a key group: a key with what is
/// stored for it, or the time, key and namespace of a timer, or a list of such entries.
///
/// They hold for some key groups only: one subtask may have read a state, and written it as another type, when another one has left it as
/// it was restored; later their key groups may meet in one subtask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateSchemas {
    /// The first key group that they hold for, and one past the last.
    pub key_groups: (u32, u32),
    /// By name of the state.
    pub entries: BTreeMap<String, Type>,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u16,
    key_groups: (u32, u32),
    entries: &'a BTreeMap<String, Type>,
}

/// What every version has.
#[derive(Deserialize)]
pub(crate) struct Head {
    pub(crate) version: u16,
}

#[derive(Deserialize)]
struct Body {
    key_groups: (u32, u32),
    entries: BTreeMap<String, Type>,
}

impl StateSchemas {
    /// The bytes of the record.
    ///
    /// # Errors
    /// None that is known, a schema is plain data; whatever the encoder says is passed on.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let Self { key_groups, entries } = self;
        let written = Written { version: SCHEMA_VERSION, key_groups: *key_groups, entries };
        serde_json::to_vec(&written).map_err(malformed)
    }

    /// Reads a record; `None` if it is of another version, which is as good as no schema.
    ///
    /// # Errors
    /// If the bytes are not a record.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Head { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != SCHEMA_VERSION {
            return Ok(None);
        }
        let Body { key_groups, entries } = serde_json::from_slice(bytes).map_err(malformed)?;
        Ok(Some(Self { key_groups, entries }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a function for `map_err`")]
pub(crate) fn malformed(error: serde_json::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}
