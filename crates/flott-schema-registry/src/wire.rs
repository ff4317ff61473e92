//! The frame around messages: a zero, four bytes of the schema's id (big end first), and what the format wrote.

/// What a framed message begins with.
pub const MAGIC_BYTE: u8 = 0;

/// How long the frame is.
pub const HEADER_BYTES: usize = 5;

/// The schema's id, and what the format wrote.
///
/// # Errors
/// What is wrong, if the message has no frame.
pub fn decode_frame(message: &[u8]) -> Result<(u32, &[u8]), String> {
    match message.split_at_checked(HEADER_BYTES) {
        Some(([MAGIC_BYTE, id @ ..], payload)) if let Ok(id) = <[u8; 4]>::try_from(id) => {
            Ok((u32::from_be_bytes(id), payload))
        }
        Some(([first, ..], _)) => Err(format!(
            "begins with byte {first} instead of 0 and the id of a schema: it was not written with a schema registry, or keeps the id \
             in a header"
        )),
        _ => {
            Err(format!("only {} bytes, where a 0 and the id of a schema are {HEADER_BYTES}", message.len()))
        }
    }
}

/// Begins a message that is written with the schema of this id.
pub fn encode_frame(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC_BYTE);
    out.extend_from_slice(&id.to_be_bytes());
}
