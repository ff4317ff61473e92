//! How state is written: postcard, a stable and documented wire format.

use flott_types::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;

/// The bytes of `value`.
///
/// # Errors
/// [`ErrorKind::UserError`] if the type's `Serialize` implementation fails; `what` names it.
pub fn encode<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>> {
    postcard::to_allocvec(value)
        .map_err(|error| Error::user(format!("cannot serialize {what}")).with_source(error))
}

/// Appends what [`encode`] would return; after an error `bytes` are lost.
///
/// # Errors
/// As [`encode`].
pub fn encode_into<T: Serialize>(what: &str, value: &T, bytes: &mut Vec<u8>) -> Result<()> {
    *bytes = postcard::to_extend(value, std::mem::take(bytes))
        .map_err(|error| Error::user(format!("cannot serialize {what}")).with_source(error))?;
    Ok(())
}

/// The value that [`encode`] wrote, which must fill `bytes`.
///
/// # Errors
/// [`ErrorKind::Corruption`] if the bytes are not a `T`, or more than one.
pub fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    let (value, rest) = decode_prefix(what, bytes)?;
    if rest.is_empty() {
        return Ok(value);
    }
    Err(Error::new(ErrorKind::Corruption, format!("{} bytes follow {what}", rest.len())))
}

/// The value at the start of `bytes` and what follows it.
pub(crate) fn decode_prefix<'a, T: DeserializeOwned>(what: &str, bytes: &'a [u8]) -> Result<(T, &'a [u8])> {
    postcard::take_from_bytes(bytes).map_err(|error| {
        let message = format!("cannot read {what} as {}", type_name::<T>());
        Error::new(ErrorKind::Corruption, message).with_source(error)
    })
}
