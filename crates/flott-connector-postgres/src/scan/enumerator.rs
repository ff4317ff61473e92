//! Divides a table.

use super::config::PostgresSource;
use super::split::PostgresSplit;
use crate::catalog::{self, TableInfo};
use crate::decode::elements;
use crate::link::Link;
use crate::schema::{quoted, quoted_table};
use flott_types::Result;

/// Types whose ranges can be computed.
const INTEGERS: [u32; 3] = [20, 21, 23];
/// The place of a row in its table.
const PLACE: &str = "ctid";

pub(super) fn splits<T>(source: &PostgresSource<T>, parallelism: u32) -> Result<Vec<PostgresSplit>> {
    let mut link = Link::connect(&source.address.parse()?, &source.table)?;
    let table = catalog::look_up(&mut link)?;
    for column in source.columns.iter().flatten() {
        if table.column(column).is_none() {
            return Err(
                link.refuse(&format!("there is no column '{column}'; name columns that the table has"))
            );
        }
    }
    let filter = source.filter.as_deref().unwrap_or("true");
    link.batch(&format!("EXPLAIN SELECT FROM {} WHERE ({filter})", quoted_table(&source.table)))?;
    let n = source.partition_num.unwrap_or(parallelism);
    let Some(name) = partition_column(source, &table, &mut link)? else {
        let place = |idx| PostgresSplit {
            idx,
            column: PLACE.to_owned(),
            type_name: "tid".to_owned(),
            from: None,
            after: None,
            upto: None,
        };
        return Ok(vec![place(0)]);
    };
    let Some(column) = table.column(&name).cloned() else {
        return Err(
            link.refuse(&format!("there is no partition column '{name}'; name a column that the table has"))
        );
    };
    let key = quoted(&name);
    if !column.is_not_null {
        let sql = format!(
            "SELECT 1 FROM {} WHERE ({filter}) AND {key} IS NULL LIMIT 1",
            quoted_table(&source.table)
        );
        if link.batch(&sql)?.first().is_some() {
            let problem = format!(
                "partition column '{name}' has NULLs, which would not be read: choose another column or leave them out with a filter"
            );
            return Err(link.refuse(&problem));
        }
    }
    let is_integer = INTEGERS.contains(&column.type_oid);
    if !is_integer && source.bounds != (None, None) {
        return Err(link.refuse(&format!(
            "bounds of partition column '{name}' are for integers, and it is {}",
            column.type_name
        )));
    }
    let ends = if n == 1 {
        Vec::new()
    } else if is_integer {
        integer_ends(source, &mut link, &key, filter, n)?
    } else {
        ends(source, &mut link, &key, filter, n)?
    };
    let bound = |bound: Option<i64>| bound.map(|it| it.to_string());
    let starts = std::iter::once(None).chain(ends.iter().cloned().map(Some));
    let all_ends = ends.iter().cloned().map(Some).chain(std::iter::once(bound(source.bounds.1)));
    let split = |(idx, (after, upto)): (usize, (Option<String>, Option<String>))| PostgresSplit {
        idx: idx as u32,
        column: name.clone(),
        type_name: column.type_name.clone(),
        from: bound(source.bounds.0).filter(|_| after.is_none()),
        after,
        upto,
    };
    Ok(starts.zip(all_ends).enumerate().map(split).collect())
}

/// `None` for the place of the row.
fn partition_column<T>(
    source: &PostgresSource<T>,
    table: &TableInfo,
    link: &mut Link,
) -> Result<Option<String>> {
    if let Some(column) = &source.partition_column {
        return Ok(Some(column.clone()));
    }
    if let [only] = table.primary_key.as_slice() {
        return Ok(Some(only.clone()));
    }
    if table.kind == "r" && source.bounds == (None, None) {
        return Ok(None);
    }
    Err(link.refuse("by which column is it to be read? Name one with scan_partition_column"))
}

/// Where parts of the same width end, without the last.
fn integer_ends<T>(
    source: &PostgresSource<T>,
    link: &mut Link,
    key: &str,
    filter: &str,
    n: u32,
) -> Result<Vec<String>> {
    let sql = format!("SELECT min({key}), max({key}) FROM {} WHERE ({filter})", quoted_table(&source.table));
    let found = link.batch(&sql)?;
    let parsed = |idx| found.rows.first().and_then(|row| row.get(idx)?.parse::<i64>().ok());
    let (lower, upper) = (source.bounds.0.or_else(|| parsed(0)), source.bounds.1.or_else(|| parsed(1)));
    let (Some(lower), Some(upper)) = (lower, upper) else { return Ok(Vec::new()) };
    if lower > upper {
        return Err(link.refuse(&format!("the lower bound {lower} is above the upper bound {upper}")));
    }
    let (lower, n_values) = (i128::from(lower), i128::from(upper) - i128::from(lower) + 1);
    let n = i128::from(n).min(n_values);
    Ok((1..n).map(|idx| (lower + n_values * idx / n - 1).to_string()).collect())
}

/// Where parts with about as many rows end, without the last.
fn ends<T>(
    source: &PostgresSource<T>,
    link: &mut Link,
    key: &str,
    filter: &str,
    n: u32,
) -> Result<Vec<String>> {
    let fractions: Vec<String> = (1..n).map(|idx| format!("{}", f64::from(idx) / f64::from(n))).collect();
    let sql = format!(
        "SELECT percentile_disc(ARRAY[{}]::float8[]) WITHIN GROUP (ORDER BY {key})::text FROM {} WHERE ({filter})",
        fractions.join(", "),
        quoted_table(&source.table)
    );
    let found = link.batch(&sql)?;
    let found = elements(found.first().unwrap_or("{}"));
    let mut ends: Vec<String> =
        found.map_err(|error| link.refuse(&error.to_string()))?.into_iter().flatten().collect();
    ends.dedup();
    Ok(ends)
}
