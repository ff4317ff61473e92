//! What clients are told: limits of time and size, and secrets that must not be shown.

use std::fmt;
use std::time::Duration;

/// How long a request may take, and how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until a server has accepted the connection.
    pub connect: Duration,
    /// Until one request has been answered.
    pub request: Duration,
    /// No new try of a request is begun after this time.
    pub retry_for: Duration,
    /// Tries after the first.
    pub retries: usize,
    /// The longest pause before a try; the first is 100 ms, and they double.
    pub backoff_max: Duration,
    /// Objects up to this size are written by one request.
    pub single_put_bytes_max: usize,
    /// Larger ones are written, and read, in pieces of this size. S3 allows no less than 5 MiB.
    pub piece_bytes: usize,
    /// Pieces of one object under way at a time.
    pub pieces_at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(20),
            retry_for: Duration::from_secs(30),
            retries: 5,
            backoff_max: Duration::from_secs(4),
            single_put_bytes_max: 16 << 20,
            piece_bytes: 8 << 20,
            pieces_at_once: 4,
        }
    }
}

impl Limits {
    /// What one request may take with all its tries: a belt for the client's own braces.
    pub(crate) fn call(&self) -> Duration {
        self.retry_for + self.request * 2
    }
}

/// Texts that must not be in any message.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// Shorter ones would take half of a message with them, and protect nothing.
const SECRET_LEN_MIN: usize = 4;

impl Secrets {
    pub(crate) fn new(secrets: impl IntoIterator<Item = Option<String>>) -> Self {
        Self(secrets.into_iter().flatten().filter(|secret| secret.len() >= SECRET_LEN_MIN).collect())
    }

    /// The text without secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "******"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_texts() {
        let secrets = Secrets::new([Some("hunter2".to_owned()), None, Some("x".to_owned())]);
        assert_eq!(secrets.redact("x says hunter2 twice: hunter2"), "x says ****** twice: ******");
        assert!(!format!("{secrets:?}").contains("hunter2"));
    }
}
