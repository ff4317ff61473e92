//! Whether values that were written under one schema can be read as another.
//!
//! What may change: a number becomes wider, an optional field is added, a field or variant is renamed and keeps its old name as an
//! alias, fields and variants change their order, a variant is added. Everything else is refused, with the name of the field: what looks
//! harmless (a field removed, a number narrowed, an option made required) loses something for some value.

use crate::DecodeError;
use crate::migrate;
use crate::schema::{Content, Field, Type, Variant};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use thiserror::Error;

/// Why values cannot be read as another type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("field '{field}' {reason}")]
pub struct Incompatible {
    /// The way to it: `positions[].price`; `value` for the whole.
    pub field: String,
    /// What was changed and may not be.
    pub reason: String,
}

/// How values of one schema become values of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    old: Type,
    changes: Vec<String>,
}

impl Migration {
    /// Whether the new type reads the old bytes as they are.
    pub fn is_unchanged(&self) -> bool {
        self.changes.is_empty()
    }

    /// What changes, for people: `field 'price' is widened from u32 to u64`.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Reads one value of the old schema, which must fill `bytes`, as a value of the new type.
    ///
    /// # Errors
    /// If the bytes are not a value of the old schema, or the type refuses it.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        match self.decode_prefix(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => Err(DecodeError::Trailing(rest.len())),
        }
    }

    /// The same for the value at the start of `bytes`, with what follows it.
    ///
    /// # Errors
    /// As [`Migration::decode`].
    pub fn decode_prefix<'b, T: DeserializeOwned>(
        &self,
        bytes: &'b [u8],
    ) -> Result<(T, &'b [u8]), DecodeError> {
        migrate::decode_prefix(&self.old, bytes)
    }
}

/// Whether values of `old` can be read as `new`.
///
/// # Errors
/// The first field that cannot.
pub fn compatible(old: &Type, new: &Type) -> Result<Migration, Incompatible> {
    migration(old, new, Role::Value)
}

/// The same for keys, whose hash places them in key groups: only what leaves the hash alone may change. Integers up to 64 bits may
/// become wider and fields may be renamed.
///
/// # Errors
/// The first field that cannot.
pub fn compatible_key(old: &Type, new: &Type) -> Result<Migration, Incompatible> {
    migration(old, new, Role::Key)
}

/// The same for the entries of a keyed state, which are a key and a value, a time, a key and a namespace (timers), or a list of such.
///
/// # Errors
/// The first field that cannot; one of the key is called `key.…`, one of the value as in [`compatible`].
pub fn compatible_entry(old: &Type, new: &Type) -> Result<Migration, Incompatible> {
    let mut comparison = Comparison { role: Role::Value, path: Vec::new(), changes: Vec::new() };
    comparison.entries(old, new)?;
    Ok(Migration { old: old.clone(), changes: comparison.changes })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Key,
    Value,
}

fn migration(old: &Type, new: &Type, role: Role) -> Result<Migration, Incompatible> {
    let mut comparison = Comparison { role, path: Vec::new(), changes: Vec::new() };
    comparison.types(old, new)?;
    Ok(Migration { old: old.clone(), changes: comparison.changes })
}

struct Comparison {
    role: Role,
    path: Vec<String>,
    changes: Vec<String>,
}

