//! A record for tests of keyed streams that is easy to write and to read.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A key and a value, as text `key=value`.
///
/// ```
/// use flott_testkit::KeyValue;
///
/// let record: KeyValue<String, u64> = "ewr=3".parse()?;
/// assert_eq!(record, KeyValue::new("ewr".to_owned(), 3));
/// assert_eq!(record.to_string(), "ewr=3");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyValue<K = String, V = i64> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
}

impl<K, V> KeyValue<K, V> {
    /// A record.
    pub const fn new(key: K, value: V) -> Self {
        Self { key, value }
    }
}

impl<K: Clone, V> KeyValue<K, V> {
    /// A copy of the key: a key selector.
    pub fn key_of(record: &Self) -> K {
        record.key.clone()
    }
}

impl<K: fmt::Display, V: fmt::Display> fmt::Display for KeyValue<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// As it is displayed, so that it reads the same wherever it is printed.
impl<K: fmt::Display, V: fmt::Display> fmt::Debug for KeyValue<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K, V> FromStr for KeyValue<K, V>
where
    K: FromStr<Err: fmt::Display>,
    V: FromStr<Err: fmt::Display>,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not key=value"))?;
        let key = key.parse().map_err(|error| format!("key '{key}': {error}"))?;
        let value = value.parse().map_err(|error| format!("value '{value}': {error}"))?;
        Ok(Self { key, value })
    }
}
