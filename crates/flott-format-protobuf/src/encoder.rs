//! A record becomes a message.

use crate::ProtobufFormat;
use crate::format::{Framing, RegistryFraming};
use crate::frame::encode_indexes;
use flott_api::UserResult;
use flott_api::message::{MessageEncoder, SerializationSchema};
use flott_schema_registry::wire::encode_frame;
use flott_schema_registry::{Schema, SchemaType};
use flott_types::{Error, Result};
use prost::Message;

impl<M: Message + 'static> SerializationSchema<M> for ProtobufFormat<M> {
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<M>>> {
        let mut frame = Vec::new();
        match &self.framing {
            Framing::None => {}
            Framing::Registry(RegistryFraming { registered: None, .. }) => {
                return Err(Error::user(
                    "cannot write Protocol Buffers with a schema registry: say the subject and the text of the .proto file, with \
                     ProtobufFormat::subject",
                ));
            }
            Framing::Registry(RegistryFraming {
                registry,
                message_indexes,
                registered: Some((subject, proto)),
            }) => {
                let id = registry.register(subject, &Schema::new(SchemaType::Protobuf, proto.clone()))?;
                encode_frame(id, &mut frame);
                encode_indexes(message_indexes, &mut frame);
            }
        }
        Ok(Box::new(ProtobufEncoder { frame }))
    }
}

struct ProtobufEncoder {
    /// What each message begins with.
    frame: Vec<u8>,
}

impl<M: Message> MessageEncoder<M> for ProtobufEncoder {
    fn encode(&mut self, record: &M, out: &mut Vec<u8>) -> UserResult {
        out.extend_from_slice(&self.frame);
        Ok(record.encode(out)?)
    }
}
