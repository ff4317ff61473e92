//! The columns of a Rust type, and how they compare with those of a file.

use arrow_schema::{DataType, FieldRef, Schema};
use flott_types::{Error, Result};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, MapDeserializer};
use serde_arrow::schema::{SchemaLike, TracingOptions};
use std::path::Path;

/// How often a type is looked at to find its columns; each variant of an enum takes a time.
const TRACING_BUDGET: usize = 1000;

/// The columns of `T`, as far as serde shows them.
pub(crate) fn columns_of<T: DeserializeOwned>() -> Result<Vec<FieldRef>> {
    let options = TracingOptions::new()
        .allow_null_fields(true)
        .map_as_struct(false)
        .enums_without_data_as_strings(true)
        .strings_as_large_utf8(false)
        .bytes_as_large_binary(false)
        .sequence_as_large_list(false)
        .from_type_budget(TRACING_BUDGET);
    Vec::<FieldRef>::from_type::<T>(options).map_err(|error| {
        let name = std::any::type_name::<T>();
        Error::user(format!("the Parquet columns of {name} are not known, give the format a schema"))
            .with_source(error)
    })
}

/// The indices of the columns in the file that `T` has; `None` if all must be read.
pub(crate) fn projection_of<T: DeserializeOwned>(expected: &[FieldRef], file: &Schema) -> Option<Vec<usize>> {
    if refuses_unknown_fields::<T>() {
        return None;
    }
    // A field that is not found may have another name too (`#[serde(alias)]`).
    expected.iter().map(|column| file.index_of(column.name()).ok()).collect()
}

/// Whether `T` says `#[serde(deny_unknown_fields)]`: nobody else complains about a field of this name.
fn refuses_unknown_fields<T: DeserializeOwned>() -> bool {
    const NAME: &str = "no field has this name";
    let probe = MapDeserializer::<_, ValueError>::new(std::iter::once((NAME, ())));
    T::deserialize(probe)
        .is_err_and(|error| error.to_string().starts_with(&format!("unknown field `{NAME}`")))
}

/// Types that can be read as one another, at least for some values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Boolean,
    Number,
    Text,
    Bytes,
    List,
    Struct,
    Map,
    /// Dates, times, decimals, nulls, unions: readable as several.
    Other,
}

fn family(data_type: &DataType) -> Family {
    match data_type {
        DataType::Boolean => Family::Boolean,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64 => Family::Number,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
        DataType::Dictionary(_, values) => family(values),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Family::Bytes
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Family::List,
        DataType::Struct(_) => Family::Struct,
        DataType::Map(..) => Family::Map,
        _ => Family::Other,
    }
}

/// The error of the whole file, if its columns and not its values are what a record cannot be made of.
pub(crate) fn explain(path: &Path, expected: &[FieldRef], file: &Schema, message: &str) -> Option<Error> {
    let path = path.display();
    let names = || file.fields().iter().map(|column| column.name().as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = field_named_in(message, "missing field")
        && file.index_of(name).is_err()
    {
        return Some(Error::user(format!("Parquet file '{path}' has no column '{name}', only {}", names())));
    }
    if let Some(name) = field_named_in(message, "unknown field")
        && file.index_of(name).is_ok()
    {
        let expected = message.rsplit_once("`, expected").map(|(_, names)| format!(", expected{names}"));
        let expected = expected.unwrap_or_default();
        return Some(Error::user(format!("Parquet file '{path}' has an unknown column '{name}'{expected}")));
    }
    expected.iter().find_map(|column| {
        let (_, found) = file.fields().find(column.name())?;
        let (expected, found) = (column.data_type(), found.data_type());
        let families = (family(expected), family(found));
        let differ = families.0 != families.1 && families.0 != Family::Other && families.1 != Family::Other;
        differ.then(|| {
            let name = column.name();
            Error::user(format!(
                "column '{name}' of Parquet file '{path}': expected {expected}, found {found}"
            ))
        })
    })
}

/// The `x` of "missing field `x`".
fn field_named_in<'a>(message: &'a str, what: &str) -> Option<&'a str> {
    message.split_once(what)?.1.strip_prefix(" `")?.split('`').next()
}
