//! Where the registry is and who asks.

use std::fmt;
use std::time::Duration;

/// A text that is shown to nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("******")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// In the order in which they are tried; without a slash at the end, a user or a password.
    pub(crate) urls: Vec<String>,
    /// The value of the header `Authorization`.
    pub(crate) authorization: Option<Secret>,
    pub(crate) request_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) retry_wait: Duration,
    /// In PEM; if there are none, those that browsers trust.
    pub(crate) root_certificates: Option<Vec<u8>>,
}

/// How long an answer may take.
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How often a question is asked again.
const RETRIES_DEFAULT: u32 = 3;

/// How long the first wait before asking again is; each further one is twice as long.
const RETRY_WAIT_DEFAULT: Duration = Duration::from_millis(100);

impl Config {
    pub(crate) fn new(urls: &str) -> Self {
        let mut config = Self {
            urls: Vec::new(),
            authorization: None,
            request_timeout: REQUEST_TIMEOUT_DEFAULT,
            retries: RETRIES_DEFAULT,
            retry_wait: RETRY_WAIT_DEFAULT,
            root_certificates: None,
        };
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            config.add_url(url);
        }
        config
    }

    /// Takes user and password out of a URL, so that it can be shown.
    fn add_url(&mut self, url: &str) {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let host_len = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(host_len);
        let host = match host.rsplit_once('@') {
            None => host,
            Some((user, host)) => {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                self.set_basic_auth(user, password);
                host
            }
        };
        let separator = if scheme.is_empty() { "" } else { "://" };
        self.urls.push(format!("{scheme}{separator}{host}{}", path.trim_end_matches('/')));
    }

    pub(crate) fn set_basic_auth(&mut self, user: &str, password: &str) {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.authorization = Some(Secret(format!("Basic {encoded}")));
    }
}
