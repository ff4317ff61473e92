//! A connection that reads, and what messages say about it.

use crate::client::{Answer, Client, PgError};
use crate::describe::{describe, describe_connect};
use crate::options::ConnectionOptions;
use flott_types::{Error, Result};

/// A connection for one table.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) options: ConnectionOptions,
    /// As the user writes it.
    pub(crate) table: String,
}

impl Link {
    pub(crate) fn connect(options: &ConnectionOptions, table: &str) -> Result<Self> {
        let client = Client::connect(options).map_err(|error| describe_connect(options, error))?;
        Ok(Self { client, options: options.clone(), table: table.to_owned() })
    }

    pub(crate) fn batch(&mut self, sql: &str) -> Result<Answer> {
        self.client.batch(sql).map_err(|error| self.describe(sql, error))
    }

    pub(crate) fn query(&mut self, sql: &str, parameters: &[&str]) -> Result<Answer> {
        let parameters: Vec<_> = parameters.iter().map(|it| Some(*it)).collect();
        self.client.query(sql, &parameters).map_err(|error| self.describe(sql, error))
    }

    pub(crate) fn describe(&self, statement: &str, error: PgError) -> Error {
        describe(&self.options, &self.table, statement, error)
    }

    /// An error about what the user has said of the table.
    pub(crate) fn refuse(&self, problem: &str) -> Error {
        Error::user(format!("table '{}' of PostgreSQL database {}: {problem}", self.table, self.options))
    }
}
