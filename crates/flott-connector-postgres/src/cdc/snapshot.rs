//! Reads the table in chunks, and compares keys as the server does.

use super::split::{Chunk, Frontier, Key, Lsn, Progress, Seen};
use crate::catalog::{TableColumn, TableInfo};
use crate::client::{Answer, Column, Row};
use crate::decode::array_text;
use crate::link::Link;
use crate::schema::{quoted, quoted_list, quoted_table};
use flott_types::Result;

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// In chunks that the log has passed.
    Passed,
    InChunk,
    /// Not read yet.
    Ahead,
}

/// The table as its snapshot reads it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) info: TableInfo,
    key: Vec<TableColumn>,
}

/// What was read of a chunk.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<(Key, Row)>,
    pub(crate) chunk: Chunk,
    /// There are no rows behind.
    pub(crate) is_last: bool,
}

impl Table {
    pub(crate) fn new(info: TableInfo) -> Self {
        let key = info.primary_key.iter().filter_map(|name| info.column(name).cloned()).collect();
        Self { info, key }
    }

    /// The names of the columns of the key.
    pub(crate) fn key(&self) -> &[String] {
        &self.info.primary_key
    }

    /// The next rows; `None` if their snapshot does not see a transaction of which changes were dropped: it will, soon.
    pub(crate) fn read_chunk(
        &self,
        link: &mut Link,
        progress: &Progress,
        n_rows: usize,
    ) -> Result<Option<Rows>> {
        link.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let seen = link.batch("SELECT pg_current_snapshot()::text")?;
        let seen: Seen = parsed(link, &seen)?;
        if progress.dropped.iter().any(|xid| !seen.sees(*xid)) {
            link.batch("ROLLBACK")?;
            return Ok(None);
        }
        let after = match &progress.frontier {
            Frontier::UpTo(key) => Some(key.clone()),
            Frontier::Nothing | Frontier::Everything => None,
        };
        let answer = self.select(link, after.as_ref(), n_rows)?;
        // Everything that the snapshot sees stands before.
        let until = link.batch("SELECT pg_current_wal_insert_lsn()")?;
        let until: Lsn = parsed(link, &until)?;
        link.batch("COMMIT")?;
        let n_key = self.key.len();
        let columns = answer.columns.get(n_key..).unwrap_or_default().to_vec();
        let is_last = answer.rows.len() < n_rows;
        let row = |row: Row| {
            let mut cells = row.into_cells();
            let rest = cells.split_off(n_key.min(cells.len()));
            (cells.into_iter().flatten().collect(), Row::new(rest))
        };
        let rows = answer.rows.into_iter().map(row).collect();
        Ok(Some(Rows { columns, rows, chunk: Chunk { after, seen, until }, is_last }))
    }

    fn select(&self, link: &mut Link, after: Option<&Key>, n_rows: usize) -> Result<Answer> {
        let names = quoted_list(self.key.iter().map(|column| column.name.as_str()));
        let texts: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(idx, column)| format!("{}::text AS flott_key_{idx}", quoted(&column.name)))
            .collect();
        let columns = self.info.columns.iter().filter(|column| !column.is_generated);
        let columns = quoted_list(columns.map(|column| column.name.as_str()));
        let values: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(idx, column)| format!("${}::{}", idx + 1, column.type_name))
            .collect();
        let condition =
            after.map_or(String::new(), |_| format!(" WHERE ({names}) > ({})", values.join(", ")));
        let sql = format!(
            "SELECT {}, {columns} FROM {}{condition} ORDER BY {names} LIMIT {n_rows}",
            texts.join(", "),
            quoted_table(&link.table)
        );
        let parameters: Vec<&str> = after.into_iter().flatten().map(String::as_str).collect();
        link.query(&sql, &parameters)
    }

    /// Where keys are, as the server orders them.
    pub(crate) fn regions(&self, link: &mut Link, progress: &Progress, keys: &[Key]) -> Result<Vec<Region>> {
        let after = progress.chunk.as_ref().and_then(|chunk| chunk.after.as_ref());
        let upto = match &progress.frontier {
            Frontier::Nothing => return Ok(vec![Region::Ahead; keys.len()]),
            Frontier::Everything if after.is_none() => {
                let all = if progress.chunk.is_some() { Region::InChunk } else { Region::Passed };
                return Ok(vec![all; keys.len()]);
            }
            Frontier::UpTo(key) => Some(key),
            Frontier::Everything => None,
        };
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let is_ahead = upto.map(|_| self.is_behind(0));
        let is_in_chunk = after.map(|_| self.is_behind(usize::from(upto.is_some())));
        let sql = format!(
            "SELECT CASE WHEN {} THEN 'ahead' WHEN {} THEN 'chunk' ELSE 'passed' END FROM unnest({}) WITH ORDINALITY AS u({}, n) ORDER BY n",
            is_ahead.unwrap_or("false".to_owned()),
            // A chunk that is there and has no beginning has all keys up to the frontier.
            is_in_chunk.unwrap_or(progress.chunk.is_some().to_string()),
            self.list(|idx, _| format!("${}::text[]", idx + 1)),
            self.list(|idx, _| format!("k{idx}")),
        );
        let arrays: Vec<String> = (0..self.key.len())
            .map(|idx| array_text(keys.iter().map(|key| key.get(idx).map_or("", String::as_str))))
            .collect();
        let bounds = upto.into_iter().chain(after).flatten();
        let parameters: Vec<&str> = arrays.iter().chain(bounds).map(String::as_str).collect();
        let answer = link.query(&sql, &parameters)?;
        let region = |row: &Row| match row.get(0) {
            Some("ahead") => Region::Ahead,
            Some("chunk") => Region::InChunk,
            _ => Region::Passed,
        };
        Ok(answer.rows.iter().map(region).collect())
    }

    /// Whether the key is greater than the `nth` of the bounds, which are the parameters behind the keys.
    fn is_behind(&self, nth: usize) -> String {
        let n_key = self.key.len();
        let bound = |idx: usize| n_key * (nth + 1) + idx + 1;
        format!(
            "({}) > ({})",
            self.list(|idx, column| format!("k{idx}::{}{}", column.type_name, column.collate)),
            self.list(|idx, column| format!("${}::text::{}{}", bound(idx), column.type_name, column.collate))
        )
    }

    fn list(&self, item: impl Fn(usize, &TableColumn) -> String) -> String {
        self.key.iter().enumerate().map(|(idx, column)| item(idx, column)).collect::<Vec<_>>().join(", ")
    }
}

fn parsed<T: std::str::FromStr>(link: &Link, answer: &Answer) -> Result<T> {
    let text = answer.first().unwrap_or("NULL");
    text.parse().map_err(|_| link.refuse(&format!("the server answers '{text}', which is not understood")))
}
