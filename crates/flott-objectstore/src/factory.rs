//! Which client a URI gets.

use crate::runtime::IoRuntime;
use crate::settings::Limits;
use crate::store::CloudStore;
use flott_checkpoint::{ObjectStore, ObjectStoreFactory, RemoteLocation, feature_of, unsupported};
use flott_env::Env;
use flott_types::{Configuration, Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The stores of a process: one client for each bucket, made when it is first asked for.
pub struct CloudStores {
    config: Configuration,
    limits: Limits,
    /// For numbers that no other store has.
    env: Env,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    runtime: Option<Arc<IoRuntime>>,
    buckets: BTreeMap<(String, String), Arc<dyn ObjectStore>>,
}

impl fmt::Debug for CloudStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudStores").field("config", &self.config).finish_non_exhaustive()
    }
}

impl CloudStores {
    /// Stores with the keys of `config`, and what it does not say from the usual variables of the process.
    pub fn new(env: &Env, config: &Configuration) -> Self {
        Self::with_limits(env, config, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(env: &Env, config: &Configuration, limits: Limits) -> Self {
        Self { config: config.clone(), limits, env: env.clone(), open: Mutex::default() }
    }

    fn build(&self, location: &RemoteLocation, runtime: Arc<IoRuntime>) -> Result<CloudStore> {
        let built = match feature_of(&location.scheme) {
            #[cfg(feature = "s3")]
            Some("s3") => crate::s3::build(location, &self.config, self.limits)?,
            #[cfg(feature = "gcs")]
            Some("gcs") => crate::gcs::build(location, &self.config, self.limits)?,
            #[cfg(feature = "azure")]
            Some("azure") => crate::azure::build(location, &self.config, self.limits)?,
            Some(_) | None => return Err(unsupported(&location.scheme)),
        };
        #[cfg_attr(not(any(feature = "s3", feature = "gcs", feature = "azure")), expect(unreachable_code))]
        let Built { place, client, large } = built;
        Ok(CloudStore::new(place, client, large, runtime, self.limits, self.env.random_u64()))
    }
}

/// A client and what is particular to it.
pub(crate) struct Built {
    pub(crate) place: crate::error::Place,
    pub(crate) client: Arc<dyn object_store::ObjectStore>,
    pub(crate) large: crate::store::LargePut,
}

impl ObjectStoreFactory for CloudStores {
    fn open(&self, location: &RemoteLocation) -> Result<Arc<dyn ObjectStore>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = (location.scheme.clone(), location.authority.clone());
        if let Some(store) = open.buckets.get(&bucket) {
            return Ok(Arc::clone(store));
        }
        let runtime = match &open.runtime {
            Some(runtime) => Arc::clone(runtime),
            None => Arc::new(IoRuntime::new().map_err(|error| {
                Error::user("cannot start the threads of the clients of object stores").with_source(error)
            })?),
        };
        open.runtime = Some(Arc::clone(&runtime));
        let store: Arc<dyn ObjectStore> = Arc::new(self.build(location, runtime)?);
        open.buckets.insert(bucket, Arc::clone(&store));
        Ok(store)
    }
}

/// What all clients have in common.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
pub(crate) mod client {
    use crate::settings::{Limits, Secrets};
    use flott_types::{Error, Result};
    use object_store::{BackoffConfig, ClientOptions, RetryConfig};
    use std::time::Duration;

    pub(crate) fn options(limits: Limits, request: Duration, is_http: bool) -> ClientOptions {
        ClientOptions::new()
            .with_connect_timeout(limits.connect)
            .with_timeout(request)
            .with_allow_http(is_http)
    }

    /// Where a service is, of what the configuration key `key` says: `https://` may be left out.
    pub(crate) fn endpoint(key: &str, value: &str) -> Result<Endpoint> {
        let (protocol, rest) = value.split_once("://").unwrap_or(("https", value));
        let rest = rest.trim_end_matches('/');
        let is_host =
            !rest.is_empty() && !rest.contains(|char: char| char.is_whitespace() || "?#@".contains(char));
        if matches!(protocol, "http" | "https") && is_host && !rest.starts_with(['/', ':']) {
            return Ok(Endpoint { url: format!("{protocol}://{rest}"), is_http: protocol == "http" });
        }
        Err(Error::user(format!(
            "configuration key '{key}' is '{value}': expected an address such as http://127.0.0.1:9000 or https://host"
        )))
    }

    /// An address without a slash at its end, and whether requests go there without TLS.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Endpoint {
        pub(crate) url: String,
        pub(crate) is_http: bool,
    }

    pub(crate) fn retry(limits: Limits) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: limits.backoff_max,
                base: 2.0,
            },
            max_retries: limits.retries,
            retry_timeout: limits.retry_for,
        }
    }

    /// Settings that cannot be.
    pub(crate) fn refused(bucket: &str, secrets: &Secrets, error: &object_store::Error) -> Error {
        Error::user(format!("cannot use '{bucket}': {}", secrets.redact(&error.to_string())))
    }
}

#[cfg(all(test, any(feature = "s3", feature = "gcs", feature = "azure")))]
mod tests {
    use super::client::{Endpoint, endpoint};

    #[test]
    fn an_endpoint_may_be_a_host_and_is_nothing_else_but_an_address() {
        let url = |url: &str, is_http| Some(Endpoint { url: url.to_owned(), is_http });
        for (value, expected) in [
            ("minio:9000", url("https://minio:9000", false)),
            ("http://minio:9000/", url("http://minio:9000", true)),
            ("https://host/path", url("https://host/path", false)),
            ("ftp://host", None),
            ("http://", None),
            ("", None),
            (":9000", None),
            ("http://key@host", None),
            ("two hosts", None),
        ] {
            assert_eq!(endpoint("s3.endpoint", value).ok(), expected, "{value}");
        }
        let error = endpoint("s3.endpoint", "ftp://host").expect_err("no protocol that is known").to_string();
        assert!(error.starts_with("configuration key 's3.endpoint' is 'ftp://host': expected"), "{error}");
    }
}
