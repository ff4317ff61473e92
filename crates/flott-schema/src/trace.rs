//! The schema of a Rust type, from its `Deserialize` implementation alone.
//!
//! A type asks its deserializer for what it is made of. So it is given made-up values, and what it asks for is written down: once
//! for each variant of each enum, and once without each field of each struct, to see whether the field may be missing. Aliases are
//! seen by giving a field under each of its names: the second time serde complains, and says the name that is the right one.
//!
//! A type that refuses made-up values (a date in a string, a number that must be even) is given others; if it refuses all of them, it
//! has no schema. Nor has one that only self-describing formats can write (`flatten`, `untagged`), which postcard cannot either.

mod access;
mod deserializer;
mod error;
mod memory;
mod probe;

use crate::schema::Type;
use deserializer::Probe;
use error::TraceError;
use memory::Memory;
use probe::Pass;
use serde::de::DeserializeOwned;
use std::any::type_name;
use thiserror::Error;

/// Objects and lists inside of each other that a schema may be as JSON: serde_json reads 128, and some stand around it.
const JSON_DEPTH_MAX: usize = 112;

/// Passes over a type, each of which shows a variant or field more; a type that needs more has no schema.
const PASSES_MAX: usize = 20_000;

/// Why a type has no schema. State of such types works, it only cannot be exported or evolve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("type {type_name} has no schema: {reason}")]
pub struct Untraceable {
    /// The type.
    pub type_name: String,
    /// What it did.
    pub reason: String,
}

/// The schema of `T`.
///
/// # Errors
/// If `T` has none; see the module's documentation.
pub fn trace<T: DeserializeOwned>() -> Result<Type, Untraceable> {
    let mut memory = Memory::default();
    let untraceable = |reason: String| Untraceable { type_name: type_name::<T>().to_owned(), reason };
    for _ in 0..PASSES_MAX {
        let mut pass = Pass::new(&mut memory);
        let mut traced = None;
        let made = T::deserialize(Probe::new(&mut pass, &mut traced));
        let notes = pass.finish();
        match made {
            Ok(_) if notes.is_complete => {
                let ty = traced.ok_or_else(|| untraceable("it asks for nothing".to_owned()))?;
                if ty.json_depth() > JSON_DEPTH_MAX {
                    return Err(untraceable("it is nested too deeply".to_owned()));
                }
                return Ok(ty);
            }
            Ok(_) => {}
            Err(TraceError::Unsupported(what)) => return Err(untraceable(what)),
            Err(error) => memory.learn(error, notes).map_err(untraceable)?,
        }
    }
    Err(untraceable(format!("it has more than {PASSES_MAX} variants and fields")))
}
