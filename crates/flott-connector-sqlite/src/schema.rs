//! The statements. Everything that the sink adds to a database begins with `flott_`, but for the view of committed rows.

use crate::database::Statements;
use flott_connector_sql::{Owner, TableOptions, WriteMode, generation, number};
use flott_types::{CheckpointId, Error, ErrorKind, Result};
use rusqlite::params;

/// The columns that mark rows of the eager mode.
const MARKS: [&str; 4] = ["flott_job", "flott_sink", "flott_subtask", "flott_checkpoint"];

/// Columns of `flott_owners` that databases of earlier versions lack.
const GENERATION: [&str; 3] = ["history", "job_generation", "generation"];

/// Tables of the sink. A batch is what a subtask writes between two barriers; ids of batches are never used again.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS flott_owners(
        job TEXT NOT NULL, sink TEXT NOT NULL, subtask INTEGER NOT NULL, run TEXT NOT NULL,
        PRIMARY KEY(job, sink, subtask));
    CREATE TABLE IF NOT EXISTS flott_batches(
        id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL, job TEXT NOT NULL, sink TEXT NOT NULL, subtask INTEGER NOT NULL,
        checkpoint INTEGER NOT NULL, target TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS flott_commits(
        committable TEXT PRIMARY KEY, job TEXT NOT NULL, sink TEXT NOT NULL, subtask INTEGER NOT NULL, checkpoint INTEGER NOT NULL,
        n_rows INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS flott_completed(
        job TEXT NOT NULL, sink TEXT NOT NULL, subtask INTEGER NOT NULL, checkpoint INTEGER NOT NULL,
        PRIMARY KEY(job, sink, subtask));";

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

fn staged(table: &str) -> String {
    quoted(&format!("flott_staged_{table}"))
}

/// Creates what is missing, and checks that the target accepts the statement of the mode.
pub(crate) fn create(db: &Statements<'_>, options: &TableOptions) -> Result<()> {
    let TableOptions { mode, columns, create_table, .. } = options;
    if let Some(sql) = create_table {
        db.batch(sql)?;
    }
    db.batch(TABLES)?;
    add_columns(db, "flott_owners", GENERATION)?;
    let target = quoted(db.table());
    let names = || columns.iter().map(String::as_str);
    match mode {
        WriteMode::Transactional => {
            let staged = staged(db.table());
            db.batch(&format!("CREATE TABLE IF NOT EXISTS {staged}(flott_batch INTEGER NOT NULL)"))?;
            add_columns(db, &format!("flott_staged_{}", db.table()), names())?;
            let index = quoted(&format!("flott_staged_{}_batch", db.table()));
            db.batch(&format!("CREATE INDEX IF NOT EXISTS {index} ON {staged}(flott_batch)"))?;
            // Fails now if the target lacks a column, not when the first checkpoint is committed.
            db.execute(&format!("{} WHERE FALSE", move_statement(db.table(), columns)), params![0])
                .map(|_| ())
        }
        WriteMode::Eager => {
            add_columns(db, db.table(), MARKS)?;
            let index = quoted(&format!("flott_marks_{}", db.table()));
            db.batch(&format!("CREATE INDEX IF NOT EXISTS {index} ON {target}({})", MARKS.join(", ")))?;
            create_view(db, columns)
        }
        WriteMode::Upsert { .. } => Ok(()),
    }?;
    db.query(&format!("EXPLAIN {}", insert_statement(options)), nulls(mode, columns), |_| Ok(())).map(|_| ())
}

/// As many parameters as the statement has.
fn nulls(mode: &WriteMode, columns: &[String]) -> impl rusqlite::Params {
    let n = columns.len() + insert_prefix(mode).len();
    rusqlite::params_from_iter(std::iter::repeat_n(rusqlite::types::Null, n))
}

fn add_columns<'a>(db: &Statements<'_>, table: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let present: Vec<String> =
        db.query("SELECT name FROM pragma_table_info(?)", [table], |row| row.get(0))?;
    for name in names {
        if !present.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            db.batch(&format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), quoted(name)))?;
        }
    }
    Ok(())
}

