//! Columns that grow row by row.

mod serde;
mod text;

use self::Values::{
    Binary, Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8,
    List, Map, Struct, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8,
};
use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, LargeBinaryBuilder, LargeStringBuilder,
    StringBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow_array::{
    Array, ArrayRef, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray, make_array,
};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields, SchemaRef, TimeUnit};
use flott_types::{Error, Result};
use std::sync::Arc;

/// What is asked of the fields of objects beyond what their columns ask: a column that is not nullable must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// A field that lacks is refused even if its column is nullable.
    pub fail_on_missing: bool,
    /// A field without a column is refused.
    pub fail_on_unknown: bool,
}

/// The columns of a batch.
#[derive(Debug)]
pub struct Columns {
    schema: SchemaRef,
    rows: StructValues,
    n_rows: usize,
}

/// A column of a batch, or what is in one that is nested.
#[derive(Debug)]
pub struct Column {
    data_type: DataType,
    is_nullable: bool,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Utf8(StringBuilder),
    LargeUtf8(LargeStringBuilder),
    Binary(BinaryBuilder),
    LargeBinary(LargeBinaryBuilder),
    /// Days since the epoch.
    Date32(Int32Builder),
    /// Units since the epoch.
    Timestamp(Int64Builder, TimeUnit),
    /// Units of the last place.
    Decimal128(Decimal128Builder, u8, i8),
    List(Box<ListValues>),
    Struct(StructValues),
    Map(Box<MapValues>),
}

#[derive(Debug)]
struct ListValues {
    field: FieldRef,
    items: Column,
    ends: Ends,
}

#[derive(Debug)]
struct MapValues {
    field: FieldRef,
    is_sorted: bool,
    keys: Column,
    values: Column,
    ends: Ends,
}

#[derive(Debug)]
struct StructValues {
    fields: Fields,
    columns: Vec<Column>,
    nulls: NullBufferBuilder,
    /// Which fields the object at hand has.
    seen: Vec<bool>,
}

/// Where the lists of a column end in its items.
#[derive(Debug)]
struct Ends {
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

/// A value of one cell.
#[derive(Clone, Copy, Debug)]
pub enum Scalar<'a> {
    /// For `Boolean`.
    Boolean(bool),
    /// For integers, `Date32` (days) and `Timestamp` (units), since the epoch.
    Integer(i64),
    /// For integers that do not fit into the former.
    Unsigned(u64),
    /// For floating point.
    Float(f64),
    /// For `Utf8`.
    Text(&'a str),
    /// For `Binary`.
    Bytes(&'a [u8]),
}

/// The same for whatever builder a column has; what is nested follows.
macro_rules! match_builder {
    ($values:expr, $builder:ident => $do:expr, { $($nested:tt)* }) => {
        match $values {
            Boolean($builder) => $do,
            Int8($builder) => $do,
            Int16($builder) => $do,
            Int32($builder) | Date32($builder) => $do,
            Int64($builder) | Timestamp($builder, _) => $do,
            UInt8($builder) => $do,
            UInt16($builder) => $do,
            UInt32($builder) => $do,
            UInt64($builder) => $do,
            Float32($builder) => $do,
            Float64($builder) => $do,
            Utf8($builder) => $do,
            LargeUtf8($builder) => $do,
            Binary($builder) => $do,
            LargeBinary($builder) => $do,
            Decimal128($builder, ..) => $do,
            $($nested)*
        }
    };
}

/// How deep columns may be in each other.
const DEPTH_MAX: usize = 64;

impl Columns {
    /// Columns without rows.
    ///
    /// # Errors
    /// If a column is of a type that cannot be made row by row.
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let rows = StructValues::new(schema.fields(), "", 0)?;
        Ok(Self { schema: Arc::clone(schema), rows, n_rows: 0 })
    }

    /// Begins a row; each of the columns is then given a value.
    pub fn start_row(&mut self) -> &mut [Column] {
        self.n_rows += 1;
        self.rows.nulls.append_non_null();
        &mut self.rows.columns
    }

    /// The batch, after which the columns are without rows.
    ///
    /// # Errors
    /// If the columns are too long for a batch.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let n_rows = std::mem::take(&mut self.n_rows);
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let arrays: std::result::Result<Vec<ArrayRef>, ArrowError> =
            self.rows.columns.iter_mut().map(Column::finish).collect();
        self.rows.nulls = NullBufferBuilder::new(0);
        arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options))
            .map_err(|error| Error::subtask("cannot make an Arrow batch of rows").with_source(error))
    }
}

