//! Decoders of what a server sends, for the fuzz targets of the workspace and for nobody else.

use crate::cdc::pgoutput;
use crate::client::{PgError, Row, columns, frame_len};
use crate::decode::record;
use flott_scram::{Scram, ScramHash};
use serde::de::DeserializeOwned;

/// Reads `bytes` as what a server sends, one message behind the other: rows as records of type `T`, errors, challenges, and what the log streams.
/// Returns the records up to the first message that is none.
pub fn server_messages<T: DeserializeOwned>(mut bytes: &[u8]) -> Vec<T> {
    let mut records = Vec::new();
    let mut described = Vec::new();
    while let Ok(Some(len)) = frame_len(bytes)
        && let Some((frame, rest)) = bytes.split_at_checked(len)
        && let Some((&tag, body)) = frame.split_first().and_then(|(tag, rest)| Some((tag, rest.get(4..)?)))
    {
        bytes = rest;
        let read = match tag {
            b'T' => columns(body).map(|columns| described = columns),
            b'D' => Row::read(body).map(|row| records.extend(record(&described, &row).ok())),
            b'E' => {
                drop(PgError::from_body(body).to_string());
                Ok(())
            }
            b'd' => pgoutput::read(body).map(drop),
            b'R' => challenge(&String::from_utf8_lossy(body)),
            _ => Ok(()),
        };
        if read.is_err() {
            break;
        }
    }
    records
}

fn challenge(text: &str) -> Result<(), PgError> {
    // More rounds are no other code.
    if text.split(',').any(|part| part.strip_prefix("i=").is_some_and(|n| n.len() > 3)) {
        return Ok(());
    }
    let mut scram = Scram::with_nonce(ScramHash::Sha256, "", "password", b"nonce");
    scram.answer(text)?;
    Ok(scram.check(text)?)
}
