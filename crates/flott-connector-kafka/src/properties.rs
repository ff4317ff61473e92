//! Options of the Kafka client: `properties.*` of Flink.

use flott_types::{Error, Result};
use rdkafka::ClientConfig;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How long a request to the cluster may take: the default of `request.timeout.ms`.
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// What the client is told.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties(BTreeMap<String, String>);

/// Names whose values nobody is to read in a log.
pub(crate) fn is_secret(name: &str) -> bool {
    ["password", "passphrase", "secret", "token", "pem", "jaas", "oauthbearer.config"]
        .iter()
        .any(|word| name.contains(word))
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if is_secret(name) { "******" } else { value });
        f.debug_map()
            .entries(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).map(shown))
            .finish()
    }
}

impl Properties {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names of all options that were set.
    #[cfg(feature = "kafka-ssl")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        self.get("bootstrap.servers").unwrap_or_default()
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.duration_ms("request.timeout.ms").unwrap_or(REQUEST_TIMEOUT_DEFAULT)
    }

    /// The value of an option in milliseconds, if it is one.
    pub(crate) fn duration_ms(&self, name: &str) -> Option<Duration> {
        self.get(name).and_then(|text| text.trim().parse().ok()).map(Duration::from_millis)
    }

    /// How connections are made.
    ///
    /// # Errors
    /// If `security.protocol` is none.
    pub(crate) fn security(&self) -> Result<Security<'_>> {
        let protocol = self.get("security.protocol").unwrap_or("plaintext");
        let (encrypts, authenticates) = match protocol.to_ascii_lowercase().as_str() {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            _ => {
                return Err(Error::user(format!(
                    "security.protocol is '{protocol}': it can be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
                )));
            }
        };
        Ok(Security { encrypts, mechanism: authenticates.then(|| self.mechanism()) })
    }

    /// The client's own default is Kerberos.
    fn mechanism(&self) -> &str {
        self.get("sasl.mechanism").or_else(|| self.get("sasl.mechanisms")).unwrap_or("GSSAPI")
    }

    /// For the client: the user's options over `defaults`, and `fixed` over both.
    ///
    /// # Errors
    /// If they ask for what this program was built without.
    pub(crate) fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<ClientConfig> {
        let Security { encrypts, mechanism } = self.security()?;
        let option = self.0.keys().find(|name| name.starts_with("ssl.")).map(String::as_str);
        let option = option.or_else(|| encrypts.then_some("security.protocol"));
        let option = option.or_else(|| mechanism.filter(|it| *it != "PLAIN").map(|_| "sasl.mechanism"));
        if let (Some(option), false) = (option, cfg!(feature = "kafka-ssl")) {
            return Err(Error::user(format!(
                "the property {option} asks for what needs OpenSSL, and this program was built without: build it with the feature kafka-ssl of flott; \
                 without are security.protocol PLAINTEXT, and SASL_PLAINTEXT with sasl.mechanism PLAIN"
            )));
        }
        let mut config = ClientConfig::new();
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.0 {
            config.set(name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        Ok(config)
    }
}

/// How connections to brokers are made: `security.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Security<'a> {
    /// By TLS.
    pub(crate) encrypts: bool,
    /// How the client says who it is; `None` if it does not.
    pub(crate) mechanism: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", "broker:9092");
        properties.set("sasl.password", "hunter2");
        let shown = format!("{properties:?}");
        assert!(shown.contains("broker:9092") && !shown.contains("hunter2"), "{shown}");
    }
}
