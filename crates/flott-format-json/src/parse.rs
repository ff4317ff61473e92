//! From the bytes of a message to a value, or to what is wrong with it.

use crate::strict::Strict;
use serde::de::{Deserialize, DeserializeOwned};
use serde_json::Deserializer;
use serde_json::de::StrRead;

/// What is asked of the fields of structs beyond what serde asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldRules {
    pub(crate) fail_on_missing: bool,
    pub(crate) fail_on_unknown: bool,
}

impl FieldRules {
    pub(crate) const NONE: Self = Self { fail_on_missing: false, fail_on_unknown: false };
}

/// Parses a message.
///
/// That it is UTF-8 is looked at once for the whole message, and not by serde_json string by string: a quarter faster.
pub(crate) fn parse<T: DeserializeOwned>(message: &[u8], rules: FieldRules) -> Result<T, String> {
    let text = to_text(message)?;
    let explain = |error| explain(text, &error, |parser| path_of_error::<T>(parser, rules));
    if rules == FieldRules::NONE {
        return serde_json::from_str(text).map_err(explain);
    }
    let mut parser = Deserializer::from_str(text);
    let parsed = T::deserialize(Strict { inner: &mut parser, rules });
    parsed.and_then(|value| parser.end().map(|()| value)).map_err(explain)
}

pub(crate) fn to_text(message: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(message)
        .map_err(|error| format!("not UTF-8: byte {} is no character", error.valid_up_to() + 1))
}

/// Names the field, which serde_json does not: the message is parsed once more by a parser that keeps track.
#[cold]
pub(crate) fn explain<'de>(
    text: &'de str,
    error: &serde_json::Error,
    path_of_error: impl FnOnce(&mut Deserializer<StrRead<'de>>) -> Option<String>,
) -> String {
    let (line, column) = (error.line(), error.column());
    let mut what = error.to_string();
    let suffix = format!(" at line {line} column {column}");
    what.truncate(what.strip_suffix(&suffix).unwrap_or(&what).len());
    let field = path_of_error(&mut Deserializer::from_str(text));
    let field = field.map_or_else(String::new, |path| format!("field '{path}': "));
    let place = if line > 1 { format!("line {line} column {column}") } else { format!("column {column}") };
    format!("{field}{what}, at {place}")
}

/// The field at which parsing stops, if it is not the whole value.
fn path_of_error<'de, T: Deserialize<'de>>(
    parser: &mut Deserializer<StrRead<'de>>,
    rules: FieldRules,
) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, T>(Strict { inner: parser, rules }).err()?;
    path_in_value(error.path())
}

/// A path, unless it is of the whole value.
pub(crate) fn path_in_value(path: &serde_path_to_error::Path) -> Option<String> {
    let path = path.to_string();
    (path != "." && path != "?").then_some(path)
}
