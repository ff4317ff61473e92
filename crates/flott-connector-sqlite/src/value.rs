//! What stands in a column, and how records become rows.

use flott_api::UserResult;
use rusqlite::types::Value;
use serde::Serialize;

/// A value of one of SQLite's storage classes.
#[derive(Clone, Debug, PartialEq)]
pub enum SqliteValue {
    /// Nothing.
    Null,
    /// Also truth values, as 0 and 1.
    Integer(i64),
    /// SQLite has no NaN: it is stored as `NULL`.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

macro_rules! from {
    ($($from:ty => |$value:ident| $to:expr),+ $(,)?) => {
        $(impl From<$from> for SqliteValue {
            fn from($value: $from) -> Self {
                $to
            }
        })+
    };
}

from! {
    bool => |value| Self::Integer(i64::from(value)),
    i8 => |value| Self::Integer(i64::from(value)),
    i16 => |value| Self::Integer(i64::from(value)),
    i32 => |value| Self::Integer(i64::from(value)),
    i64 => |value| Self::Integer(value),
    u8 => |value| Self::Integer(i64::from(value)),
    u16 => |value| Self::Integer(i64::from(value)),
    u32 => |value| Self::Integer(i64::from(value)),
    f32 => |value| Self::Real(f64::from(value)),
    f64 => |value| Self::Real(value),
    String => |value| Self::Text(value),
    &str => |value| Self::Text(value.to_owned()),
    Vec<u8> => |value| Self::Blob(value),
}

impl<T: Into<Self>> From<Option<T>> for SqliteValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl SqliteValue {
    pub(crate) fn into_parameter(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Integer(value),
            Self::Real(value) => Value::Real(value),
            Self::Text(value) => Value::Text(value),
            Self::Blob(value) => Value::Blob(value),
        }
    }
}

/// The row of a record whose fields have the names of the columns. Lists and nested structures become JSON text.
pub(crate) fn row_of_fields<T: Serialize>(record: &T, columns: &[String]) -> UserResult<Vec<SqliteValue>> {
    flott_connector_sql::row_of_fields(record, columns, "SqliteSink::with_row", from_json)
}

fn from_json(value: serde_json::Value) -> Result<SqliteValue, String> {
    Ok(match value {
        serde_json::Value::Null => SqliteValue::Null,
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => SqliteValue::Integer(integer),
            (None, _) if number.is_u64() => return Err(format!("{number} is more than an INTEGER can be")),
            (None, Some(real)) => SqliteValue::Real(real),
            (None, None) => return Err(format!("{number} is no number that SQLite can store")),
        },
        serde_json::Value::String(text) => SqliteValue::Text(text),
        nested @ (serde_json::Value::Array(_) | serde_json::Value::Object(_)) => {
            SqliteValue::Text(nested.to_string())
        }
    })
}
