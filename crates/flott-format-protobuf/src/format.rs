//! The format and its options.

use flott_schema_registry::SchemaRegistry;
use std::fmt;
use std::marker::PhantomData;

/// Messages that are Protocol Buffers of the type `M`: `protobuf` of Flink, and the frame of Confluent's serializers.
///
/// Fields that `M` does not have are left out, as Protocol Buffers mean it. Without a registry an empty message is a record with only
/// defaults; with one it is a tombstone and gives none.
pub struct ProtobufFormat<M> {
    pub(crate) framing: Framing,
    messages: PhantomData<fn() -> M>,
}

#[derive(Clone, Debug)]
pub(crate) enum Framing {
    None,
    Registry(RegistryFraming),
}

#[derive(Clone, Debug)]
pub(crate) struct RegistryFraming {
    pub(crate) registry: SchemaRegistry,
    /// Where `M` stands in the file: the index of the message, and those of messages in it.
    pub(crate) message_indexes: Vec<u32>,
    /// The subject, and the text of the `.proto` file.
    pub(crate) registered: Option<(String, String)>,
}

impl<M> Clone for ProtobufFormat<M> {
    fn clone(&self) -> Self {
        Self { framing: self.framing.clone(), messages: PhantomData }
    }
}

impl<M> fmt::Debug for ProtobufFormat<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.framing.fmt(formatter)
    }
}

impl<M> Default for ProtobufFormat<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> ProtobufFormat<M> {
    /// Messages without a frame.
    pub fn new() -> Self {
        Self { framing: Framing::None, messages: PhantomData }
    }

    /// Messages that begin with the id of the file that `M` is from, and where it stands in it: the first of the file, unless
    /// [`ProtobufFormat::message_indexes`] says otherwise. To write, say also the [`ProtobufFormat::subject`].
    pub fn confluent(registry: SchemaRegistry) -> Self {
        let framing = RegistryFraming { registry, message_indexes: vec![0], registered: None };
        Self { framing: Framing::Registry(framing), messages: PhantomData }
    }

    /// Where `M` stands in its file: `[2]` is the third message, `[2, 0]` the first one in that.
    #[must_use]
    pub fn message_indexes(mut self, indexes: impl Into<Vec<u32>>) -> Self {
        if let Framing::Registry(framing) = &mut self.framing {
            framing.message_indexes = indexes.into();
        }
        self
    }

    /// What is registered when messages are written: the subject, most often the topic and `-value`, and the text of the `.proto` file that `M`
    /// is from, for example with `include_str!`.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>, proto: impl Into<String>) -> Self {
        if let Framing::Registry(framing) = &mut self.framing {
            framing.registered = Some((subject.into(), proto.into()));
        }
        self
    }
}
