//! Values of a serde deserializer become values of columns, with the strictness that deriving `Deserialize` has.

use super::Values::{
    Binary, Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8,
    List, Map, Struct, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8,
};
use super::text::parse_bytes;
use super::{Column, Columns, FieldRules, ListValues, MapValues, Scalar, StructValues};
use arrow_schema::Fields;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Significant digits of a decimal that a floating point number tells from its neighbours.
const FLOAT_DIGITS: usize = 15;

/// Appends a row, which is an object with a field for each column.
struct Row<'a> {
    values: &'a mut StructValues,
    rules: FieldRules,
}

/// Appends a value, or a null if the column may have such.
struct Cell<'a> {
    column: &'a mut Column,
    rules: FieldRules,
}

impl Columns {
    /// What appends a row when it is given to a deserializer.
    ///
    /// When that fails the columns are good for nothing any more.
    pub fn row_seed<'de>(&mut self, rules: FieldRules) -> impl DeserializeSeed<'de, Value = ()> {
        self.n_rows += 1;
        Row { values: &mut self.rows, rules }
    }
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { values: StructValues { fields, columns, nulls, seen }, rules } = self;
        nulls.append_non_null();
        seen.fill(false);
        let mut next = 0;
        while let Some(found) = access.next_key_seed(FieldSeed { fields, next })? {
            let column = found.and_then(|idx| Some((idx, columns.get_mut(idx)?, seen.get_mut(idx)?)));
            let Some((idx, column, seen)) = column else {
                if rules.fail_on_unknown {
                    return Err(A::Error::custom("no column has this name (ignore_unknown_fields is off)"));
                }
                access.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(seen, true) {
                return Err(A::Error::custom(format_args!("duplicate field `{}`", name(fields, idx))));
            }
            access.next_value_seed(Cell { column, rules })?;
            next = idx + 1;
        }
        let missing = columns.iter_mut().zip(seen.iter()).enumerate().filter(|(_, (_, seen))| !**seen);
        for (idx, (column, _)) in missing {
            if rules.fail_on_missing || !column.is_nullable {
                let option = if rules.fail_on_missing { " (fail_on_missing_field is on)" } else { "" };
                return Err(A::Error::custom(format_args!("missing field `{}`{option}", name(fields, idx))));
            }
            column.append_null();
        }
        Ok(())
    }
}

fn name(fields: &Fields, idx: usize) -> &str {
    fields.get(idx).map_or("", |field| field.name())
}

/// Finds the column of a name. Fields most often come in the order of the columns.
struct FieldSeed<'a> {
    fields: &'a Fields,
    next: usize,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<Option<usize>, E> {
        if self.fields.get(self.next).is_some_and(|field| field.name() == found) {
            return Ok(Some(self.next));
        }
        Ok(self.fields.iter().position(|field| field.name() == found))
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.column.is_nullable {
            deserializer.deserialize_option(Nullable(self))
        } else {
            self.append(deserializer)
        }
    }
}

struct Nullable<'a>(Cell<'a>);

impl<'de> Visitor<'de> for Nullable<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "null or {}", self.0.column.data_type)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.0.column.append_null();
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.append(deserializer)
    }
}

impl Cell<'_> {
    fn append<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { column, rules } = self;
        match &mut column.values {
            Boolean(values) => values.append_value(bool::deserialize(deserializer)?),
            Int8(values) => values.append_value(i8::deserialize(deserializer)?),
            Int16(values) => values.append_value(i16::deserialize(deserializer)?),
            Int32(values) => values.append_value(i32::deserialize(deserializer)?),
            Int64(values) => values.append_value(i64::deserialize(deserializer)?),
            UInt8(values) => values.append_value(u8::deserialize(deserializer)?),
            UInt16(values) => values.append_value(u16::deserialize(deserializer)?),
            UInt32(values) => values.append_value(u32::deserialize(deserializer)?),
            UInt64(values) => values.append_value(u64::deserialize(deserializer)?),
            Float32(values) => values.append_value(f32::deserialize(deserializer)?),
            Float64(values) => values.append_value(f64::deserialize(deserializer)?),
            Utf8(_) | LargeUtf8(_) | Binary(_) | LargeBinary(_) => {
                return deserializer.deserialize_str(Text(column));
            }
            Date32(_) | Timestamp(..) | Decimal128(..) => return deserializer.deserialize_any(Text(column)),
            List(list) => return deserializer.deserialize_seq(Items { list, rules }),
            Map(map) => return deserializer.deserialize_map(Entries { map, rules }),
            Struct(values) => return Row { values, rules }.deserialize(deserializer),
        }
        Ok(())
    }
}

/// A text, or a number for a type that is written as either.
struct Text<'a>(&'a mut Column);

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.values {
            Utf8(_) | LargeUtf8(_) => formatter.write_str("a string"),
            Binary(_) | LargeBinary(_) => formatter.write_str("a string in base64"),
            _ => write!(formatter, "a string or a number for {}", self.0.data_type),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match &mut self.0.values {
            Utf8(values) => values.append_value(text),
            LargeUtf8(values) => values.append_value(text),
            Binary(values) => values.append_value(parse_bytes(text).map_err(E::custom)?),
            _ => return self.0.append_text(text).map_err(E::custom),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.0.values {
            Decimal128(..) => self.0.append_text(&value.to_string()).map_err(E::custom),
            _ => self.0.append(Scalar::Integer(value)).map_err(E::custom),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.0.values {
            Decimal128(..) => self.0.append_text(&value.to_string()).map_err(E::custom),
            _ => self.0.append(Scalar::Unsigned(value)).map_err(E::custom),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let text = value.to_string();
        let n_digits = text.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
        match self.0.values {
            Decimal128(..) if n_digits <= FLOAT_DIGITS => self.0.append_text(&text).map_err(E::custom),
            Decimal128(..) => Err(E::custom(
                "a number with more than 15 digits and a point is not read exactly: write the decimal as a string",
            )),
            _ => Err(E::invalid_type(serde::de::Unexpected::Float(value), &self)),
        }
    }
}

struct Items<'a> {
    list: &'a mut ListValues,
    rules: FieldRules,
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { list: ListValues { items, ends, .. }, rules } = self;
        while access.next_element_seed(Cell { column: items, rules })?.is_some() {}
        ends.append(items.len()).map_err(A::Error::custom)
    }
}

struct Entries<'a> {
    map: &'a mut MapValues,
    rules: FieldRules,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { map: MapValues { keys, values, ends, .. }, rules } = self;
        while access.next_key_seed(KeySeed(keys))?.is_some() {
            access.next_value_seed(Cell { column: values, rules })?;
        }
        ends.append(keys.len()).map_err(A::Error::custom)
    }
}

/// The key of an entry, which is a text whatever the column.
struct KeySeed<'a>(&'a mut Column);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.append_text(text).map_err(E::custom)
    }
}
