//! A JSON value per message.

use crate::null_fields::remove_null_fields;
use crate::parse::{FieldRules, parse};
use flott_api::UserResult;
use flott_api::message::{
    DecodeError, DeserializationSchema, MessageDecoder, MessageEncoder, SerializationSchema,
};
use flott_types::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Messages that are a JSON value each, most often an object, to and from any serde type: `json` of Flink.
///
/// A field that lacks is `None` for an `Option` and an error for anything else that has no `#[serde(default)]`; a field that the type does
/// not have is left out. An empty message (a tombstone) gives no record. What Flink calls `json.ignore-parse-errors` is said to the source,
/// for all formats: [`OnError::Skip`](flott_api::OnError).
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonFormat {
    pub(crate) rules: FieldRules,
    ignore_null_fields: bool,
}

impl JsonFormat {
    /// The format as Flink has it by default.
    pub fn new() -> Self {
        Self::default()
    }

    /// `json.fail-on-missing-field`: a message that lacks a field of a struct is malformed, even if the field is an `Option` or has a
    /// default. `false` unless said otherwise.
    ///
    /// Structs that `#[serde(flatten)]` others do not tell their fields and are not checked; of one with `#[serde(alias)]` every name is
    /// asked for, so this is not for them.
    #[must_use]
    pub fn fail_on_missing_field(mut self, fail: bool) -> Self {
        self.rules.fail_on_missing = fail;
        self
    }

    /// Whether fields that the type does not have are left out, as Flink does and as it is unless said otherwise; if not, such a message
    /// is malformed. Unlike `#[serde(deny_unknown_fields)]` it holds for nested structs, too.
    #[must_use]
    pub fn ignore_unknown_fields(mut self, ignore: bool) -> Self {
        self.rules.fail_on_unknown = !ignore;
        self
    }

    /// `json.encode.ignore-null-fields`: fields that are `null` are left out of messages, at any depth. `false` unless said otherwise.
    #[must_use]
    pub fn encode_ignore_null_fields(mut self, ignore: bool) -> Self {
        self.ignore_null_fields = ignore;
        self
    }
}

impl<T: DeserializeOwned + 'static> DeserializationSchema<T> for JsonFormat {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<T>>> {
        Ok(Box::new(*self))
    }
}

impl<T: DeserializeOwned> MessageDecoder<T> for JsonFormat {
    fn decode(&mut self, message: &[u8], out: &mut Vec<T>) -> Result<(), DecodeError> {
        if !message.is_empty() {
            out.push(parse(message, self.rules).map_err(DecodeError::Malformed)?);
        }
        Ok(())
    }
}

impl<T: Serialize + 'static> SerializationSchema<T> for JsonFormat {
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<T>>> {
        Ok(Box::new(JsonEncoder { ignore_null_fields: self.ignore_null_fields, with_nulls: Vec::new() }))
    }
}

struct JsonEncoder {
    ignore_null_fields: bool,
    with_nulls: Vec<u8>,
}

impl<T: Serialize> MessageEncoder<T> for JsonEncoder {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult {
        if !self.ignore_null_fields {
            return Ok(serde_json::to_writer(out, record)?);
        }
        self.with_nulls.clear();
        serde_json::to_writer(&mut self.with_nulls, record)?;
        remove_null_fields(&self.with_nulls, out);
        Ok(())
    }
}
