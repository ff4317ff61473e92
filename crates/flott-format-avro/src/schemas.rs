//! Texts become schemas that decoders share.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use flott_api::message::DecodeError;
use flott_schema_registry::{Reference, SchemaRegistry, SchemaType};
use flott_types::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A schema with those that it uses, as texts: the schema is the last.
pub(crate) type Texts = Vec<String>;

/// What messages of one schema are read with.
pub(crate) struct Prepared {
    pub(crate) writer: &'static Schema,
    pub(crate) names: ResolvedSchema<'static>,
    pub(crate) reader: GenericDatumReader<'static>,
    /// Whether messages are written as they are read, so that nothing is to be resolved.
    pub(crate) is_same: bool,
    /// Whether messages become values before they become records.
    pub(crate) by_value: bool,
}

/// So many different schemas one process reads; more is a mistake.
const SCHEMAS_MAX: usize = 10_000;

/// All schemas of this process, which live as long as it does.
///
/// The reader of the Avro library borrows its schemas, and making one for each message would cost more than reading it. There are as many
/// schemas as topics have had versions.
static INTERNED: Mutex<BTreeMap<Texts, &'static [Schema]>> = Mutex::new(BTreeMap::new());

/// The schemas of these texts.
pub(crate) fn intern(texts: &[String]) -> Result<&'static [Schema]> {
    let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(schemas) = interned.get(texts) {
        return Ok(schemas);
    }
    if interned.len() >= SCHEMAS_MAX {
        return Err(Error::subtask(format!("more than {SCHEMAS_MAX} different Avro schemas in one process")));
    }
    let schemas =
        parse(texts).map_err(|error| Error::user("cannot read an Avro schema").with_source(error))?;
    let schemas: &'static [Schema] = schemas.leak();
    interned.insert(texts.to_vec(), schemas);
    Ok(schemas)
}

fn parse(texts: &[String]) -> Result<Vec<Schema>, apache_avro::Error> {
    match texts {
        [] => Ok(Vec::new()),
        [text] => Ok(vec![Schema::parse_str(text)?]),
        [used @ .., text] => {
            let (schema, mut schemas) = Schema::parse_str_with_list(text, used)?;
            schemas.push(schema);
            Ok(schemas)
        }
    }
}

impl Prepared {
    /// For messages written with `writer` and read as `reader`.
    pub(crate) fn new(writer: &[String], reader: &str) -> Result<Self> {
        let schemas = intern(writer)?;
        let reader_schema = root(intern(&[reader.to_owned()])?)?;
        let writer_schema = root(schemas)?;
        let is_same = matches!(writer, [writer] if is_same_json(writer, reader));
        let prepare = || {
            let names = || ResolvedSchema::new_with_schemata(schemas.iter().collect());
            let builder = GenericDatumReader::builder(writer_schema).resolved_writer_schemata(names()?);
            let reader =
                if is_same { builder.build()? } else { builder.reader_schema(reader_schema).build()? };
            Ok(Self { writer: writer_schema, names: names()?, reader, is_same, by_value: !is_same })
        };
        prepare().map_err(|error: apache_avro::Error| {
            Error::user("cannot resolve the names in an Avro schema").with_source(error)
        })
    }
}

fn root(schemas: &'static [Schema]) -> Result<&'static Schema> {
    schemas.last().ok_or_else(|| Error::user("an Avro schema without text"))
}

fn is_same_json(one: &str, other: &str) -> bool {
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    one == other || parse(one).is_some_and(|one| Some(one) == parse(other))
}

/// So many schemas one schema uses, by way of others, too.
const REFERENCES_MAX: usize = 1_000;

/// The schema of an id and those that it uses.
pub(crate) fn look_up(registry: &SchemaRegistry, id: u32) -> Result<Texts, DecodeError> {
    let Some(schema) = registry.schema(id)? else {
        return Err(DecodeError::malformed(format!(
            "written with schema {id}, which the registry does not have"
        )));
    };
    if schema.schema_type != SchemaType::Avro {
        let kind = schema.schema_type;
        return Err(DecodeError::malformed(format!(
            "written with schema {id}, which is {kind:?} and not Avro"
        )));
    }
    let mut texts = vec![schema.schema];
    let mut known = BTreeMap::new();
    let mut to_do = schema.references;
    while let Some(Reference { subject, version, .. }) = to_do.pop() {
        if known.insert((subject.clone(), version), ()).is_some() {
            continue;
        }
        if known.len() > REFERENCES_MAX {
            let message = format!("Avro schema {id} uses more than {REFERENCES_MAX} others");
            return Err(Error::new(ErrorKind::UserError, message).into());
        }
        let used = registry.version(&subject, version)?;
        texts.push(used.schema);
        to_do.extend(used.references);
    }
    texts.reverse();
    Ok(texts)
}
