//! What is wrong with a row.

use csv::{ByteRecord, DeserializeError, DeserializeErrorKind};
use serde::de::DeserializeOwned;
use std::num::IntErrorKind;

/// Of a field that is wrong, what a message shows.
const FIELD_BYTES_SHOWN: usize = 100;

/// Says why `fields` are no `T`: the column, by its name in the header or its number, what was expected there and what was found.
#[cold]
pub fn explain_fields<T: DeserializeOwned>(
    fields: &ByteRecord,
    header: Option<&ByteRecord>,
    error: &csv::Error,
) -> String {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else {
        return error.to_string();
    };
    let expected = match err.kind() {
        DeserializeErrorKind::ParseInt(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                "expected an integer of the column's range"
            }
            _ => "expected an integer",
        },
        DeserializeErrorKind::ParseFloat(_) => "expected a number",
        DeserializeErrorKind::ParseBool(_) => "expected true or false",
        DeserializeErrorKind::InvalidUtf8(_) => "expected UTF-8 text",
        DeserializeErrorKind::UnexpectedEndOfRow => "expected another field",
        DeserializeErrorKind::Message(text) | DeserializeErrorKind::Unsupported(text) => text,
    };
    let Some(idx) = find_column::<T>(fields, header, err) else { return expected.to_owned() };
    let name = header.and_then(|header| header.get(idx)).map(String::from_utf8_lossy);
    let column = name.map_or_else(|| (idx + 1).to_string(), |name| format!("'{name}'"));
    let field = fields.get(idx).unwrap_or_default();
    let shown = field.get(..FIELD_BYTES_SHOWN).unwrap_or(field);
    let rest = if shown.len() < field.len() { "…" } else { "" };
    let found = String::from_utf8_lossy(shown);
    format!("column {column}: {expected}, found '{found}'{rest}")
}

/// The index of the column at which deserialization stopped.
///
/// The deserializer tells of numbers but not of what a type's own code refuses, so for the rest the record is read
/// again without its last columns: as long as the bad one is there, the error is the same.
fn find_column<T: DeserializeOwned>(
    fields: &ByteRecord,
    header: Option<&ByteRecord>,
    error: &DeserializeError,
) -> Option<usize> {
    match error.kind() {
        DeserializeErrorKind::UnexpectedEndOfRow => return None,
        // That is about all columns together.
        DeserializeErrorKind::Message(message) if message.starts_with("invalid length") => return None,
        _ => {}
    }
    if let Some(idx) = error.field() {
        return usize::try_from(idx).ok();
    }
    let fails_alike = |n_columns: usize| {
        let (mut fields, mut header) = (fields.clone(), header.cloned());
        fields.truncate(n_columns);
        if let Some(header) = &mut header {
            header.truncate(n_columns);
        }
        let result = fields.deserialize::<T>(header.as_ref());
        match result.err().map(csv::Error::into_kind) {
            Some(csv::ErrorKind::Deserialize { err, .. }) => err.kind() == error.kind(),
            Some(_) | None => false,
        }
    };
    let columns: Vec<usize> = (1..=fields.len()).collect();
    let n_before = columns.partition_point(|n_columns| !fails_alike(*n_columns));
    // What fails with no column at all is not about one.
    (n_before < columns.len() && !fails_alike(0)).then_some(n_before)
}