/// Rows of complete checkpoints, and those that were in the table without the sink.
fn create_view(db: &Statements<'_>, columns: &[String]) -> Result<()> {
    let name = format!("{}_committed", db.table());
    let columns: Vec<String> = columns.iter().map(|column| format!("r.{}", quoted(column))).collect();
    let sql = format!(
        "CREATE VIEW {} AS SELECT {} FROM {} AS r WHERE r.flott_job IS NULL OR r.flott_checkpoint < (SELECT c.checkpoint \
         FROM flott_completed AS c WHERE c.job = r.flott_job AND c.sink = r.flott_sink AND c.subtask = r.flott_subtask)",
        quoted(&name),
        columns.join(", "),
        quoted(db.table())
    );
    let present: Vec<String> =
        db.query("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = ?", [&name], |row| {
            row.get(0)
        })?;
    if present.first() != Some(&sql) {
        db.batch(&format!("DROP VIEW IF EXISTS {}; {sql}", quoted(&name)))?;
    }
    Ok(())
}

/// The columns before those of the record.
pub(crate) fn insert_prefix(mode: &WriteMode) -> &'static [&'static str] {
    match mode {
        WriteMode::Transactional => &["flott_batch"],
        WriteMode::Eager => &MARKS,
        WriteMode::Upsert { .. } => &[],
    }
}

/// Writes one row into the target as it will be written when it is committed.
pub(crate) fn trial_statement(TableOptions { table, columns, .. }: &TableOptions) -> String {
    let values = vec!["?"; columns.len()].join(", ");
    format!(
        "INSERT INTO {}({}) VALUES({values})",
        quoted(table),
        quoted_list(columns.iter().map(String::as_str))
    )
}

/// Writes one row.
pub(crate) fn insert_statement(TableOptions { mode, table, columns, .. }: &TableOptions) -> String {
    let prefix = insert_prefix(mode);
    let all = || prefix.iter().copied().chain(columns.iter().map(String::as_str));
    let target = match mode {
        WriteMode::Transactional => staged(table),
        WriteMode::Eager | WriteMode::Upsert { .. } => quoted(table),
    };
    let values = vec!["?"; all().count()].join(", ");
    let insert = format!("INSERT INTO {target}({}) VALUES({values})", quoted_list(all()));
    match mode {
        WriteMode::Transactional | WriteMode::Eager => insert,
        WriteMode::Upsert { key } => {
            let is_key = |column: &&String| key.iter().any(|it| it.eq_ignore_ascii_case(column));
            let set: Vec<String> = columns
                .iter()
                .filter(|column| !is_key(column))
                .map(|column| format!("{0} = excluded.{0}", quoted(column)))
                .collect();
            let update =
                if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
            let key = quoted_list(key.iter().map(String::as_str));
            format!("{insert} ON CONFLICT({key}) DO {update}")
        }
    }
}

/// Without the condition on the batch, which is the parameter.
fn move_statement(table: &str, columns: &[String]) -> String {
    let columns = quoted_list(columns.iter().map(String::as_str));
    format!(
        "INSERT INTO {}({columns}) SELECT {columns} FROM {} AS s JOIN (SELECT ? AS it) AS b ON s.flott_batch = b.it",
        quoted(table),
        staged(table)
    )
}

/// Takes a subtask over, with those of an earlier attempt for which it stands, and removes what belongs to no checkpoint up to `restored`.
pub(crate) fn take_over(
    db: &Statements<'_>,
    owner: &Owner,
    mode: &WriteMode,
    restored: Option<CheckpointId>,
) -> Result<()> {
    const MINE: &str = "job = ?1 AND sink = ?2 AND subtask % ?3 = ?4";
    let Owner { job, sink, subtask, parallelism, run, generation: of } = owner;
    refuse_older(db, owner)?;
    db.execute(&format!("DELETE FROM flott_owners WHERE {MINE}"), params![job, sink, parallelism, subtask])?;
    db.execute(
        "INSERT INTO flott_owners(job, sink, subtask, run, history, job_generation, generation) VALUES(?, ?, ?, ?, ?, ?, ?)",
        params![
            job,
            sink,
            subtask,
            run,
            of.map(|of| format!("{:032x}", of.history)),
            of.map(|of| generation(of.job)),
            of.map(|of| generation(of.subtask))
        ],
    )?;
    let from = restored.map_or(0, number);
    let batches = db.query(
        &format!("SELECT id, target FROM flott_batches WHERE {MINE} AND checkpoint >= ?5"),
        params![job, sink, parallelism, subtask, from],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
    )?;
    for (id, target) in batches {
        delete_batch(db, id, &target)?;
    }
    if let WriteMode::Eager = mode {
        let sql = format!(
            "DELETE FROM {} WHERE flott_job = ?1 AND flott_sink = ?2 AND flott_subtask % ?3 = ?4 AND flott_checkpoint >= ?5",
            quoted(db.table())
        );
        db.execute(&sql, params![job, sink, parallelism, subtask, from])?;
        // All that is left belongs to the restored checkpoint.
        let sql = format!("UPDATE flott_completed SET checkpoint = ?5 WHERE {MINE} AND checkpoint > ?5");
        db.execute(&sql, params![job, sink, parallelism, subtask, from])?;
    }
    Ok(())
}

