//! Schemas of state. postcard's bytes do not say what they are, so a snapshot has to: which fields of which types, in which order.
//!
//! * `schema`: what a type is made of, as a value that is stored next to the bytes.
//! * `trace`: the schema of a Rust type, from its `Deserialize` implementation alone; no value is needed.
//! * `compatible`: whether values of one schema can become values of another, and if not, which field is to blame.
//! * `migrate`: reads postcard bytes of an old schema as a new Rust type.
//! * `value`: reads postcard bytes by schema without the Rust type, for people and for other formats.
//! * `record`, `entries`: the schemas of an operator's keyed and of its other states as they stand in a snapshot.
//!
//! It is *not* a format of its own: bytes are written by postcard, whatever the schema. docs/design/0005-state-schema.md has the
//! rules of evolution.
//!
//! Invariants: everything here is total, also on hostile schemas and bytes: recursion, nodes and elements have limits. A schema is a
//! tree, not a registry by name, because serde's names are not unique: `Pair<u8>` and `Pair<String>` are both `Pair`.

#![deny(missing_docs)]

mod compatible;
mod entries;
mod migrate;
mod record;
mod schema;
#[cfg(test)]
mod tests;
mod trace;
mod value;

pub use compatible::{Incompatible, Migration, compatible, compatible_entry, compatible_key};
pub use entries::{EntrySchemas, OperatorSchemas};
pub use record::{SCHEMA_VERSION, StateSchemas};
pub use schema::{Content, Field, Type, Variant};
pub use trace::{Untraceable, trace};
pub use value::{Value, decode, decode_prefix};

use thiserror::Error;

/// Values inside of each other; deeper ones are refused.
pub(crate) const DEPTH_MAX: usize = 256;

/// Types inside of each other that are looked at; deeper ones have no schema.
pub(crate) const TYPE_DEPTH_MAX: usize = 64;

/// Why bytes are not what their schema says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They end early, or are not what postcard writes for the schema.
    #[error("the bytes are not what the schema says: {0}")]
    Malformed(String),
    /// A value goes deeper than any that is written.
    #[error("the value is nested more than {DEPTH_MAX} times")]
    TooDeep,
    /// A sequence says that it has more elements than its bytes can hold.
    #[error("{len} elements are announced, {left} bytes are left")]
    TooLong {
        /// What it says.
        len: u64,
        /// What there is.
        left: usize,
    },
    /// The schema refers to an enclosing type that it does not have.
    #[error("the schema refers to a type that does not enclose it")]
    BadSchema,
    /// Bytes are left.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}
