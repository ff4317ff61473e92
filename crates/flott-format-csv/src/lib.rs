//! Messages that are a row of CSV ([`CsvFormat`]), and what files of CSV share with them.
//!
//! It is *not* about files, which `flott-connector-file` reads: where records begin and end there, headers and ranges are its business.
//!
//! Reading order: `format` (what users see), `decoder`, `encoder`; `explain` (what is wrong with a row), `texts`, `shared_buffer`.

#![deny(missing_docs)]

#[cfg(feature = "arrow")]
mod arrow;
mod decoder;
mod encoder;
mod explain;
mod format;
mod shared_buffer;
#[cfg(test)]
mod tests;
mod texts;

pub use explain::explain_fields;
pub use format::CsvFormat;
pub use shared_buffer::SharedBuffer;
