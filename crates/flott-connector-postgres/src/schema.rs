//! The statements of the sink. Everything that it adds to a database begins with `flott_`, but for the view of committed rows.

use flott_connector_sql::WriteMode;

/// The columns that mark rows of the eager mode, with their types.
pub(crate) const MARKS: [(&str, &str); 4] = [
    ("flott_job", "TEXT"),
    ("flott_sink", "TEXT"),
    ("flott_subtask", "BIGINT"),
    ("flott_checkpoint", "BIGINT"),
];

/// The temporary table of a session that upserts.
const UPSERTED: &str = "pg_temp.flott_upserted";

/// Makes room in it for other rows of the same transaction.
pub(crate) const EMPTY_UPSERTED: &str = "DELETE FROM pg_temp.flott_upserted";

/// Tables of the sink. In `flott_sessions` are those of writers that are not known to have ended.
pub(crate) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS flott_owners(
        job TEXT NOT NULL, sink TEXT NOT NULL, subtask BIGINT NOT NULL, run TEXT NOT NULL, history TEXT, job_generation BIGINT,
        generation BIGINT, PRIMARY KEY(job, sink, subtask));
    CREATE TABLE IF NOT EXISTS flott_sessions(
        pid INTEGER NOT NULL, started TIMESTAMPTZ NOT NULL, role OID NOT NULL, job TEXT NOT NULL, sink TEXT NOT NULL, subtask BIGINT NOT NULL,
        PRIMARY KEY(pid, started));
    CREATE TABLE IF NOT EXISTS flott_commits(
        gid TEXT PRIMARY KEY, job TEXT NOT NULL, sink TEXT NOT NULL, subtask BIGINT NOT NULL, checkpoint BIGINT NOT NULL,
        n_rows BIGINT NOT NULL, prepared_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE IF NOT EXISTS flott_completed(
        job TEXT NOT NULL, sink TEXT NOT NULL, subtask BIGINT NOT NULL, checkpoint BIGINT NOT NULL,
        PRIMARY KEY(job, sink, subtask));";

/// Takes the lock under which tables are made and owners change; until the end of the transaction. The server ends the session of a process that
/// stands still meanwhile: others, its successors among them, would wait for as long as it does.
pub(crate) const LOCK: &str = "SET LOCAL idle_in_transaction_session_timeout = '5s'; \
     SELECT pg_advisory_xact_lock(7811887315229736011)";

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn literal(text: &str) -> String {
    // With a backslash inside, the form that does not depend on a setting of the server.
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A table's name as the user writes it: `name` or `schema.name`.
pub(crate) fn quoted_table(table: &str) -> String {
    match table.split_once('.') {
        Some((schema, name)) => format!("{}.{}", quoted(schema), quoted(name)),
        None => quoted(table),
    }
}

/// `table` with something behind its name.
pub(crate) fn beside(table: &str, suffix: &str) -> String {
    quoted_table(&format!("{table}{suffix}"))
}

/// Rows of complete checkpoints, and those that were in the table without the sink.
pub(crate) fn create_view(table: &str, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("r.{}", quoted(column))).collect();
    format!(
        "CREATE OR REPLACE VIEW {} AS SELECT {} FROM {} AS r WHERE r.flott_job IS NULL OR r.flott_checkpoint < (SELECT c.checkpoint \
         FROM flott_completed AS c WHERE c.job = r.flott_job AND c.sink = r.flott_sink AND c.subtask = r.flott_subtask)",
        beside(table, "_committed"),
        columns.join(", "),
        quoted_table(table)
    )
}

/// Takes rows as COPY's text format.
pub(crate) fn copy_statement(mode: &WriteMode, table: &str, columns: &[String]) -> String {
    let names = columns.iter().map(String::as_str);
    match mode {
        WriteMode::Transactional => {
            format!("COPY {}({}) FROM STDIN", quoted_table(table), quoted_list(names))
        }
        WriteMode::Eager => {
            let all = MARKS.iter().map(|(name, _)| *name).chain(names);
            format!("COPY {}({}) FROM STDIN", quoted_table(table), quoted_list(all))
        }
        WriteMode::Upsert { .. } => {
            format!("COPY {UPSERTED}(flott_n, flott_is_delete, {}) FROM STDIN", quoted_list(names))
        }
    }
}

/// The temporary table has the target's types, and is empty after each transaction.
pub(crate) fn create_upserted(table: &str, columns: &[String]) -> String {
    let names = quoted_list(columns.iter().map(String::as_str));
    format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS flott_upserted ON COMMIT DELETE ROWS AS \
         SELECT 0::bigint AS flott_n, false AS flott_is_delete, {names} FROM {} WITH NO DATA",
        quoted_table(table)
    )
}

/// Makes of the temporary table's rows what becomes of the target: of several rows with a key the last one counts, as equality is for the
/// server. In the order of keys, so that two subtasks do not wait for each other.
pub(crate) fn upsert_statements(table: &str, columns: &[String], key: &[String]) -> [String; 2] {
    let (target, names) = (quoted_table(table), quoted_list(columns.iter().map(String::as_str)));
    let key_names = quoted_list(key.iter().map(String::as_str));
    let last = format!(
        "SELECT DISTINCT ON ({key_names}) flott_is_delete, {names} FROM {UPSERTED} ORDER BY {key_names}, flott_n DESC"
    );
    let same: Vec<String> = key.iter().map(|it| format!("t.{0} = l.{0}", quoted(it))).collect();
    let delete = format!(
        "DELETE FROM {target} AS t USING ({last}) AS l WHERE l.flott_is_delete AND {}",
        same.join(" AND ")
    );
    let set: Vec<String> = columns
        .iter()
        .filter(|column| !key.contains(column))
        .map(|column| format!("{0} = excluded.{0}", quoted(column)))
        .collect();
    let update = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
    let insert = format!(
        "INSERT INTO {target}({names}) SELECT {names} FROM ({last}) AS l WHERE NOT l.flott_is_delete \
         ON CONFLICT({key_names}) DO {update}"
    );
    [delete, insert]
}

/// Whether a later generation has been here. Of the whole sink, since at another parallelism its subtasks stood for others; and of the subtasks
/// that this one stands for, since a region can start again by itself.
pub(crate) const NEWER: &str = "SELECT GREATEST(job_generation, generation) FROM flott_owners WHERE job = $1 AND sink = $2 AND history = $3 \
     AND (job_generation > $4::bigint OR (subtask % $5::bigint = $6::bigint AND generation > $7::bigint)) LIMIT 1";

/// Those for which a subtask stands.
pub(crate) const MINE: &str = "job = $1 AND sink = $2 AND subtask % $3::bigint = $4::bigint";

/// Notes the session that executes it.
pub(crate) const ADD_SESSION: &str = "INSERT INTO flott_sessions(pid, started, role, job, sink, subtask) \
     SELECT pid, backend_start, usesysid, $1, $2, $3::bigint FROM pg_stat_activity WHERE pid = pg_backend_pid() ON CONFLICT DO NOTHING";
