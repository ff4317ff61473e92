//! What users see: the format and its options.

use crate::decoder::ParquetDecoder;
use crate::encoder::ParquetEncoder;
use arrow_schema::SchemaRef;
use flott_api::format::{
    ByteRange, DecodeFormat, DecodeInput, EncodeFormat, FileLayout, RecordDecoder, RecordEncoder,
};
use flott_env::FileSystem;
use flott_types::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// How the pages of a Parquet file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParquetCompression {
    /// Not at all.
    None,
    /// Snappy: fast.
    Snappy,
    /// Zstandard: smaller.
    Zstd,
}

/// A row group is complete at this size unless the format says otherwise; a file being written holds one in memory.
const ROW_GROUP_BYTES_DEFAULT: usize = 16 << 20;

/// Parquet: a column per field of a struct, found by name. Reads only the columns that the type has; writes what serde
/// says the type consists of.
///
/// A file that lacks a column the type needs, or has it with a type that does not fit, fails the job. An `Option` whose
/// column the file lacks is `None`. Big files are read in ranges of whole row groups.
#[derive(Clone, Debug)]
pub struct ParquetFormat {
    pub(crate) compression: ParquetCompression,
    pub(crate) row_group_bytes: usize,
    pub(crate) schema: Option<SchemaRef>,
}

impl ParquetFormat {
    /// The format; it writes row groups of 16 MB, compressed with Snappy.
    #[expect(clippy::new_without_default, reason = "the other formats have no default either")]
    pub fn new() -> Self {
        Self {
            compression: ParquetCompression::Snappy,
            row_group_bytes: ROW_GROUP_BYTES_DEFAULT,
            schema: None,
        }
    }

    /// How pages are compressed when writing; reading understands all three.
    #[must_use]
    pub fn compression(self, compression: ParquetCompression) -> Self {
        Self { compression, ..self }
    }

    /// How large a row group becomes when writing: about what each open file takes in memory, and the unit in which
    /// the file can be read side by side.
    #[must_use]
    pub fn row_group_bytes(self, row_group_bytes: usize) -> Self {
        Self { row_group_bytes: row_group_bytes.max(1), ..self }
    }

    /// The columns to write, for types that do not show theirs to serde (dates, enums with data, untagged enums) or
    /// whose columns should have other types, for example timestamps.
    #[must_use]
    pub fn schema(self, schema: SchemaRef) -> Self {
        Self { schema: Some(schema), ..self }
    }
}

impl<T: DeserializeOwned + 'static> DecodeFormat<T> for ParquetFormat {
    fn divide(&self, _: &dyn FileSystem, _: &Path, len: u64, range_bytes: u64) -> Result<Vec<ByteRange>> {
        // A row group belongs to the range in which it starts, so some ranges may turn out to be empty.
        let n_ranges = len.div_ceil(range_bytes.max(1)).max(1);
        let bound = |idx: u64| (u128::from(len) * u128::from(idx) / u128::from(n_ranges)) as u64;
        Ok((0..n_ranges)
            .map(|idx| ByteRange { start: bound(idx), end: (idx + 1 < n_ranges).then(|| bound(idx + 1)) })
            .collect())
    }

    fn open(&self, input: DecodeInput) -> Result<Box<dyn RecordDecoder<T>>> {
        Ok(Box::new(ParquetDecoder::open(&input)?))
    }
}

impl<T: Serialize + DeserializeOwned + 'static> EncodeFormat<T> for ParquetFormat {
    fn extension(&self) -> &str {
        "parquet"
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Bulk
    }

    fn start_file(&self) -> Result<Box<dyn RecordEncoder<T>>> {
        Ok(Box::new(ParquetEncoder::start::<T>(self)?))
    }
}
