//! One error type for the contracts, with a coarse kind that says what the caller does.

use std::error::Error as StdError;
use std::fmt;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Trying again may help.
    Retry,
    /// The attempt of the subtask is lost; a restart strategy decides.
    FailSubtask,
    /// The job cannot go on as it is.
    FailJob,
    /// The program, an option or the input is wrong: fix it and run again.
    UserError,
    /// Somebody else owns what this attempt wanted to write.
    Fenced,
    /// Stored bytes are not what was written.
    Corruption,
}

/// An error that names what was attempted, on what, and what to do.
///
/// `Display` prints the message only; [`Error::report`] prints the chain of causes, once, where the
/// error is handled. `Debug` prints the report too, so that a `main` that returns an error says what
/// happened.
pub struct Error {
    kind: ErrorKind,
    message: String,
    location: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of a fallible engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message in lower case, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), location: None, source: None }
    }

    /// The user can fix it: a wrong option, program or input.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::UserError, message)
    }

    /// The subtask cannot go on.
    pub fn subtask(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailSubtask, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Wraps this error: `message` says what was being done, the kind stays.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let location = self.location.clone();
        Self { kind: self.kind, message: message.into(), location, source: Some(Box::new(self)) }
    }

    /// Says where in the job it happened: operator, subtask, record. The innermost place wins.
    #[must_use]
    pub fn at(mut self, location: impl FnOnce() -> String) -> Self {
        self.location.get_or_insert_with(location);
        self
    }

    /// Where in the job it happened, if it is known.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// What the caller does about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The location, the message and all causes, joined by `: `.
    pub fn report(&self) -> String {
        let mut text = self.location.iter().map(|at| format!("{at}: ")).collect::<String>();
        text.push_str(&self.message);
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