impl Column {
    fn new(field: &FieldRef, parent: &str, depth: usize) -> Result<Self> {
        let path =
            if parent.is_empty() { field.name().clone() } else { format!("{parent}.{}", field.name()) };
        if depth > DEPTH_MAX {
            return Err(Error::user(format!("column '{path}' is more than {DEPTH_MAX} levels deep")));
        }
        let child = |field: &FieldRef| Self::new(field, &path, depth + 1);
        let values = match field.data_type() {
            DataType::Boolean => Boolean(BooleanBuilder::new()),
            DataType::Int8 => Int8(Int8Builder::new()),
            DataType::Int16 => Int16(Int16Builder::new()),
            DataType::Int32 => Int32(Int32Builder::new()),
            DataType::Int64 => Int64(Int64Builder::new()),
            DataType::UInt8 => UInt8(UInt8Builder::new()),
            DataType::UInt16 => UInt16(UInt16Builder::new()),
            DataType::UInt32 => UInt32(UInt32Builder::new()),
            DataType::UInt64 => UInt64(UInt64Builder::new()),
            DataType::Float32 => Float32(Float32Builder::new()),
            DataType::Float64 => Float64(Float64Builder::new()),
            DataType::Utf8 => Utf8(StringBuilder::new()),
            DataType::LargeUtf8 => LargeUtf8(LargeStringBuilder::new()),
            DataType::Binary => Binary(BinaryBuilder::new()),
            DataType::LargeBinary => LargeBinary(LargeBinaryBuilder::new()),
            DataType::Date32 => Date32(Int32Builder::new()),
            DataType::Timestamp(unit, _) => Timestamp(Int64Builder::new(), *unit),
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                Decimal128(Decimal128Builder::new(), *precision, *scale)
            }
            DataType::List(item) => List(Box::new(ListValues {
                field: Arc::clone(item),
                items: child(item)?,
                ends: Ends::default(),
            })),
            DataType::Struct(fields) => Struct(StructValues::new(fields, &path, depth + 1)?),
            DataType::Map(entries, is_sorted) => match entries.data_type() {
                DataType::Struct(fields) if let [key, value] = fields.as_ref() => Map(Box::new(MapValues {
                    field: Arc::clone(entries),
                    is_sorted: *is_sorted,
                    keys: child(key)?,
                    values: child(value)?,
                    ends: Ends::default(),
                })),
                _ => return Err(unsupported(&path, field.data_type())),
            },
            other => return Err(unsupported(&path, other)),
        };
        Ok(Self { data_type: field.data_type().clone(), is_nullable: field.is_nullable(), values })
    }

    /// Appends a value.
    ///
    /// # Errors
    /// If the column is of another type, or the value does not fit.
    pub fn append(&mut self, value: Scalar<'_>) -> std::result::Result<(), String> {
        fn fit<T>(value: impl TryInto<T>, data_type: &DataType) -> std::result::Result<T, String> {
            value.try_into().map_err(|_| format!("an integer out of the range of {data_type}"))
        }
        let data_type = &self.data_type;
        let integer = match value {
            Scalar::Integer(value) => Some(i128::from(value)),
            Scalar::Unsigned(value) => Some(i128::from(value)),
            Scalar::Boolean(_) | Scalar::Float(_) | Scalar::Text(_) | Scalar::Bytes(_) => None,
        };
        match (&mut self.values, value, integer) {
            (Boolean(values), Scalar::Boolean(value), _) => values.append_value(value),
            (Int8(values), _, Some(value)) => values.append_value(fit(value, data_type)?),
            (Int16(values), _, Some(value)) => values.append_value(fit(value, data_type)?),
            (Int32(values) | Date32(values), _, Some(value)) => values.append_value(fit(value, data_type)?),
            (Int64(values) | Timestamp(values, _), _, Some(value)) => {
                values.append_value(fit(value, data_type)?);
            }
            (UInt8(values), _, Some(value)) => values.append_value(fit(value, data_type)?),
            (UInt16(values), _, Some(value)) => values.append_value(fit(value, data_type)?),
            (UInt32(values), _, Some(value)) => values.append_value(fit(value, data_type)?),
            (UInt64(values), _, Some(value)) => values.append_value(fit(value, data_type)?),
            (Float32(values), Scalar::Float(value), _) => values.append_value(value as f32),
            (Float64(values), Scalar::Float(value), _) => values.append_value(value),
            (Utf8(values), Scalar::Text(value), _) => values.append_value(value),
            (LargeUtf8(values), Scalar::Text(value), _) => values.append_value(value),
            (Binary(values), Scalar::Bytes(value), _) => values.append_value(value),
            (LargeBinary(values), Scalar::Bytes(value), _) => values.append_value(value),
            (_, value, _) => return Err(format!("{value:?} for a column of the type {data_type}")),
        }
        Ok(())
    }

    /// Appends a null. In a column that is not nullable it is for a row whose parent is null.
    pub fn append_null(&mut self) {
        match_builder!(&mut self.values, values => values.append_null(), {
            List(list) => list.ends.append_null(),
            Map(map) => map.ends.append_null(),
            Struct(rows) => {
                rows.nulls.append_null();
                rows.columns.iter_mut().for_each(Self::append_null);
            }
        })
    }

    /// Appends a list, whose items `fill` appends to the column that it is given.
    ///
    /// # Errors
    /// As `fill`, or if the column has no lists, or too many items.
    pub fn append_list<E: From<String>>(
        &mut self,
        fill: impl FnOnce(&mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let List(list) = &mut self.values else {
            return Err(format!("a list for a column of the type {}", self.data_type).into());
        };
        fill(&mut list.items)?;
        Ok(list.ends.append(list.items.len())?)
    }

    /// Appends a map, whose entries `fill` appends to keys and values.
    ///
    /// # Errors
    /// As `fill`, or if the column has no maps, or too many entries.
    pub fn append_map<E: From<String>>(
        &mut self,
        fill: impl FnOnce(&mut Self, &mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let Map(map) = &mut self.values else {
            return Err(format!("a map for a column of the type {}", self.data_type).into());
        };
        fill(&mut map.keys, &mut map.values)?;
        Ok(map.ends.append(map.keys.len())?)
    }

    /// Begins a struct; each of its columns is then given a value.
    ///
    /// # Errors
    /// If the column has no structs.
    pub fn start_struct(&mut self) -> std::result::Result<&mut [Self], String> {
        let Struct(rows) = &mut self.values else {
            return Err(format!("a struct for a column of the type {}", self.data_type));
        };
        rows.nulls.append_non_null();
        Ok(&mut rows.columns)
    }

    /// Whether it may have nulls.
    pub fn is_nullable(&self) -> bool {
        self.is_nullable
    }

    fn len(&self) -> usize {
        match_builder!(&self.values, values => ArrayBuilder::len(values), {
            List(list) => list.ends.offsets.len() - 1,
            Map(map) => map.ends.offsets.len() - 1,
            Struct(rows) => rows.nulls.len(),
        })
    }

    fn finish(&mut self) -> std::result::Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match_builder!(&mut self.values, values => Arc::new(values.finish()), {
            List(list) => {
                let (offsets, nulls) = list.ends.finish();
                Arc::new(ListArray::try_new(Arc::clone(&list.field), offsets, list.items.finish()?, nulls)?)
            }
            Map(map) => {
                let (offsets, nulls) = map.ends.finish();
                let DataType::Struct(fields) = map.field.data_type() else {
                    return Err(ArrowError::SchemaError("a map without entries".to_owned()));
                };
                let entries = vec![map.keys.finish()?, map.values.finish()?];
                let entries = StructArray::try_new(fields.clone(), entries, None)?;
                Arc::new(MapArray::try_new(Arc::clone(&map.field), offsets, entries, nulls, map.is_sorted)?)
            }
            Struct(rows) => {
                let (n_rows, nulls) = (rows.nulls.len(), rows.nulls.finish());
                let columns: std::result::Result<Vec<_>, _> = rows.columns.iter_mut().map(Self::finish).collect();
                Arc::new(StructArray::try_new_with_length(rows.fields.clone(), columns?, nulls, n_rows)?)
            }
        });
        // Numbers that are days, units of time or of a decimal's last place.
        if array.data_type() == &self.data_type {
            return Ok(array);
        }
        Ok(make_array(array.to_data().into_builder().data_type(self.data_type.clone()).build()?))
    }
}

