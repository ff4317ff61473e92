//! The steps of the sink as statements.

use super::RealSession;
use crate::PostgresValue;
use crate::client::Row;
use crate::describe::is_of_the_row;
use crate::gid::Gid;
use crate::peer::{Backend, RowOp, Session, Visible};
use crate::schema::{self, ADD_SESSION, LOCK, MINE, NEWER, literal, quoted_table};
use crate::value::put_line;
use flott_connector_sql::{OnBadRow, Owner, RefusedRows, WriteMode, generation};
use flott_types::{Error, ErrorKind, Result};

/// How often to look whether a session has ended, 20 ms apart: half a minute.
const LOOKS_MAX: usize = 1_500;

fn lines(rows: &[RowOp], prefix: &[PostgresValue]) -> Vec<u8> {
    let mut data = Vec::new();
    for row in rows {
        put_line(&mut data, prefix.iter().chain(&row.values));
    }
    data
}

/// Rows of the temporary table have a number, for the last one counts.
fn numbered_lines(rows: &[RowOp]) -> Vec<u8> {
    let mut data = Vec::new();
    for (idx, row) in rows.iter().enumerate() {
        let prefix = [PostgresValue::Integer(idx as i64), PostgresValue::Bool(row.is_delete)];
        put_line(&mut data, prefix.iter().chain(&row.values));
    }
    data
}

impl RealSession {
    fn copy(&mut self, data: &[u8], n_rows: usize) -> Result<()> {
        let sql = schema::copy_statement(
            &self.target.options.mode,
            &self.target.options.table,
            &self.target.options.columns,
        );
        let n_copied = self.client.copy_in(&sql, data).map_err(|error| self.describe(&sql, error))?;
        if n_copied != n_rows as u64 {
            let message = format!(
                "table '{}' took {n_copied} of {n_rows} rows: a trigger of the table drops rows, which this sink does not support",
                self.target.options.table
            );
            return Err(Error::user(message));
        }
        Ok(())
    }

    fn refuse_older(&mut self, owner: &Owner) -> Result<()> {
        let Owner { job, sink, subtask, parallelism, generation: Some(of), .. } = owner else {
            return Ok(());
        };
        let numbers =
            [generation(of.job), *parallelism, *subtask, generation(of.subtask)].map(|it| it.to_string());
        let history = format!("{:032x}", of.history);
        let [job_generation, parallelism, subtask, own] = &numbers;
        let answer = self.query(NEWER, &[job, sink, &history, job_generation, parallelism, subtask, own])?;
        let Some(newer) = answer.first() else { return Ok(()) };
        let message = format!(
            "generation {} of the job cannot write to table '{}' any more with sink '{sink}': generation {newer} does",
            of.subtask, self.target.options.table
        );
        Err(Error::new(ErrorKind::Fenced, message))
    }

    fn take_owners(&mut self, owner: &Owner) -> Result<Vec<Backend>> {
        self.batch(LOCK)?;
        self.refuse_older(owner)?;
        let [subtask, parallelism] = [owner.subtask, owner.parallelism].map(|it| it.to_string());
        let sql = format!("DELETE FROM flott_owners WHERE {MINE}");
        self.query(&sql, &[&owner.job, &owner.sink, &parallelism, &subtask])?;
        let numbers = owner.generation.map(|of| {
            let history = literal(&format!("{:032x}", of.history));
            (history, generation(of.job).to_string(), generation(of.subtask).to_string())
        });
        let null = || "NULL".to_owned();
        let (history, job, own) = numbers.unwrap_or_else(|| (null(), null(), null()));
        let sql = format!(
            "INSERT INTO flott_owners(job, sink, subtask, run, history, job_generation, generation) \
             VALUES($1, $2, $3::bigint, $4, {history}, {job}::bigint, {own}::bigint)"
        );
        self.query(&sql, &[&owner.job, &owner.sink, &subtask, &owner.run])?;
        self.add_session(owner, owner.parallelism)
    }