impl Comparison {
    fn place(&self) -> String {
        let path = self.path.concat();
        let path = path.trim_start_matches('.');
        if path.is_empty() { "value".to_owned() } else { path.to_owned() }
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, Incompatible> {
        Err(Incompatible { field: self.place(), reason: reason.into() })
    }

    fn change(&mut self, what: &str) {
        self.changes.push(format!("field '{}' {what}", self.place()));
    }

    fn inside(
        &mut self,
        step: impl Into<String>,
        compare: impl FnOnce(&mut Self) -> Result<(), Incompatible>,
    ) -> Result<(), Incompatible> {
        self.path.push(step.into());
        let compared = compare(self);
        // After an error the path has been told.
        self.path.pop();
        compared
    }

    fn entries(&mut self, old: &Type, new: &Type) -> Result<(), Incompatible> {
        match (old, new) {
            (Type::Sequence(old), Type::Sequence(new)) => self.entries(old, new),
            (Type::Tuple(olds), Type::Tuple(news)) => match (olds.as_slice(), news.as_slice()) {
                ([old_key, old], [new_key, new]) => {
                    self.keys(old_key, new_key)?;
                    self.types(old, new)
                }
                ([old_time, old_key, old], [new_time, new_key, new]) => {
                    self.inside("time", |it| it.types(old_time, new_time))?;
                    self.keys(old_key, new_key)?;
                    self.inside("namespace", |it| it.types(old, new))
                }
                _ => self.refuse(format!("was {old} and is {new}")),
            },
            _ => self.refuse(format!("was {old} and is {new}")),
        }
    }

    fn keys(&mut self, old: &Type, new: &Type) -> Result<(), Incompatible> {
        self.role = Role::Key;
        let compared = self.inside("key", |it| it.types(old, new));
        self.role = Role::Value;
        compared
    }

    fn types(&mut self, old: &Type, new: &Type) -> Result<(), Incompatible> {
        match (old, new) {
            (Type::Option(old), Type::Option(new)) => self.types(old, new),
            (Type::Sequence(old), Type::Sequence(new)) => self.inside("[]", |it| it.types(old, new)),
            (Type::Map(old_key, old), Type::Map(new_key, new)) => {
                self.inside("{key}", |it| it.types(old_key, new_key))?;
                self.inside("{}", |it| it.types(old, new))
            }
            (Type::Tuple(old), Type::Tuple(new)) => self.tuples(old, new),
            (Type::Struct { fields: old, .. }, Type::Struct { fields: new, .. }) => self.fields(old, new),
            (Type::Enum { variants: old, .. }, Type::Enum { variants: new, .. }) => self.variants(old, new),
            (old, new) if old == new => Ok(()),
            (old, new) => self.primitives(old, new),
        }
    }

    fn primitives(&mut self, old: &Type, new: &Type) -> Result<(), Incompatible> {
        let is_wider = match (integer(old), integer(new)) {
            (Some(old), Some(new)) => old.fits(new) && (self.role == Role::Value || new.bits <= 64),
            _ => (old, new) == (&Type::F32, &Type::F64) && self.role == Role::Value,
        };
        if !is_wider {
            return self.refuse(format!("was {old} and is {new}"));
        }
        self.change(&format!("is widened from {old} to {new}"));
        Ok(())
    }

    fn tuples(&mut self, old: &[Type], new: &[Type]) -> Result<(), Incompatible> {
        if old.len() != new.len() {
            return self.refuse(format!("had {} elements and has {}", old.len(), new.len()));
        }
        let pairs = old.iter().zip(new).enumerate();
        pairs
            .into_iter()
            .try_for_each(|(idx, (old, new))| self.inside(format!(".{idx}"), |it| it.types(old, new)))
    }

    fn fields(&mut self, old: &[Field], new: &[Field]) -> Result<(), Incompatible> {
        let mut taken = BTreeSet::new();
        for field in old {
            // Its own name goes before another's alias.
            let own = new.iter().position(|new| new.name == field.name);
            let found = own.or_else(|| new.iter().position(|new| new.is_called(&field.name)));
            let found = found.and_then(|idx| Some((idx, new.get(idx)?)));
            self.inside(format!(".{}", field.name), |it| {
                let Some((idx, found)) = found else {
                    return it.refuse(
                        "was removed; if it was renamed, the new field needs #[serde(alias = \"…\")] with the old name",
                    );
                };
                // Those behind one that was added are still in the same order.
                let is_behind_last = taken.last().is_none_or(|last| *last < idx);
                if !taken.insert(idx) {
                    return it.refuse(format!("and another are both read as '{}'", found.name));
                }
                if found.name != field.name {
                    it.change(&format!("is renamed to '{}'", found.name));
                }
                if !is_behind_last {
                    it.moved()?;
                }
                it.types(&field.ty, &found.ty)
            })?;
        }
        for (_, field) in new.iter().enumerate().filter(|(idx, _)| !taken.contains(idx)) {
            self.inside(format!(".{}", field.name), |it| it.added(field))?;
        }
        Ok(())
    }

    fn moved(&mut self) -> Result<(), Incompatible> {
        if self.role == Role::Key {
            return self.refuse("has another place in the key, which changes the key's hash");
        }
        self.change("has another place");
        Ok(())
    }

    fn added(&mut self, field: &Field) -> Result<(), Incompatible> {
        match (field.optional, self.role) {
            (true, Role::Value) => {
                self.change("is added");
                Ok(())
            }
            (true, Role::Key) => self.refuse("was added to the key, which changes the key's hash"),
            (false, _) => self
                .refuse("was added and may not be missing: make it an Option or give it #[serde(default)]"),
        }
    }

    fn variants(&mut self, old: &[Variant], new: &[Variant]) -> Result<(), Incompatible> {
        for (old_idx, variant) in old.iter().enumerate() {
            let own = new.iter().position(|new| new.name == variant.name);
            let found = own.or_else(|| new.iter().position(|new| new.is_called(&variant.name)));
            let found = found.and_then(|idx| Some((idx, new.get(idx)?)));
            self.inside(format!("::{}", variant.name), |it| {
                let Some((idx, found)) = found else {
                    return it.refuse("was removed");
                };
                if found.name != variant.name {
                    it.change(&format!("is renamed to '{}'", found.name));
                }
                if idx != old_idx {
                    it.moved()?;
                }
                it.contents(&variant.content, &found.content)
            })?;
        }
        Ok(())
    }

    fn contents(&mut self, old: &Content, new: &Content) -> Result<(), Incompatible> {
        match (old, new) {
            (Content::Unit, Content::Unit) => Ok(()),
            (Content::Newtype(old), Content::Newtype(new)) => self.types(old, new),
            (Content::Tuple(old), Content::Tuple(new)) => self.tuples(old, new),
            (Content::Struct(old), Content::Struct(new)) => self.fields(old, new),
            (Content::Unit | Content::Newtype(_) | Content::Tuple(_) | Content::Struct(_), _) => {
                self.refuse("holds something else than before")
            }
        }
    }
}

/// An integer type.
#[derive(Clone, Copy, Debug)]
struct Integer {
    is_signed: bool,
    bits: u32,
}

impl Integer {
    /// Whether every value of it is one of `wider`.
    fn fits(self, wider: Self) -> bool {
        self.bits < wider.bits && (self.is_signed == wider.is_signed || wider.is_signed)
    }
}

fn integer(ty: &Type) -> Option<Integer> {
    let (is_signed, bits) = match ty {
        Type::I8 => (true, 8),
        Type::I16 => (true, 16),
        Type::I32 => (true, 32),
        Type::I64 => (true, 64),
        Type::I128 => (true, 128),
        Type::U8 => (false, 8),
        Type::U16 => (false, 16),
        Type::U32 => (false, 32),
        Type::U64 => (false, 64),
        Type::U128 => (false, 128),
        _ => return None,
    };
    Some(Integer { is_signed, bits })
}
