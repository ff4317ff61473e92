//! Options of the Kafka client: `properties.*` of Flink.

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
fn is_secret(name: &str) -> bool {
    ["password", "secret", "token", "pem", "jaas"].iter().any(|word| name.contains(word))
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

    /// For the client: the user's options over `defaults`, and `fixed` over both.
    pub(crate) fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
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
        config
    }
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
