//! How records become rows.

use flott_api::UserResult;
use serde::Serialize;

/// The row of a record whose fields have the names of the columns; `value` makes a value of the database of a field. `with_row` is what to use for
/// records without fields.
///
/// # Errors
/// If the record has no fields, lacks one of these, or has one that cannot be a value.
pub fn row_of_fields<T: Serialize, V>(
    record: &T,
    columns: &[String],
    with_row: &str,
    value: impl Fn(serde_json::Value) -> Result<V, String>,
) -> UserResult<Vec<V>> {
    let serde_json::Value::Object(mut fields) = serde_json::to_value(record)? else {
        return Err(format!("a record without fields has no columns: use {with_row}").into());
    };
    let field = |column: &String| {
        let field = fields.remove(column).ok_or_else(|| format!("the record has no field '{column}'"))?;
        value(field).map_err(|problem| format!("field '{column}': {problem}").into())
    };
    columns.iter().map(field).collect()
}

/// The row, if it has as many values as there are columns.
///
/// # Errors
/// If it has more or fewer.
pub fn of_columns<V>(row: Vec<V>, columns: &[String]) -> UserResult<Vec<V>> {
    if row.len() != columns.len() {
        return Err(format!("the row has {} values for {} columns", row.len(), columns.len()).into());
    }
    Ok(row)
}
