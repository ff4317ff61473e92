mod debezium;
mod json;

use flott_api::message::{DecodeError, DeserializationSchema, SerializationSchema};
use std::fmt::Debug;

/// The records of a message, or why it is malformed.
fn decode<T: Debug>(
    schema: &impl DeserializationSchema<T>,
    message: impl AsRef<[u8]>,
) -> Result<Vec<T>, String> {
    let mut out = Vec::new();
    match schema.create_decoder().unwrap().decode(message.as_ref(), &mut out) {
        Ok(()) => Ok(out),
        Err(DecodeError::Malformed(why)) => Err(why),
        Err(DecodeError::Failed(error)) => panic!("no message makes this format fail: {error:?}"),
    }
}

fn encode<T>(schema: &impl SerializationSchema<T>, record: &T) -> String {
    let mut out = b"before".to_vec();
    schema.create_encoder().unwrap().encode(record, &mut out).unwrap();
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}
