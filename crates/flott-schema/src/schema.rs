//! What a type is made of.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A type as serde sees it. Newtypes are what they hold; arrays and tuple structs are tuples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "variants without a comment are the Rust types of the same name")]
pub enum Type {
    /// `()` and unit structs: no bytes.
    Unit,
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    String,
    /// Bytes that serde sees as such; a `Vec<u8>` is a sequence.
    Bytes,
    Option(Box<Type>),
    /// Any number of elements.
    Sequence(Box<Type>),
    /// Any number of keys with a value each.
    Map(Box<Type>, Box<Type>),
    /// A fixed number of elements.
    Tuple(Vec<Type>),
    /// Named fields in the order in which they are written.
    Struct {
        /// serde's name, for people: it is not unique.
        name: String,
        fields: Vec<Field>,
    },
    /// One of several.
    Enum {
        /// serde's name, for people.
        name: String,
        /// By index.
        variants: Vec<Variant>,
    },
    /// The struct or enum that encloses this place: 0 for the innermost, 1 for the one around it, and so on.
    Enclosing(u32),
}

/// A named field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Under which other names it is read (`#[serde(alias = "…")]`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether it may be missing: an `Option`, or it has `#[serde(default)]`.
    pub optional: bool,
    /// What it is.
    #[serde(rename = "type")]
    pub ty: Type,
}

/// One alternative of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Under which other names it is read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What is behind its index.
    pub content: Content,
}

/// What a variant holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Nothing.
    Unit,
    /// One unnamed value.
    Newtype(Type),
    /// Several unnamed values.
    Tuple(Vec<Type>),
    /// Named fields.
    Struct(Vec<Field>),
}

impl Type {
    /// How many objects and lists are inside of each other when it is written as JSON.
    pub(crate) fn json_depth(&self) -> usize {
        let fields =
            |fields: &[Field]| fields.iter().map(|field| field.ty.json_depth()).max().unwrap_or(0) + 2;
        let deepest = |types: &[Self]| types.iter().map(Self::json_depth).max().unwrap_or(0) + 1;
        match self {
            Self::Option(inner) | Self::Sequence(inner) => inner.json_depth() + 1,
            Self::Map(key, value) => key.json_depth().max(value.json_depth()) + 2,
            Self::Tuple(types) => deepest(types) + 1,
            Self::Struct { fields: all, .. } => fields(all) + 2,
            Self::Enum { variants, .. } => {
                let content = |variant: &Variant| match &variant.content {
                    Content::Unit => 0,
                    Content::Newtype(ty) => ty.json_depth(),
                    Content::Tuple(types) => deepest(types),
                    Content::Struct(all) => fields(all),
                };
                variants.iter().map(content).max().unwrap_or(0) + 5
            }
            _ => 1,
        }
    }
}

impl Field {
    /// Whether `name` is one of its names.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

impl Variant {
    /// Whether `name` is one of its names.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// As a person would write it: `Flight { origin: string, delay: option<i32> }`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(inner) => write!(f, "option<{inner}>"),
            Self::Sequence(element) => write!(f, "list<{element}>"),
            Self::Map(key, value) => write!(f, "map<{key}, {value}>"),
            Self::Tuple(elements) => write!(f, "({})", Listed(elements)),
            Self::Struct { name, fields } => write!(f, "{name} {{ {} }}", Listed(fields)),
            Self::Enum { name, variants } => write!(f, "{name} {{ {} }}", Listed(variants)),
            Self::Enclosing(0) => f.write_str("self"),
            Self::Enclosing(level) => write!(f, "self^{level}"),
            Self::Unit => f.write_str("unit"),
            Self::Bool => f.write_str("bool"),
            Self::I8 => f.write_str("i8"),
            Self::I16 => f.write_str("i16"),
            Self::I32 => f.write_str("i32"),
            Self::I64 => f.write_str("i64"),
            Self::I128 => f.write_str("i128"),
            Self::U8 => f.write_str("u8"),
            Self::U16 => f.write_str("u16"),
            Self::U32 => f.write_str("u32"),
            Self::U64 => f.write_str("u64"),
            Self::U128 => f.write_str("u128"),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::Char => f.write_str("char"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.ty)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.content {
            Content::Unit => f.write_str(name),
            Content::Newtype(ty) => write!(f, "{name}({ty})"),
            Content::Tuple(types) => write!(f, "{name}({})", Listed(types)),
            Content::Struct(fields) => write!(f, "{name} {{ {} }}", Listed(fields)),
        }
    }
}

/// Items with commas between them.
struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if idx == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
