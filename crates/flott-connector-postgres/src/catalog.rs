//! What the server knows about a table.

use crate::link::Link;
use crate::schema::quoted_table;
use flott_types::Result;

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    /// As in a cast.
    pub(crate) type_name: String,
    pub(crate) type_oid: u32,
    /// How its texts are ordered, if it has texts: with `COLLATE` before it.
    pub(crate) collate: String,
    pub(crate) is_not_null: bool,
    /// Computed of others; the log does not have it.
    pub(crate) is_generated: bool,
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct TableInfo {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `r` for a table, `p` for one with partitions, `v` for a view, and others.
    pub(crate) kind: String,
    /// What the log has of a row that is updated or deleted: `f` for all, `d` for its key, and others.
    pub(crate) replica_identity: String,
    pub(crate) columns: Vec<TableColumn>,
    /// In their order.
    pub(crate) primary_key: Vec<String>,
}

impl TableInfo {
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

const TABLE: &str = "SELECT c.oid, c.relkind, c.relreplident, n.nspname, c.relname FROM pg_class AS c \
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1::regclass";

const COLUMNS: &str = "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid, a.attnotnull, COALESCE((SELECT \
    ' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(c.collname) FROM pg_collation AS c \
    JOIN pg_namespace AS n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation), ''), a.attgenerated <> '' \
    FROM pg_attribute AS a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const PRIMARY_KEY: &str = "SELECT a.attname FROM pg_index AS i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n) \
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE i.indrelid = $1::oid AND i.indisprimary ORDER BY k.n";

/// Looks a table up.
pub(crate) fn look_up(link: &mut Link) -> Result<TableInfo> {
    let target = quoted_table(&link.table);
    let table = link.query(TABLE, &[&target])?;
    let cell = |idx: usize| table.rows.first().and_then(|row| row.get(idx)).unwrap_or_default().to_owned();
    let [oid, kind, replica_identity, schema, name] = [0, 1, 2, 3, 4].map(cell);
    let mut columns = Vec::new();
    for row in link.query(COLUMNS, &[&oid])?.rows {
        let text = |idx| row.get(idx).unwrap_or_default().to_owned();
        columns.push(TableColumn {
            name: text(0),
            type_name: text(1),
            type_oid: row.parse(2).map_err(|error| link.describe(COLUMNS, error))?,
            is_not_null: row.get(3) == Some("t"),
            collate: text(4),
            is_generated: row.get(5) == Some("t"),
        });
    }
    let key = link.query(PRIMARY_KEY, &[&oid])?;
    let primary_key = key.rows.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect();
    Ok(TableInfo { schema, name, kind, replica_identity, columns, primary_key })
}
