//! What sinks of SQL databases have in common, whatever the database.
//!
//! A sink writes each record as a row of a table, in one of three ways ([`WriteMode`]). Here are the options of all of them ([`TableOptions`]), what a
//! writer does with rows before the database has them ([`RowBuffer`]), whose a row is ([`Owner`]), and how records become rows. It is *not* a
//! sink: statements, sessions and what is prepared differ by database, and are in the connector of each.
//!
//! Reading order: `table`, `row`, `buffer`, `owner`.

#![deny(missing_docs)]

mod buffer;
mod owner;
mod row;
mod table;

pub use buffer::{OnBadRow, RefusedRows, RowBuffer};
pub use owner::{Owner, generation, number};
pub use row::{of_columns, row_of_fields};
pub use table::{TableOptions, WriteMode};
