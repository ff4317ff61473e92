//! What stands in a column, and how records become rows.

use flott_api::UserResult;
use serde::Serialize;

/// A value on its way to a column. The server makes of it what the column's type is, and refuses what it cannot.
#[derive(Clone, Debug, PartialEq)]
pub enum PostgresValue {
    /// Nothing.
    Null,
    /// For `boolean`.
    Bool(bool),
    /// For all types of numbers.
    Integer(i64),
    /// For `real`, `double precision`, `numeric`; also infinite and not a number.
    Real(f64),
    /// For all types: the text form of a value, as in `'2024-02-29 12:00:00+00'`, `'{1,2}'` or `'{"a": 1}'`.
    Text(String),
    /// For `bytea`.
    Bytes(Vec<u8>),
}

macro_rules! from {
    ($($from:ty => |$value:ident| $to:expr),+ $(,)?) => {
        $(impl From<$from> for PostgresValue {
            fn from($value: $from) -> Self {
                $to
            }
        })+
    };
}

from! {
    bool => |value| Self::Bool(value),
    i8 => |value| Self::Integer(i64::from(value)),
    i16 => |value| Self::Integer(i64::from(value)),
    i32 => |value| Self::Integer(i64::from(value)),
    i64 => |value| Self::Integer(value),
    u8 => |value| Self::Integer(i64::from(value)),
    u16 => |value| Self::Integer(i64::from(value)),
    u32 => |value| Self::Integer(i64::from(value)),
    u64 => |value| i64::try_from(value).map_or_else(|_| Self::Text(value.to_string()), Self::Integer),
    f32 => |value| Self::Text(value.to_string()),
    f64 => |value| Self::Real(value),
    String => |value| Self::Text(value),
    &str => |value| Self::Text(value.to_owned()),
    Vec<u8> => |value| Self::Bytes(value),
}

impl<T: Into<Self>> From<Option<T>> for PostgresValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl PostgresValue {
    /// The text form; `None` for `NULL`.
    pub(crate) fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
            Self::Integer(value) => value.to_string(),
            Self::Real(value) if value.is_infinite() => {
                if *value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
            }
            Self::Real(value) => format!("{value:?}"),
            Self::Text(value) => value.clone(),
            Self::Bytes(value) => {
                value.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
            }
        })
    }
}

/// Appends a line of COPY's text format.
pub(crate) fn put_line<'a>(out: &mut Vec<u8>, values: impl IntoIterator<Item = &'a PostgresValue>) {
    for (idx, value) in values.into_iter().enumerate() {
        if idx > 0 {
            out.push(b'\t');
        }
        let Some(text) = value.to_text() else {
            out.extend(b"\\N");
            continue;
        };
        for byte in text.bytes() {
            match byte {
                b'\\' => out.extend(b"\\\\"),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                byte => out.push(byte),
            }
        }
    }
    out.push(b'\n');
}

/// The row of a record whose fields have the names of the columns. Lists and nested structures become JSON text.
pub(crate) fn row_of_fields<T: Serialize>(record: &T, columns: &[String]) -> UserResult<Vec<PostgresValue>> {
    flott_connector_sql::row_of_fields(record, columns, "PostgresSink::with_row", |value| {
        Ok(from_json(value))
    })
}

fn from_json(value: serde_json::Value) -> PostgresValue {
    match value {
        serde_json::Value::Null => PostgresValue::Null,
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| PostgresValue::Text(number.to_string()), PostgresValue::Integer)
        }
        serde_json::Value::String(text) => PostgresValue::Text(text),
        nested @ (serde_json::Value::Array(_) | serde_json::Value::Object(_)) => {
            PostgresValue::Text(nested.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PostgresValue, put_line, row_of_fields};

    #[test]
    fn values_become_lines_that_the_server_reads_back() {
        let mut out = Vec::new();
        let values = [
            PostgresValue::Null,
            true.into(),
            (-3_i8).into(),
            u64::MAX.into(),
            f64::NAN.into(),
            f64::NEG_INFINITY.into(),
            0.1_f32.into(),
            "a\tb\\\n\r".into(),
            vec![0_u8, 255].into(),
        ];
        put_line(&mut out, &values);
        let expected = "\\N\tt\t-3\t18446744073709551615\tNaN\t-Infinity\t0.1\ta\\tb\\\\\\n\\r\t\\\\x00ff\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn fields_become_values() {
        #[derive(serde::Serialize)]
        struct Wide(u8);
        let record = serde_json::json!({"a": [1], "b": 1.5, "c": null, "d": u64::MAX, "e": "x"});
        let columns = ["e", "d", "c", "b", "a"].map(str::to_owned);
        let row = row_of_fields(&record, &columns).unwrap();
        let texts: Vec<_> = row.iter().map(PostgresValue::to_text).collect();
        let expected = [Some("x"), Some("18446744073709551615"), None, Some("1.5"), Some("[1]")];
        assert_eq!(texts, expected.map(|it| it.map(str::to_owned)));
        assert!(row_of_fields(&record, &["f".to_owned()]).unwrap_err().to_string().contains("no field 'f'"));
        assert!(row_of_fields(&Wide(1), &columns).unwrap_err().to_string().contains("with_row"));
    }
}
