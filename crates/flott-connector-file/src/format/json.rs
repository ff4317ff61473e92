//! A JSON value per line.

use super::lines::{LineDecoder, divide};
use crate::MAX_RECORD_BYTES_DEFAULT;
use flott_api::UserResult;
use flott_api::format::{
    ByteRange, DecodeFormat, DecodeInput, EncodeFormat, FileLayout, RecordDecoder, RecordEncoder,
};
use flott_env::FileSystem;
use flott_types::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// JSON lines: each line is a value, most often an object; empty lines are left out.
///
/// Big files that are not compressed are read in ranges. Fields that the record type does not have are ignored, unless
/// it says `#[serde(deny_unknown_fields)]`.
#[derive(Clone, Copy, Debug)]
pub struct JsonFormat {
    max_record_bytes: usize,
}

impl JsonFormat {
    /// The format with its default limit.
    #[expect(clippy::new_without_default, reason = "the other formats have no default either")]
    pub fn new() -> Self {
        Self { max_record_bytes: MAX_RECORD_BYTES_DEFAULT }
    }

    /// How long a line may be; a longer one is a bad record and is not held in memory.
    #[must_use]
    pub fn max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self { max_record_bytes }
    }
}

impl<T: DeserializeOwned + 'static> DecodeFormat<T> for JsonFormat {
    fn divide(&self, _: &dyn FileSystem, path: &Path, len: u64, range_bytes: u64) -> Result<Vec<ByteRange>> {
        Ok(divide(path, len, range_bytes))
    }

    fn open(&self, input: DecodeInput) -> Result<Box<dyn RecordDecoder<T>>> {
        LineDecoder::open(&input, self.max_record_bytes, parse::<T>)
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<Option<T>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(line).map(Some).map_err(|error| explain::<T>(line, &error))
}

/// Names the field, which serde_json does not: the line is parsed once more by a parser that keeps track.
#[cold]
fn explain<T: DeserializeOwned>(line: &[u8], error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    // The line is the file's, not the first of one.
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    text.truncate(text.strip_suffix(&suffix).unwrap_or(&text).len());
    let mut again = serde_json::Deserializer::from_slice(line);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut again) {
        Err(error) => error.path().to_string(),
        Ok(_) => ".".to_owned(),
    };
    let field = if path == "." || path == "?" { String::new() } else { format!("field '{path}': ") };
    format!("{field}{text}, at column {}", error.column())
}

impl<T: Serialize + 'static> EncodeFormat<T> for JsonFormat {
    fn extension(&self) -> &str {
        "jsonl"
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Rows
    }

    fn start_file(&self) -> Result<Box<dyn RecordEncoder<T>>> {
        Ok(Box::new(JsonEncoder))
    }
}

struct JsonEncoder;

impl<T: Serialize> RecordEncoder<T> for JsonEncoder {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult {
        serde_json::to_writer(&mut *out, record)?;
        out.push(b'\n');
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> UserResult {
        Ok(())
    }
}
