//! Where the database is, and who connects to it.

use crate::client::Dial;
use flott_types::{Error, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a connection.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long to wait for an answer. Longer than the server waits for a lock.
const SOCKET_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
const PORT_DEFAULT: u16 = 5432;

/// Whether a connection is encrypted: the values of `sslmode` in the URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Never.
    Disable,
    /// If the server can.
    #[default]
    Prefer,
    /// Always, with whoever answers.
    Require,
    /// Always, and the server has a certificate for its name.
    VerifyFull,
}

/// A database and a user. It is never shown with its password.
#[derive(Clone)]
pub(crate) struct ConnectionOptions {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<String>,
    pub(crate) application_name: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) socket_timeout: Duration,
    /// Another way to the server than the network, for tests.
    pub(crate) dial: Option<Arc<dyn Dial>>,
}

impl fmt::Display for ConnectionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' at {}:{}", self.database, self.host, self.port)
    }
}

impl fmt::Debug for ConnectionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} as {}", self.username)
    }
}

/// The methods of a builder that say who connects. The argument is where the builder has its [`Address`].
macro_rules! credentials {
    ($($address:ident).+) => {
        /// The user, if the URL does not name one.
        #[must_use]
        pub fn username(mut self, username: impl Into<String>) -> Self {
            self.$($address).+.username = Some(username.into());
            self
        }

        /// The password, which is better not in a URL. It is never shown.
        #[must_use]
        pub fn password(mut self, password: impl Into<String>) -> Self {
            self.$($address).+.password = Some(password.into());
            self
        }
    };
}
pub(crate) use credentials;

/// What a builder collects: a URL, and what is said beside it. Wrong ones are refused when a job starts.
#[derive(Clone, Default)]
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    /// Another way to the server than the network, for tests.
    pub(crate) dial: Option<Arc<dyn Dial>>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok(options) => write!(f, "{options:?}"),
            Err(_) => f.write_str("a URL that is none"),
        }
    }
}

impl Address {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Reads `postgres://user:password@host:port/database?sslmode=…`, also with `jdbc:` before it.
    pub(crate) fn parse(&self) -> Result<ConnectionOptions> {
        let wrong = |what: &str| {
            let form = "postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE";
            Error::user(format!("the URL of the PostgreSQL database {what}; its form is {form}"))
        };
        let url = self.url.strip_prefix("jdbc:").unwrap_or(&self.url);
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| wrong("does not begin with 'postgres://'"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let (host, port) = split_port(host).ok_or_else(|| wrong("has a port that is no number"))?;
        let decoded =
            |text: &str| decode(text).ok_or_else(|| wrong("has a '%' without two hexadecimal digits"));
        let mut options = ConnectionOptions {
            host: if host.is_empty() { "localhost".to_owned() } else { decoded(host)? },
            port,
            database: decoded(database)?,
            username: self.username.clone().map_or_else(|| decoded(username), Ok)?,
            password: self.password.clone().map_or_else(|| decoded(password), Ok)?,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            application_name: "flott".to_owned(),
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
            socket_timeout: SOCKET_TIMEOUT_DEFAULT,
            dial: self.dial.clone(),
        };
        for parameter in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            set(&mut options, name, decoded(value)?)?;
        }
        if options.username.is_empty() {
            return Err(wrong("names no user"));
        }
        if options.database.is_empty() {
            return Err(wrong("names no database"));
        }
        Ok(options)
    }
}

fn set(options: &mut ConnectionOptions, name: &str, value: String) -> Result<()> {
    match name {
        "user" => options.username = value,
        "password" => options.password = value,
        "application_name" | "ApplicationName" => options.application_name = value,
        "sslrootcert" => options.ssl_root_cert = Some(value),
        "sslmode" => {
            options.ssl_mode = match value.as_str() {
                "disable" => SslMode::Disable,
                "prefer" => SslMode::Prefer,
                "require" => SslMode::Require,
                "verify-full" => SslMode::VerifyFull,
                _ => {
                    let known = "disable, prefer, require, verify-full";
                    return Err(Error::user(format!(
                        "sslmode '{value}' is not supported; the modes are {known}"
                    )));
                }
            }
        }
        _ => {
            let known = "user, password, application_name, sslmode, sslrootcert";
            let message = format!(
                "parameter '{name}' in the URL of the PostgreSQL database is not known; these are: {known}"
            );
            return Err(Error::user(message));
        }
    }
    Ok(())
}

fn split_port(host: &str) -> Option<(&str, u16)> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').map_or(Some(PORT_DEFAULT), |port| port.parse().ok())?;
        return Some((address, port));
    }
    match host.split_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((host, PORT_DEFAULT)),
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'%' {
            let (hex, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{Address, SslMode};

    fn parse(url: &str) -> String {
        match Address::new(url).parse() {
            Ok(it) => format!("{it:?} {:?} {:?}", it.password, it.ssl_mode),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn urls_name_a_database_and_a_user() {
        assert_eq!(
            parse("postgres://me:p%40ss@db.example/shop"),
            "'shop' at db.example:5432 as me \"p@ss\" Prefer"
        );
        assert_eq!(parse("jdbc:postgresql://h:1/d?user=u&sslmode=disable"), "'d' at h:1 as u \"\" Disable");
        assert_eq!(
            parse("postgresql://u@[::1]:77/d?sslmode=verify-full"),
            "'d' at ::1:77 as u \"\" VerifyFull"
        );
        for (url, expected) in [
            ("mysql://u@h/d", "does not begin with 'postgres://'"),
            ("postgres://h/d", "names no user"),
            ("postgres://u@h", "names no database"),
            ("postgres://u@h:port/d", "has a port that is no number"),
            ("postgres://u%@h/d", "has a '%' without two hexadecimal digits"),
            ("postgres://u@h/d?sslmode=verify-ca", "sslmode 'verify-ca' is not supported"),
            ("postgres://u@h/d?fetchsize=1", "parameter 'fetchsize' in the URL"),
        ] {
            assert!(parse(url).contains(expected), "{url}: {}", parse(url));
        }
        let address =
            Address { password: Some("hunter2".to_owned()), ..Address::new("postgres://u:hunter2@h/d") };
        assert!(!format!("{address:?}{:?}", address.parse()).contains("hunter2"));
        assert_eq!(SslMode::default(), SslMode::Prefer);
    }
}