    /// Returns the other sessions of the subtasks.
    fn add_session(&mut self, owner: &Owner, parallelism: i64) -> Result<Vec<Backend>> {
        let [subtask, parallelism] = [owner.subtask, parallelism].map(|it| it.to_string());
        self.query(ADD_SESSION, &[&owner.job, &owner.sink, &subtask])?;
        let sql =
            format!("SELECT pid, started::text FROM flott_sessions WHERE {MINE} AND pid <> pg_backend_pid()");
        let others = self.query(&sql, &[&owner.job, &owner.sink, &parallelism, &subtask])?;
        let backend =
            |row: &Row| Some(Backend { pid: row.get(0)?.parse().ok()?, started: row.get(1)?.to_owned() });
        Ok(others.rows.iter().filter_map(backend).collect())
    }

    fn join_owner(&mut self, owner: &Owner) -> Result<Vec<Backend>> {
        // The owner's row stays locked until the session is noted, so that a successor sees both or is seen.
        let sql = "SELECT 1 FROM flott_owners WHERE job = $1 AND sink = $2 AND subtask = $3::bigint AND run = $4 FOR SHARE";
        let subtask = owner.subtask.to_string();
        if self.query(sql, &[&owner.job, &owner.sink, &subtask, &owner.run])?.rows.is_empty() {
            return Err(self.fenced(owner));
        }
        self.add_session(owner, owner.parallelism)
    }

    fn fenced(&self, owner: &Owner) -> Error {
        let Owner { subtask, sink, .. } = owner;
        let table = &self.target.options.table;
        let message = format!(
            "another attempt has taken over subtask {subtask} of sink '{sink}', which writes to table '{table}'"
        );
        Error::new(ErrorKind::Fenced, message)
    }

    fn end_one(&mut self, backend: &Backend) -> Result<()> {
        // The start of another user's session is not shown. If it has the number and the user of the one that is looked for it may be that one:
        // then the server refuses to end it, which is an error.
        let sql = "SELECT pg_terminate_backend(a.pid), pg_sleep(0.02) FROM pg_stat_activity AS a \
                   JOIN flott_sessions AS s ON s.pid = a.pid AND s.started = $2::timestamptz WHERE a.pid = $1::int \
                   AND (a.backend_start = s.started OR a.backend_start IS NULL AND a.usesysid = s.role) AND a.pid <> pg_backend_pid()";
        let pid = backend.pid.to_string();
        for _ in 0..LOOKS_MAX {
            if self.query(sql, &[&pid, &backend.started])?.rows.is_empty() {
                let sql = "DELETE FROM flott_sessions WHERE pid = $1::int AND started = $2::timestamptz";
                return self.query(sql, &[&pid, &backend.started]).map(|_| ());
            }
        }
        let message = format!(
            "session {pid} of an earlier attempt, which writes to table '{}' of PostgreSQL database {}, does not end; end it with \
             pg_terminate_backend({pid})",
            self.target.options.table, self.options
        );
        Err(Error::new(ErrorKind::Retry, message))
    }

    /// Writes rows with `put`, in a transaction. If it fails because of a row, the halves are written one after the other, and so on down to that row:
    /// the others are written as if it were not there.
    fn put(
        &mut self,
        rows: &[RowOp],
        on_bad_row: OnBadRow,
        put: &impl Fn(&mut Self, &[RowOp]) -> Result<()>,
    ) -> Result<RefusedRows> {
        if on_bad_row == OnBadRow::Fail {
            return put(self, rows).map(|()| RefusedRows::new());
        }
        self.batch("SAVEPOINT flott_rows")?;
        let error = match put(self, rows) {
            Ok(()) => return self.batch("RELEASE SAVEPOINT flott_rows").map(|_| RefusedRows::new()),
            Err(error) if is_of_the_row(&error) => error,
            Err(error) => return Err(error),
        };
        self.batch("ROLLBACK TO SAVEPOINT flott_rows; RELEASE SAVEPOINT flott_rows")?;
        let (first, second) = rows.split_at(rows.len() / 2);
        if first.is_empty() {
            return Ok(RefusedRows::from([(0, error)]));
        }
        let mut refused = self.put(first, on_bad_row, put)?;
        let behind = self.put(second, on_bad_row, put)?.into_iter();
        refused.extend(behind.map(|(idx, error)| (first.len() + idx, error)));
        Ok(refused)
    }

