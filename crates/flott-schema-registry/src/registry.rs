//! What users and formats see.

use crate::client::Client;
use crate::config::{Config, Secret};
use crate::schema::Schema;
use flott_types::Result;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A schema registry: Confluent's, or another that speaks its protocol.
///
/// Copies share what was looked up. Nothing is asked before a format is used.
#[derive(Clone)]
pub struct SchemaRegistry(Arc<Client>);

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.config.fmt(formatter)
    }
}

impl SchemaRegistry {
    /// `url`: where the registry is, `http://host:8081` for example; several, separated by commas, are tried in turn. A user and password
    /// in it are as [`SchemaRegistry::basic_auth`].
    pub fn new(url: &str) -> Self {
        Self(Arc::new(Client::new(Config::new(url))))
    }

    fn with(self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.0.config.clone();
        change(&mut config);
        Self(Arc::new(Client::new(config)))
    }

    /// `basic-auth.user-info`: who asks.
    #[must_use]
    pub fn basic_auth(self, user: &str, password: &str) -> Self {
        self.with(|config| config.set_basic_auth(user, password))
    }

    /// `bearer-auth.token`: what proves who asks.
    #[must_use]
    pub fn bearer_token(self, token: &str) -> Self {
        self.with(|config| config.authorization = Some(Secret(format!("Bearer {token}"))))
    }

    /// How long an answer may take: 10 s unless said otherwise.
    #[must_use]
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.with(|config| config.request_timeout = timeout)
    }

    /// How often is asked again if there is no answer, or one that says that the server is in trouble, and how long the first wait is before
    /// that; it doubles. 3 times and 100 ms unless said otherwise. Then the job fails, and its restart strategy decides.
    #[must_use]
    pub fn retries(self, retries: u32, first_wait: Duration) -> Self {
        self.with(|config| (config.retries, config.retry_wait) = (retries, first_wait))
    }

    /// Whom to trust with `https`, as certificates in PEM, instead of those that browsers trust.
    #[must_use]
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        let pem = pem.into();
        self.with(|config| config.root_certificates = Some(pem))
    }

    /// The schema of this id, or `None` if the registry says that there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`](flott_types::ErrorKind) if there is no answer.
    pub fn schema(&self, id: u32) -> Result<Option<Schema>> {
        self.0.schema(id)
    }

    /// A version of a subject.
    ///
    /// # Errors
    /// As [`SchemaRegistry::schema`], and if there is none.
    pub fn version(&self, subject: &str, version: u32) -> Result<Schema> {
        self.0.version(subject, version)
    }

    /// The id of a schema under a subject, which gets it as its newest version if it does not have it.
    ///
    /// # Errors
    /// As [`SchemaRegistry::schema`], and if the registry does not take it: it is no schema, or not compatible with earlier versions.
    pub fn register(&self, subject: &str, schema: &Schema) -> Result<u32> {
        self.0.register(subject, schema)
    }
}
