//! What types complain about while they are traced, kept apart so that it can be learned from.

use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// A complaint of a `Deserialize` implementation, or of the tracer.
#[derive(Debug)]
pub(super) enum TraceError {
    /// A field was given twice: under an alias. The name is that of the field.
    Duplicate(&'static str),
    /// A field was not given and may not be missing.
    Missing,
    /// A struct cannot be made from a map.
    NoMap,
    /// A made-up value was refused.
    Refused(String),
    /// There is no way on.
    Unsupported(String),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(field) => write!(f, "field '{field}' was given twice"),
            Self::Missing => f.write_str("a field is missing"),
            Self::NoMap => f.write_str("it cannot be made from named fields"),
            Self::Refused(what) | Self::Unsupported(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for TraceError {}

impl de::Error for TraceError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Refused(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Map => Self::NoMap,
            _ => Self::Refused(format!("it expects {expected} and was given {unexpected}")),
        }
    }

    fn missing_field(_: &'static str) -> Self {
        Self::Missing
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Duplicate(field)
    }
}
