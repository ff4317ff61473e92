//! Rows of the server, which are texts, as records.

mod array;
mod cell;

pub(crate) use array::{array_text, elements};

use crate::client::{Column, Row};
use cell::Cell;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;
use std::fmt;

/// Why a row is no record.
#[derive(Debug)]
pub(crate) struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Makes a record of the columns of a row: its fields by name, or by position if it is a tuple, or the only one if it is a single value.
pub(crate) fn record<T: DeserializeOwned>(columns: &[Column], row: &Row) -> Result<T, DecodeError> {
    T::deserialize(RowDeserializer { columns, cells: row.cells() })
}

struct RowDeserializer<'a> {
    columns: &'a [Column],
    cells: &'a [Option<String>],
}

impl<'a> RowDeserializer<'a> {
    fn fields(&self) -> Fields<'a> {
        Fields { columns: self.columns, cells: self.cells, current: None }
    }

    fn only(&self) -> Result<Cell<'a>, DecodeError> {
        match (self.columns, self.cells) {
            ([column], [text]) => Ok(Cell { text: text.as_deref(), type_oid: column.type_oid }),
            _ => Err(DecodeError(format!(
                "a single value is expected, and the row has {} columns",
                self.columns.len()
            ))),
        }
    }
}

macro_rules! only {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.only()?.$method(visitor)
        })+
    };
}

impl<'de> Deserializer<'de> for RowDeserializer<'_> {
    type Error = DecodeError;

    only! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_f32 deserialize_f64 deserialize_str deserialize_string deserialize_char deserialize_bytes
        deserialize_byte_buf deserialize_option
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_map(self.fields())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(self.fields())
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(self.fields())
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(self.fields())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! { i128 u128 unit unit_struct map struct enum identifier ignored_any }
}

struct Fields<'a> {
    columns: &'a [Column],
    cells: &'a [Option<String>],
    current: Option<(&'a Column, Cell<'a>)>,
}

impl Fields<'_> {
    fn advance(&mut self) -> bool {
        let ([column, columns @ ..], [text, cells @ ..]) = (self.columns, self.cells) else { return false };
        (self.columns, self.cells) = (columns, cells);
        self.current = Some((column, Cell { text: text.as_deref(), type_oid: column.type_oid }));
        true
    }

    fn value<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let Some((column, cell)) = self.current.take() else { return Err(DecodeError::custom("no value")) };
        seed.deserialize(cell).map_err(|error| DecodeError(format!("column '{}': {error}", column.name)))
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if !self.advance() {
            return Ok(None);
        }
        let name = self.current.as_ref().map_or("", |(column, _)| column.name.as_str());
        let name: StrDeserializer<'_, DecodeError> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        self.value(seed)
    }
}

impl<'de> SeqAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        if self.advance() { self.value(seed).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::record;
    use crate::client::{Column, Row};
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Deserialize)]
    enum State {
        Open,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wide {
        id: i64,
        share: f64,
        is_open: bool,
        name: Option<String>,
        tags: Vec<Option<String>>,
        matrix: Vec<Vec<i32>>,
        data: Vec<u8>,
        json: BTreeMap<String, u8>,
        state: State,
        any: serde_json::Value,
    }

    fn row(cells: &[(&str, u32, Option<&str>)]) -> (Vec<Column>, Row) {
        let columns =
            cells.iter().map(|(name, type_oid, _)| Column { name: (*name).to_owned(), type_oid: *type_oid });
        (columns.collect(), Row::new(cells.iter().map(|(_, _, text)| text.map(str::to_owned)).collect()))
    }

    #[test]
    fn rows_become_records_of_the_users_types() {
        let (columns, row) = row(&[
            ("id", 20, Some("-5")),
            ("share", 701, Some("-Infinity")),
            ("is_open", 16, Some("t")),
            ("name", 25, None),
            ("tags", 1009, Some(r#"{a,"b \"c\\,",NULL,"NULL",""}"#)),
            ("matrix", 1007, Some("{{1,2},{3,4}}")),
            ("data", 17, Some("\\x00ff")),
            ("json", 3802, Some(r#"{"a": 1}"#)),
            ("state", 99_999, Some("Open")),
            ("any", 23, Some("7")),
            ("more", 25, Some("ignored")),
        ]);
        let text = |text: &str| Some(text.to_owned());
        let expected = Wide {
            id: -5,
            share: f64::NEG_INFINITY,
            is_open: true,
            name: None,
            tags: vec![text("a"), text("b \"c\\,"), None, text("NULL"), text("")],
            matrix: vec![vec![1, 2], vec![3, 4]],
            data: vec![0, 255],
            json: [("a".to_owned(), 1)].into(),
            state: State::Open,
            any: 7.into(),
        };
        assert_eq!(record::<Wide>(&columns, &row).unwrap(), expected);
    }

    #[test]
    fn tuples_take_columns_by_position_and_single_values_the_only_one() {
        let (columns, two) = row(&[("a", 20, Some("1")), ("b", 25, Some("x"))]);
        assert_eq!(record::<(i64, String)>(&columns, &two).unwrap(), (1, "x".to_owned()));
        let error = record::<i64>(&columns, &two).unwrap_err().to_string();
        assert!(error.contains("a single value is expected"), "{error}");
        let (columns, one) = row(&[("a", 20, Some("1"))]);
        assert_eq!(record::<u8>(&columns, &one).unwrap(), 1);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (type_oid, text, expected) in [
            (20, Some("300"), "column 'a': '300' is no u8"),
            (25, Some("many"), "column 'a': 'many' is no u8"),
            (20, None, "column 'a': invalid type: Option value, expected u8"),
        ] {
            #[derive(Debug, Deserialize)]
            struct One {
                #[expect(dead_code, reason = "it is never made")]
                a: u8,
            }
            let (columns, row) = row(&[("a", type_oid, text)]);
            assert_eq!(record::<One>(&columns, &row).unwrap_err().to_string(), expected);
        }
        let (columns, row) = row(&[("b", 1007, Some("{1,{2"))]);
        record::<Vec<i32>>(&columns, &row).unwrap_err();
    }
}
