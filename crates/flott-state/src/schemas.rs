//! Which types the entries of states are of: those of the program, those that a snapshot records, and how entries that were
//! written as one are read as the other (docs/design/0005-state-schema.md).
//!
//! Everything here happens when a state is bound, restored or written as a whole; an access to state knows nothing of it.

mod entries;
mod fit;
mod reader;
mod recorded;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use entries::EntryDecoder;
pub use fit::StateFit;
pub use reader::EntryReader;
pub use recorded::{KeyedSchemas, STATE_SCHEMAS};
pub(crate) use types::{
    HandleType, OperatorHandleType, announce, announce_operator, entry_schema, schema_of,
};
pub use types::{HandleTypes, StateTypes};
