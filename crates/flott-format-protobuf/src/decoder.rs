//! A message becomes a record.

use crate::ProtobufFormat;
use crate::format::{Framing, RegistryFraming};
use crate::frame::decode_indexes;
use flott_api::message::{DecodeError, DeserializationSchema, MessageDecoder};
use flott_schema_registry::SchemaType;
use flott_schema_registry::wire::decode_frame;
use flott_types::Result;
use prost::Message;
use std::collections::BTreeSet;

impl<M: Message + Default + 'static> DeserializationSchema<M> for ProtobufFormat<M> {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<M>>> {
        Ok(match &self.framing {
            Framing::None => Box::new(PlainDecoder),
            Framing::Registry(framing) => Box::new(FramedDecoder::new(framing.clone())),
        })
    }
}

struct PlainDecoder;

fn read<M: Message + Default>(payload: &[u8], out: &mut Vec<M>) -> Result<(), String> {
    out.push(M::decode(payload).map_err(|error| error.to_string())?);
    Ok(())
}

impl<M: Message + Default> MessageDecoder<M> for PlainDecoder {
    fn decode(&mut self, message: &[u8], out: &mut Vec<M>) -> Result<(), DecodeError> {
        read(message, out).map_err(DecodeError::Malformed)
    }
}

/// Messages that say what they were written with.
///
/// The schema is asked for, once, so that bytes that only look like a message are told from one; what it says is not needed.
pub(crate) struct FramedDecoder {
    framing: RegistryFraming,
    known: BTreeSet<u32>,
}

impl<M: Message + Default> MessageDecoder<M> for FramedDecoder {
    fn decode(&mut self, message: &[u8], out: &mut Vec<M>) -> Result<(), DecodeError> {
        if message.is_empty() {
            return Ok(());
        }
        self.read(message, |payload| read(payload, out))
    }
}

impl FramedDecoder {
    pub(crate) fn new(framing: RegistryFraming) -> Self {
        Self { framing, known: BTreeSet::new() }
    }

    /// Gives what is in the frame to `read`.
    pub(crate) fn read(
        &mut self,
        message: &[u8],
        read: impl FnOnce(&[u8]) -> Result<(), String>,
    ) -> Result<(), DecodeError> {
        let (id, rest) = decode_frame(message).map_err(DecodeError::Malformed)?;
        if !self.known.contains(&id) {
            self.look_up(id)?;
        }
        self.unframe(rest)
            .and_then(read)
            .map_err(|why| DecodeError::Malformed(format!("written with schema {id}: {why}")))
    }

    fn look_up(&mut self, id: u32) -> Result<(), DecodeError> {
        match self.framing.registry.schema(id)? {
            None => Err(DecodeError::malformed(format!(
                "written with schema {id}, which the registry does not have"
            ))),
            Some(schema) if schema.schema_type != SchemaType::Protobuf => {
                let kind = schema.schema_type;
                Err(DecodeError::malformed(format!(
                    "written with schema {id}, which is {kind:?} and not Protobuf"
                )))
            }
            Some(_) => {
                self.known.insert(id);
                Ok(())
            }
        }
    }

    fn unframe<'a>(&self, rest: &'a [u8]) -> Result<&'a [u8], String> {
        let (indexes, payload) = decode_indexes(rest)?;
        let expected = &self.framing.message_indexes;
        if indexes != *expected {
            return Err(format!(
                "message {indexes:?} of its file, expected {expected:?}: another type, or say message_indexes"
            ));
        }
        Ok(payload)
    }
}
