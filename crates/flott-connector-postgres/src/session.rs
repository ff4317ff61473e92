//! A session with a real database.

mod steps;

use crate::client::{Answer, Client, PgError};
use crate::describe::{PREPARED_REMEDY, describe, describe_connect};
use crate::options::ConnectionOptions;
use crate::peer::{Peer, Session};
use crate::schema::{self, MARKS, beside, quoted_table};
use flott_connector_sql::{TableOptions, WriteMode};
use flott_types::{Error, Result};
use std::time::Duration;

/// What the sink writes to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) options: TableOptions,
    pub(crate) lock_timeout: Duration,
}

/// A database and what is written to it.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    options: ConnectionOptions,
    target: Target,
}

impl Database {
    pub(crate) fn new(options: ConnectionOptions, target: Target) -> Self {
        Self { options, target }
    }
}

impl Peer for Database {
    fn connect(&self) -> Result<Box<dyn Session>> {
        let client =
            Client::connect(&self.options).map_err(|error| describe_connect(&self.options, error))?;
        let mut session = RealSession { client, options: self.options.clone(), target: self.target.clone() };
        session.configure()?;
        Ok(Box::new(session))
    }
}

/// A connection, and what messages say about it.
#[derive(Debug)]
struct RealSession {
    client: Client,
    options: ConnectionOptions,
    target: Target,
}

impl RealSession {
    /// Settings that not every version of the server has, and the promise that what is committed is durable, which a server may leave out.
    fn configure(&mut self) -> Result<()> {
        let lock_timeout = self.target.lock_timeout.as_millis();
        let sql = format!(
            "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout') UNION ALL \
             SELECT set_config('lock_timeout', '{lock_timeout}', false) UNION ALL \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        );
        self.batch(&sql).map(|_| ())
    }

    fn describe(&self, statement: &str, error: PgError) -> Error {
        describe(&self.options, &self.target.options.table, statement, error)
    }

    fn batch(&mut self, sql: &str) -> Result<Answer> {
        self.client.batch(sql).map_err(|error| self.describe(sql, error))
    }

    fn query(&mut self, sql: &str, parameters: &[&str]) -> Result<Answer> {
        let parameters: Vec<_> = parameters.iter().map(|it| Some(*it)).collect();
        self.client.query(sql, &parameters).map_err(|error| self.describe(sql, error))
    }

    /// Does `f` in one transaction.
    fn transaction<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.batch("BEGIN")?;
        match f(self) {
            Ok(result) => self.batch("COMMIT").map(|_| result),
            Err(error) => {
                // If it cannot be said, the connection is gone, and the transaction with it.
                if self.client.is_open() {
                    self.batch("ROLLBACK").ok();
                }
                Err(error)
            }
        }
    }

    /// Whether a table, an index or a view of this name is there. What is there is not altered: that would wait for prepared transactions.
    fn has(&mut self, name: &str) -> Result<bool> {
        let answer = self.query("SELECT to_regclass($1)::text", &[name])?;
        Ok(answer.first().is_some())
    }

    fn create(&mut self) -> Result<()> {
        self.batch(schema::LOCK)?;
        if let Some(sql) = self.target.options.create_table.clone() {
            self.batch(&sql)?;
        }
        for name in ["flott_owners", "flott_sessions", "flott_commits", "flott_completed"] {
            if !self.has(name)? {
                self.batch(schema::TABLES)?;
            }
        }
        let TableOptions { table, columns, mode, .. } = self.target.options.clone();
        let target = quoted_table(&table);
        let names = schema::quoted_list(columns.iter().map(String::as_str));
        // Fails now if there is no such table or column, and not with the first record.
        self.batch(&format!("SELECT {names} FROM {target} LIMIT 0"))?;
        match mode {
            WriteMode::Transactional => Ok(()),
            WriteMode::Eager => self.create_marks(&table, &columns),
            WriteMode::Upsert { key } => {
                self.batch(&schema::create_upserted(&table, &columns))?;
                for sql in schema::upsert_statements(&table, &columns, &key) {
                    self.batch(&format!("EXPLAIN {sql}"))?;
                }
                Ok(())
            }
        }
    }

    fn create_marks(&mut self, table: &str, columns: &[String]) -> Result<()> {
        let target = quoted_table(table);
        let sql = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND NOT attisdropped AND attnum > 0";
        let present = self.query(sql, &[&target])?;
        for (name, type_name) in MARKS {
            if !present.rows.iter().any(|row| row.get(0) == Some(name)) {
                self.batch(&format!("ALTER TABLE {target} ADD COLUMN {name} {type_name}"))?;
            }
        }
        if !self.has(&beside(table, "_flott_marks"))? {
            // An index is in the schema of its table.
            let name = table.split_once('.').map_or(table, |(_, name)| name);
            let index = schema::quoted(&format!("{name}_flott_marks"));
            let marks = MARKS.map(|(name, _)| name).join(", ");
            self.batch(&format!("CREATE INDEX {index} ON {target}({marks})"))?;
        }
        if self.has(&beside(table, "_committed"))? {
            let view = beside(table, "_committed");
            let names = schema::quoted_list(columns.iter().map(String::as_str));
            if self.client.batch(&format!("SAVEPOINT a; SELECT {names} FROM {view} LIMIT 0")).is_ok() {
                return Ok(());
            }
            self.batch(&format!("ROLLBACK TO SAVEPOINT a; DROP VIEW {view}"))?;
        }
        self.batch(&schema::create_view(table, columns)).map(|_| ())
    }

    /// Refuses servers on which the first barrier would fail, or one of those after it.
    fn check_prepared(&mut self, parallelism: i64) -> Result<()> {
        let answer = self.batch("SHOW max_prepared_transactions")?;
        let n_max: i64 = answer.first().and_then(|it| it.parse().ok()).unwrap_or(0);
        // One that waits for its checkpoint to be complete, and one of a checkpoint that was aborted.
        let needed = parallelism.saturating_mul(2);
        if n_max < needed {
            let problem = if n_max == 0 {
                "it does not allow prepared transactions".to_owned()
            } else {
                format!("it allows {n_max} prepared transactions, and {parallelism} subtasks need {needed}")
            };
            return Err(Error::user(format!(
                "PostgreSQL database {} cannot be written to transactionally (table '{}'): {problem}; {PREPARED_REMEDY}, or choose \
                 PostgresSink::eager or PostgresSink::upsert_by",
                self.options, self.target.options.table
            )));
        }
        Ok(())
    }
}
