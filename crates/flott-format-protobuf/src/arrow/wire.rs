//! Looks at a message before it is decoded by its descriptor.
//!
//! That decoder takes a field of another wire type than its own for an unknown one, and leaves it out; in the entry of a map without a trace. Generated
//! types refuse it, and so is it here: it was written with another schema, and what the column would say in its place was said by nobody.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Says which field of `message` is of another wire type than its own, or where it ends too early.
pub(super) fn check(descriptor: &MessageDescriptor, mut message: &[u8]) -> Result<(), String> {
    let malformed = |error: DecodeError| error.to_string();
    while !message.is_empty() {
        let (number, found) = decode_key(&mut message).map_err(malformed)?;
        let field = descriptor.get_field(number);
        let nested = field.as_ref().and_then(|field| check_field(field, found).transpose()).transpose();
        let in_field = |why| format!("field '{}': {why}", field.as_ref().map_or("", FieldDescriptor::name));
        match nested.map_err(in_field)? {
            None => skip_field(found, number, &mut message, DecodeContext::default()).map_err(malformed)?,
            Some(nested) => {
                let len = decode_varint(&mut message).map_err(malformed)?;
                let len = usize::try_from(len).ok().filter(|len| *len <= message.len());
                let (inner, rest) = len
                    .and_then(|len| message.split_at_checked(len))
                    .ok_or_else(|| in_field("the message ends too early".to_owned()))?;
                check(&nested, inner).map_err(in_field)?;
                message = rest;
            }
        }
    }
    Ok(())
}

/// What is in the field, if that is a message.
fn check_field(field: &FieldDescriptor, found: WireType) -> Result<Option<MessageDescriptor>, String> {
    let (expected, nested) = match field.kind() {
        Kind::Message(_) if field.is_group() => (WireType::StartGroup, None),
        Kind::Message(message) => (WireType::LengthDelimited, Some(message)),
        Kind::String | Kind::Bytes => (WireType::LengthDelimited, None),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => (WireType::SixtyFourBit, None),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => (WireType::ThirtyTwoBit, None),
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => (WireType::Varint, None),
    };
    let is_packed = field.is_list() && found == WireType::LengthDelimited && expected != WireType::StartGroup;
    if found == expected || is_packed {
        return Ok(nested);
    }
    Err(format!("written as {found:?}, expected {expected:?}"))
}