    fn upsert(&mut self, rows: &[RowOp], on_bad_row: OnBadRow) -> Result<RefusedRows> {
        let WriteMode::Upsert { key } = self.target.options.mode.clone() else {
            return Ok(RefusedRows::new());
        };
        // A new connection does not have the table.
        self.batch(&schema::create_upserted(&self.target.options.table, &self.target.options.columns))?;
        let [delete, insert] =
            schema::upsert_statements(&self.target.options.table, &self.target.options.columns, &key);
        let put = |db: &mut Self, rows: &[RowOp]| {
            db.copy(&numbered_lines(rows), rows.len())?;
            if rows.iter().any(|row| row.is_delete) {
                db.batch(&delete)?;
            }
            db.batch(&insert)?;
            // Others of the same transaction may follow.
            if on_bad_row == OnBadRow::Refuse { db.batch(schema::EMPTY_UPSERTED).map(|_| ()) } else { Ok(()) }
        };
        self.transaction(|db| db.put(rows, on_bad_row, &put))
    }

    /// Whether there was a prepared transaction of the name.
    fn end_prepared(&mut self, sql: &str) -> Result<bool> {
        match self.client.batch(sql) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == "42704" => Ok(false),
            Err(error) => Err(self.describe(sql, error)),
        }
    }
}

impl Session for RealSession {
    fn is_open(&self) -> bool {
        self.client.is_open()
    }

    fn set_up(&mut self, parallelism: i64) -> Result<()> {
        if let WriteMode::Transactional = self.target.options.mode {
            self.check_prepared(parallelism)?;
        }
        self.transaction(Self::create)
    }

    fn claim(&mut self, owner: &Owner) -> Result<Vec<Backend>> {
        self.transaction(|db| db.take_owners(owner))
    }

    fn end(&mut self, backends: &[Backend]) -> Result<()> {
        backends.iter().try_for_each(|backend| self.end_one(backend))
    }

    fn register(&mut self, owner: &Owner) -> Result<Vec<Backend>> {
        self.transaction(|db| db.join_owner(owner))
    }

    fn begin(&mut self) -> Result<()> {
        self.batch("BEGIN").map(|_| ())
    }

    fn write(&mut self, rows: &[RowOp], on_bad_row: OnBadRow) -> Result<RefusedRows> {
        self.put(rows, on_bad_row, &|db, rows| db.copy(&lines(rows, &[]), rows.len()))
    }

    fn prepare(&mut self, owner: &Owner, gid: &Gid, n_rows: u64) -> Result<()> {
        let sql = "INSERT INTO flott_commits(gid, job, sink, subtask, checkpoint, n_rows) \
                   VALUES($1, $2, $3, $4::bigint, $5::bigint, $6::bigint)";
        let [subtask, checkpoint] = [gid.subtask, gid.checkpoint].map(|it| it.to_string());
        self.query(sql, &[&gid.text, &owner.job, &owner.sink, &subtask, &checkpoint, &n_rows.to_string()])?;
        let answer = self.batch(&format!("PREPARE TRANSACTION {}", literal(&gid.text)))?;
        // A transaction that has failed before is rolled back, and the server does not call that an error.
        if answer.tag != "PREPARE TRANSACTION" {
            let table = &self.target.options.table;
            let message = format!("the transaction on table '{table}' was rolled back instead of prepared");
            return Err(Error::new(ErrorKind::Retry, message));
        }
        Ok(())
    }

