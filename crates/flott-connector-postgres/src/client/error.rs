//! What goes wrong between client and server.

use super::message::Reader;
use flott_scram::ScramError;
use std::fmt;
use std::io;

/// An error of a connection.
#[derive(Debug)]
pub(crate) enum PgError {
    /// The connection broke or could not be made: what the server has done is not known.
    Io(io::Error),
    /// The server refuses.
    Server(Box<ServerError>),
    /// The other side does not speak the protocol.
    Protocol(String),
}

/// What the server says.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerError {
    /// The SQLSTATE.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    /// Where in the input of a COPY.
    pub(crate) context: Option<String>,
    /// The connection ends with it.
    pub(crate) is_fatal: bool,
}

impl PgError {
    /// The SQLSTATE, if the server said it.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Server(error) => &error.code,
            Self::Io(_) | Self::Protocol(_) => "",
        }
    }

    pub(crate) fn from_body(body: &[u8]) -> Self {
        let mut error = ServerError::default();
        let mut reader = Reader(body);
        while let Ok(field) = reader.u8() {
            let Ok(text) = reader.text() else { break };
            let text = text.to_owned();
            match field {
                b'V' => error.is_fatal = text != "ERROR",
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                _ => {}
            }
        }
        Self::Server(Box::new(error))
    }
}

impl From<ScramError> for PgError {
    fn from(error: ScramError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<io::Error> for PgError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Protocol(what) => write!(f, "the other side does not speak PostgreSQL's protocol: {what}"),
            Self::Server(error) => {
                write!(f, "{} (SQLSTATE {})", error.message, error.code)?;
                for more in [&error.detail, &error.hint, &error.context].into_iter().flatten() {
                    write!(f, "; {more}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for PgError {}
