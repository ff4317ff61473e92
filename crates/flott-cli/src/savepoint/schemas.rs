//! The schemas that a snapshot records for the keyed states of an operator.

use anyhow::{Context, Result};
use flott_schema::{StateSchemas, Type};
use std::collections::BTreeMap;

/// The schemas in the records of several subtasks, which are the same where both have one. A record of a later version is left out.
pub(super) fn schemas_of<'a>(records: impl Iterator<Item = &'a [u8]>) -> Result<BTreeMap<String, Type>> {
    let mut schemas = BTreeMap::new();
    for record in records {
        let record = StateSchemas::decode(record).context("the record of schemas is damaged")?;
        schemas.extend(record.into_iter().flat_map(|record| record.entries));
    }
    Ok(schemas)
}