/// Fails if a later attempt has begun, to which this one would do harm: it was believed dead and wakes up. Of the whole sink, since at another
/// parallelism its subtasks stood for others; and of the subtasks that this one stands for, since a region can start again by itself.
fn refuse_older(db: &Statements<'_>, owner: &Owner) -> Result<()> {
    let Owner { job, sink, subtask, parallelism, generation: Some(of), .. } = owner else { return Ok(()) };
    let sql = "SELECT max(job_generation, generation) FROM flott_owners WHERE job = ?1 AND sink = ?2 AND history = ?3 \
               AND (job_generation > ?4 OR (subtask % ?5 = ?6 AND generation > ?7)) LIMIT 1";
    let history = format!("{:032x}", of.history);
    let numbers =
        params![job, sink, history, generation(of.job), parallelism, subtask, generation(of.subtask)];
    let Some(newer) = db.query(sql, numbers, |row| row.get::<_, i64>(0))?.pop() else { return Ok(()) };
    let message = format!(
        "generation {} of the job cannot write to table '{}' any more with sink '{sink}': generation {newer} does",
        of.subtask,
        db.table()
    );
    Err(Error::new(ErrorKind::Fenced, message))
}

/// Fails if another attempt has taken the subtask over.
pub(crate) fn check_owner(db: &Statements<'_>, owner: &Owner) -> Result<()> {
    let Owner { job, sink, subtask, run, .. } = owner;
    let sql = "SELECT 1 FROM flott_owners WHERE job = ? AND sink = ? AND subtask = ? AND run = ?";
    if db.query(sql, params![job, sink, subtask, run], |_| Ok(()))?.is_empty() {
        let message = format!(
            "another attempt has taken over subtask {subtask} of sink '{sink}', which writes to table '{}'",
            db.table()
        );
        return Err(Error::new(ErrorKind::Fenced, message));
    }
    Ok(())
}

pub(crate) fn begin_batch(
    db: &Statements<'_>,
    owner: &Owner,
    token: &str,
    mark: CheckpointId,
) -> Result<i64> {
    let sql =
        "INSERT INTO flott_batches(token, job, sink, subtask, checkpoint, target) VALUES(?, ?, ?, ?, ?, ?)";
    let Owner { job, sink, subtask, .. } = owner;
    db.execute(sql, params![token, job, sink, subtask, number(mark), db.table()])?;
    Ok(db.last_id())
}

/// Whether the batch waits to be committed.
pub(crate) fn has_batch(db: &Statements<'_>, id: i64, token: &str) -> Result<bool> {
    let found =
        db.query("SELECT 1 FROM flott_batches WHERE id = ? AND token = ?", params![id, token], |_| Ok(()))?;
    Ok(!found.is_empty())
}

/// Moves the rows of a batch to the target, in the order in which they were written; returns how many.
pub(crate) fn move_batch(db: &Statements<'_>, id: i64, table: &str, columns: &[String]) -> Result<usize> {
    let n_rows = db.execute(&format!("{} ORDER BY s.rowid", move_statement(table, columns)), params![id])?;
    delete_batch(db, id, table)?;
    Ok(n_rows)
}

fn delete_batch(db: &Statements<'_>, id: i64, table: &str) -> Result<()> {
    db.execute(&format!("DELETE FROM {} WHERE flott_batch = ?", staged(table)), params![id])?;
    db.execute("DELETE FROM flott_batches WHERE id = ?", params![id]).map(|_| ())
}
