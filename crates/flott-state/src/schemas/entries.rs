//! How the entries of restored operator state are read.

use super::schema_of;
use crate::codec::decode;
use flott_schema::{Migration, Type, compatible};
use flott_types::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::sync::Arc;

/// Reads the entries of one state as `T`: as they were written, or through a migration if they were written as an older type.
#[derive(Debug)]
pub(crate) struct EntryDecoder {
    schema: Option<Arc<Type>>,
    /// Older types that were met, and how they are read; `None` as they are.
    known: Vec<(Arc<Type>, Option<Migration>)>,
}

impl EntryDecoder {
    pub(crate) fn new<T: DeserializeOwned + 'static>() -> Self {
        Self { schema: schema_of::<T>(), known: Vec::new() }
    }

    /// Reads an entry of the state `name` that was written as `written`, if that is known.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`] with the field that does not fit, [`ErrorKind::Corruption`] if the bytes are not such an entry.
    pub(crate) fn decode<T: DeserializeOwned>(
        &mut self,
        name: &str,
        bytes: &[u8],
        written: Option<&Arc<Type>>,
    ) -> Result<T> {
        let (Some(schema), Some(written)) = (&self.schema, written) else { return decode(name, bytes) };
        let found = self.known.iter().position(|(known, _)| Arc::ptr_eq(known, written) || known == written);
        let idx = match found {
            Some(idx) => idx,
            None => {
                let migration = migration(name, written, schema).map_err(Error::user)?;
                self.known.push((Arc::clone(written), Some(migration).filter(|it| !it.is_unchanged())));
                self.known.len() - 1
            }
        };
        match self.known.get(idx) {
            Some((_, Some(migration))) => migration.decode(bytes).map_err(|error| {
                let message = format!("cannot read {name} as {}", type_name::<T>());
                Error::new(ErrorKind::Corruption, message).with_source(error)
            }),
            Some((_, None)) | None => decode(name, bytes),
        }
    }
}

/// How entries of the operator state `name` that were written as one type are read as another; `Err` says which field does not fit.
pub(super) fn migration(name: &str, written: &Type, schema: &Type) -> Result<Migration, String> {
    compatible(written, schema)
        .map_err(|refused| format!("the type of state '{name}' has changed: {refused}"))
}
