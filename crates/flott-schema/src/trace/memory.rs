//! What is known of a type from one pass to the next. A place is the way to it from the root: at each node, which child.

use super::error::TraceError;
use super::probe::Notes;
use crate::schema::{Content, Type};
use std::collections::{BTreeMap, BTreeSet};

/// A place in the type.
pub(super) type Place = Vec<usize>;

/// Made-up values that a leaf can be given, by index; the most harmless first.
pub(super) const STRINGS: &[&str] = &[
    "",
    "a",
    "0",
    "1970-01-01",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "a://b/",
    "UTC",
    "true",
];
/// Lengths of made-up bytes: identifiers, addresses, digests.
pub(super) const BYTES: &[usize] = &[0, 16, 4, 8, 12, 20, 32, 64];
/// Made-up numbers.
pub(super) const NUMBERS: &[u8] = &[1, 0, 2, 100];

const CANDIDATES_MAX: usize = STRINGS.len();

/// One alternative of an enum as far as it is known.
#[derive(Debug)]
pub(super) struct KnownVariant {
    pub(super) names: Vec<&'static str>,
    /// Tells variants apart that aliases of the same one lead to.
    pub(super) discriminant: String,
    pub(super) content: Content,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// How far each struct and enum has been explored.
    pub(super) steps: BTreeMap<Place, usize>,
    /// Types of the fields of structs.
    pub(super) fields: BTreeMap<Place, Vec<Option<Type>>>,
    /// Fields that may be missing.
    pub(super) optional: BTreeSet<(Place, usize)>,
    /// Alternatives of enums.
    pub(super) variants: BTreeMap<Place, Vec<KnownVariant>>,
    /// Other names of fields, by type and alias.
    pub(super) aliases: BTreeMap<(String, &'static str), &'static str>,
    /// Types that are only made from their fields in order.
    pub(super) in_order: BTreeSet<String>,
    /// Which made-up value each leaf is given.
    pub(super) candidates: BTreeMap<Place, usize>,
}

impl Memory {
    /// Changes what the next pass gives, so that it does not fail as this one did.
    ///
    /// # Errors
    /// If there is nothing left to try.
    pub(super) fn learn(&mut self, error: TraceError, notes: Notes) -> Result<(), String> {
        match error {
            TraceError::Duplicate(field) => {
                let (Some(identity), Some(given)) = (notes.identity.clone(), notes.key) else {
                    return Err(format!("field '{field}' was given twice"));
                };
                if given == field {
                    // Its alias came first.
                    let alias = notes.keys_given.iter().copied().find(|key| {
                        *key != field
                            && !self.aliases.contains_key(&(identity.clone(), *key))
                            && notes.shares(key, field)
                    });
                    let alias = alias.ok_or_else(|| format!("field '{field}' was given twice"))?;
                    self.aliases.insert((identity, alias), field);
                } else {
                    self.aliases.insert((identity, given), field);
                }
                Ok(())
            }
            TraceError::Missing => {
                // The field that was left out is needed: go on to the next.
                let place = notes.ended.ok_or("a field is missing that serde does not name")?;
                let step = self.steps.get_mut(&place).filter(|step| **step > 0);
                *step.ok_or("a field is missing that serde does not name")? += 1;
                Ok(())
            }
            TraceError::NoMap => {
                let identity = notes.identity.ok_or("it cannot be made from named fields")?;
                if self.in_order.insert(identity) {
                    Ok(())
                } else {
                    Err("it asks for a map and refuses it".to_owned())
                }
            }
            TraceError::Refused(what) => {
                let leaf = notes.leaf.ok_or_else(|| what.clone())?;
                let candidate = self.candidates.entry(leaf).or_default();
                *candidate += 1;
                if *candidate < CANDIDATES_MAX {
                    Ok(())
                } else {
                    Err(format!("it refuses made-up values: {what}"))
                }
            }
            TraceError::Unsupported(what) => Err(what),
        }
    }
}
