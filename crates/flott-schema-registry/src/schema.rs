//! What a registry keeps.

use serde::{Deserialize, Serialize};

/// The language that a schema is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaType {
    /// Avro; what a registry means if it does not say.
    #[default]
    Avro,
    /// Protocol Buffers: the text of a `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

/// A schema that another one uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// What the schema calls it: a full name in Avro, the path of an import in Protocol Buffers.
    pub name: String,
    /// The subject that it is registered under.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

/// A schema as the registry has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Schema {
    /// Its text.
    pub schema: String,
    /// Its language.
    #[serde(rename = "schemaType", default)]
    pub schema_type: SchemaType,
    /// What it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
}

impl Schema {
    /// A schema that uses no others.
    pub fn new(schema_type: SchemaType, schema: impl Into<String>) -> Self {
        Self { schema: schema.into(), schema_type, references: Vec::new() }
    }
}