    fn prepared(&mut self, owner: &Owner) -> Result<Vec<Gid>> {
        let sql = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, $1) ORDER BY gid";
        let answer = self.query(sql, &[&Gid::prefix(owner)])?;
        Ok(answer.rows.iter().filter_map(|row| Gid::parse(owner, row.get(0)?)).collect())
    }

    fn commit_prepared(&mut self, gid: &str) -> Result<bool> {
        self.end_prepared(&format!("COMMIT PREPARED {}", literal(gid)))
    }

    fn roll_back_prepared(&mut self, gid: &str) -> Result<()> {
        self.end_prepared(&format!("ROLLBACK PREPARED {}", literal(gid))).map(|_| ())
    }

    fn is_committed(&mut self, gid: &str) -> Result<bool> {
        Ok(self.query("SELECT 1 FROM flott_commits WHERE gid = $1", &[gid])?.first().is_some())
    }

    fn write_visible(
        &mut self,
        owner: &Owner,
        how: &Visible,
        rows: &[RowOp],
        on_bad_row: OnBadRow,
    ) -> Result<RefusedRows> {
        match how {
            Visible::Marked { checkpoint } => {
                let marks = [
                    PostgresValue::Text(owner.job.clone()),
                    PostgresValue::Text(owner.sink.clone()),
                    PostgresValue::Integer(owner.subtask),
                    PostgresValue::Integer(*checkpoint),
                ];
                let put = |db: &mut Self, rows: &[RowOp]| db.copy(&lines(rows, &marks), rows.len());
                match on_bad_row {
                    OnBadRow::Fail => self.put(rows, on_bad_row, &put),
                    OnBadRow::Refuse => self.transaction(|db| db.put(rows, on_bad_row, &put)),
                }
            }
            Visible::Upserted => self.upsert(rows, on_bad_row),
        }
    }

    fn delete_marked(&mut self, owner: &Owner, from: i64) -> Result<()> {
        let target = quoted_table(&self.target.options.table);
        let [subtask, parallelism, from] = [owner.subtask, owner.parallelism, from].map(|it| it.to_string());
        let parameters: [&str; 5] = [&owner.job, &owner.sink, &parallelism, &subtask, &from];
        self.transaction(|db| {
            let sql = format!(
                "DELETE FROM {target} WHERE flott_job = $1 AND flott_sink = $2 AND flott_subtask % $3::bigint = $4::bigint \
                 AND flott_checkpoint >= $5::bigint"
            );
            db.query(&sql, &parameters)?;
            // All that is left belongs to the restored checkpoint.
            let sql = format!(
                "UPDATE flott_completed SET checkpoint = $5::bigint WHERE {MINE} AND checkpoint > $5::bigint"
            );
            db.query(&sql, &parameters).map(|_| ())
        })
    }

    fn complete(&mut self, owner: &Owner, subtask: i64, checkpoint: i64) -> Result<()> {
        let [own, subtask, checkpoint] = [owner.subtask, subtask, checkpoint].map(|it| it.to_string());
        // The owner's row stays locked, so that no successor comes between.
        let sql = "INSERT INTO flott_completed(job, sink, subtask, checkpoint) \
                   SELECT $1, $2, $3::bigint, $4::bigint FROM (SELECT 1 FROM flott_owners WHERE job = $1 AND sink = $2 \
                   AND subtask = $5::bigint AND run = $6 FOR SHARE) AS o ON CONFLICT(job, sink, subtask) \
                   DO UPDATE SET checkpoint = GREATEST(flott_completed.checkpoint, excluded.checkpoint)";
        let answer = self.query(sql, &[&owner.job, &owner.sink, &subtask, &checkpoint, &own, &owner.run])?;
        if answer.n_changed() == 0 { Err(self.fenced(owner)) } else { Ok(()) }
    }
}
