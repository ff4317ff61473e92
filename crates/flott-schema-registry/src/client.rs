//! What a registry is asked, and what its answers mean.

use crate::config::Config;
use crate::http::{Answer, Http, wait};
use crate::schema::Schema;
use flott_types::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// So many schemas are kept, and as many ids; when there are more, all are forgotten.
const CACHED_MAX: usize = 1_000;

/// The registry has no schema of this id.
const SCHEMA_NOT_FOUND: u32 = 40_403;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: Config,
    http: OnceLock<Http>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    schemas: BTreeMap<u32, Schema>,
    /// By subject and schema.
    ids: BTreeMap<(String, Schema), u32>,
}

/// What stands in an answer that is not a success.
#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

impl Client {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, http: OnceLock::new(), cache: Mutex::default() }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn schema(&self, id: u32) -> Result<Option<Schema>> {
        if let Some(schema) = self.cache().schemas.get(&id) {
            return Ok(Some(schema.clone()));
        }
        let what = format!("look up schema {id}");
        let answer = self.ask(&what, &format!("/schemas/ids/{id}"), None)?;
        if let Some(Refusal { error_code: SCHEMA_NOT_FOUND, .. }) = refusal(&answer) {
            return Ok(None);
        }
        let schema: Schema = self.success(&what, &answer)?;
        let mut cache = self.cache();
        if cache.schemas.len() >= CACHED_MAX {
            cache.schemas.clear();
        }
        cache.schemas.insert(id, schema.clone());
        Ok(Some(schema))
    }

    pub(crate) fn version(&self, subject: &str, version: u32) -> Result<Schema> {
        let what = format!("look up version {version} of subject '{subject}'");
        let answer = self.ask(&what, &format!("/subjects/{}/versions/{version}", escaped(subject)), None)?;
        self.success(&what, &answer)
    }

    pub(crate) fn register(&self, subject: &str, schema: &Schema) -> Result<u32> {
        let key = (subject.to_owned(), schema.clone());
        if let Some(id) = self.cache().ids.get(&key) {
            return Ok(*id);
        }
        let what = format!("register a schema under subject '{subject}'");
        let body = serde_json::to_vec(schema)
            .map_err(|error| Error::user("cannot write a schema").with_source(error))?;
        let answer = self.ask(&what, &format!("/subjects/{}/versions", escaped(subject)), Some(&body))?;
        let Registered { id } = self.success(&what, &answer)?;
        let mut cache = self.cache();
        if cache.ids.len() >= CACHED_MAX {
            cache.ids.clear();
        }
        cache.ids.insert(key, id);
        Ok(id)
    }

    /// Asks the servers in turn until one answers with something other than its own trouble.
    fn ask(&self, what: &str, path: &str, body: Option<&[u8]>) -> Result<Answer> {
        let http = match self.http.get() {
            Some(http) => http,
            None => {
                let http = Http::new(&self.config)?;
                self.http.get_or_init(|| http)
            }
        };
        let mut last_error = Error::user(format!("cannot {what}: no URL of a schema registry was given"));
        for attempt in 0..=self.config.retries {
            if attempt > 0 && last_error.kind() == ErrorKind::Retry {
                tracing::warn!("{}; trying again", last_error.report());
                wait(self.config.retry_wait.saturating_mul(1 << (attempt - 1).min(10)));
            }
            for url in &self.config.urls {
                match http.ask(&format!("{url}{path}"), body) {
                    Ok(answer) if !is_trouble(&answer) => return Ok(answer),
                    Ok(answer) => last_error = self.refused(ErrorKind::Retry, what, url, &answer),
                    Err(error) => last_error = unanswered(what, url, error),
                }
            }
            if last_error.kind() != ErrorKind::Retry {
                break;
            }
        }
        Err(last_error)
    }

    fn success<T: DeserializeOwned>(&self, what: &str, answer: &Answer) -> Result<T> {
        let urls = self.config.urls.join(", ");
        if !(200..300).contains(&answer.status) {
            return Err(self.refused(ErrorKind::UserError, what, &urls, answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("cannot {what}: what answers at {urls} is no schema registry");
            Error::user(message).with_source(error)
        })
    }

    fn refused(&self, kind: ErrorKind, what: &str, url: &str, answer: &Answer) -> Error {
        let status = answer.status;
        let said = match refusal(answer) {
            Some(Refusal { error_code, message }) => format!("{message} (error {error_code})"),
            None => String::from_utf8_lossy(answer.body.get(..200).unwrap_or(&answer.body)).into_owned(),
        };
        let remedy = match (status, &self.config.authorization) {
            (401 | 403, None) => "; it asks for a user: say basic_auth or bearer_token",
            (401 | 403, Some(_)) => "; look at the user's password and rights",
            (404, _) => "; is that the registry's URL?",
            (409, _) => {
                "; change the schema so that readers of earlier ones can read it, or the subject's compatibility level"
            }
            (300..=399, _) => "; redirects are not followed: give the URL that it leads to",
            _ => "",
        };
        Error::new(
            kind,
            format!("cannot {what}: the schema registry at {url} answers {status}: {said}{remedy}"),
        )
    }
}

fn refusal(answer: &Answer) -> Option<Refusal> {
    serde_json::from_slice(&answer.body).ok()
}

/// Whether the server has a problem, and not with the question.
fn is_trouble(answer: &Answer) -> bool {
    answer.status >= 500 || answer.status == 429 || answer.status == 408
}

#[cold]
fn unanswered(what: &str, url: &str, error: ureq::Error) -> Error {
    let message = format!("cannot {what}: the schema registry at {url} does not answer");
    let kind = match &error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => ErrorKind::UserError,
        _ => ErrorKind::Retry,
    };
    Error::new(kind, message).with_source(error)
}

/// A subject as a part of a path.
fn escaped(subject: &str) -> String {
    let mut escaped = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