fn unsupported(path: &str, data_type: &DataType) -> Error {
    Error::user(format!(
        "messages cannot be decoded to column '{path}' of the Arrow type {data_type}: use Boolean, Int8 to Int64, UInt8 to UInt64, Float32, Float64, \
         Utf8, LargeUtf8, Binary, LargeBinary, Date32, Timestamp, Decimal128, List, Struct or Map"
    ))
}

impl StructValues {
    fn new(fields: &Fields, path: &str, depth: usize) -> Result<Self> {
        let columns: Result<Vec<_>> = fields.iter().map(|field| Column::new(field, path, depth)).collect();
        let seen = vec![false; fields.len()];
        Ok(Self { fields: fields.clone(), columns: columns?, nulls: NullBufferBuilder::new(0), seen })
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self { offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }
}

impl Ends {
    fn append(&mut self, n_items: usize) -> std::result::Result<(), String> {
        let end =
            i32::try_from(n_items).map_err(|_| "more items than the lists of a column hold".to_owned())?;
        self.offsets.push(end);
        self.nulls.append_non_null();
        Ok(())
    }

    fn append_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.nulls.append_null();
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Option<arrow_buffer::NullBuffer>) {
        let Self { offsets, mut nulls } = std::mem::take(self);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), nulls.finish())
    }
}
