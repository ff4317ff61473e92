//! The words of a stream's text form: where they end, how records are quoted.

use flott_types::{Error, NO_TIMESTAMP, Result, Timestamp};
use std::fmt;

/// The words of a line. Blanks between quotes do not end a word.
pub(crate) fn words(line: &str) -> Result<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = match rest.find("+\"") {
            // Only at the start of a record do quotes mean something: `+"` or `tag:+"`.
            Some(at) if !rest[..at].contains(char::is_whitespace) => {
                let opening = at + 1;
                let closing = closing_quote(&rest[opening..])?;
                let after = opening + closing + 1;
                after + rest[after..].find(char::is_whitespace).unwrap_or(rest.len() - after)
            }
            _ => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// Where the quotation that starts with `quoted` ends: the index of its last quote.
fn closing_quote(quoted: &str) -> Result<usize> {
    let mut escaped = false;
    for (idx, char) in quoted.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(idx),
            _ => {}
        }
    }
    Err(Error::user(format!("the quotation {quoted} does not end")))
}

/// The text and the timestamp of the record `+…`.
pub(crate) fn parse_record(word: &str) -> Result<(String, Timestamp)> {
    let body = word.strip_prefix('+').unwrap_or(word);
    if body.starts_with('"') {
        let closing = closing_quote(body)?;
        let record = unescape(&body[1..closing])?;
        return match &body[closing + 1..] {
            "" => Ok((record, NO_TIMESTAMP)),
            rest => match rest.strip_prefix('@').and_then(|at| at.parse().ok()) {
                Some(timestamp) => Ok((record, timestamp)),
                None => Err(Error::user(format!("'{rest}' follows a quoted record: expected @timestamp"))),
            },
        };
    }
    Ok(match split_timestamp(body) {
        Some((record, timestamp)) => (record.to_owned(), timestamp),
        None => (body.to_owned(), NO_TIMESTAMP),
    })
}

fn split_timestamp(body: &str) -> Option<(&str, Timestamp)> {
    let (record, timestamp) = body.rsplit_once('@')?;
    timestamp.parse().ok().map(|timestamp| (record, timestamp))
}

/// The record as [`parse_record`] reads it.
pub(crate) fn print_record(record: &str, timestamp: Timestamp) -> String {
    let is_ambiguous = timestamp == NO_TIMESTAMP && split_timestamp(record).is_some();
    let needs_quotes = record.is_empty() || record.starts_with('"') || record.contains(char::is_whitespace);
    let record = if is_ambiguous || needs_quotes { quote(record) } else { record.to_owned() };
    match timestamp {
        NO_TIMESTAMP => format!("+{record}"),
        timestamp => format!("+{record}@{timestamp}"),
    }
}

/// The record as it prints itself, for people only.
pub(crate) fn print_debug<T: fmt::Debug>(record: &T, timestamp: Timestamp) -> String {
    match timestamp {
        NO_TIMESTAMP => format!("+{record:?}"),
        timestamp => format!("+{record:?}@{timestamp}"),
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn unescape(text: &str) -> Result<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(escaped @ ('"' | '\\')) => escaped,
                other => {
                    let escaped = other.map(String::from).unwrap_or_default();
                    return Err(Error::user(format!("'\\{escaped}' is no escape of a quoted record")));
                }
            },
            other => other,
        });
    }
    Ok(plain)
}
