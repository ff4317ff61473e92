//! What a client says, as an error that says what was attempted on what, why it failed and what to do; without secrets.

use crate::settings::Secrets;
use object_store::Error as ClientError;
use std::error::Error;
use std::io;

/// Whose errors are told.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `s3://bucket`.
    pub(crate) bucket: String,
    /// Which settings say who one is.
    pub(crate) credentials: &'static str,
    pub(crate) secrets: Secrets,
}

/// Codes and texts of servers for a bucket or container that does not exist. Of a deletion in a batch only the text is told.
const NO_BUCKET: &[&str] = &[
    "NoSuchBucket",
    "ContainerNotFound",
    "The specified bucket does not exist",
    "The specified container does not exist",
];

/// Codes of servers for somebody who may not. The client tells denials of some requests, and of others only that they failed.
const DENIED: &[&str] = &[
    "<Code>AccessDenied</Code>",
    "<Code>InvalidAccessKeyId</Code>",
    "<Code>SignatureDoesNotMatch</Code>",
    "<Code>ExpiredToken</Code>",
    "<Code>AuthenticationFailed</Code>",
    "403 Forbidden",
    "401 Unauthorized",
];

/// Where a client asks that found no credentials but those of the machine that it may run on.
const MACHINE: &[&str] = &["169.254.169.254", "metadata.google.internal"];

/// Its words if that is no such machine.
const NO_CREDENTIALS: &[&str] = &["security-credentials", "credentials"];

impl Place {
    /// The error of a request for one object or prefix.
    pub(crate) fn error(&self, attempted: &str, key: &str, error: &ClientError) -> io::Error {
        let Self { bucket, credentials, .. } = self;
        let said = self.secrets.redact(&said(error));
        let at = if key.is_empty() { bucket.clone() } else { format!("{bucket}/{key}") };
        let kind = kind(error);
        let message = match (kind, error) {
            (io::ErrorKind::NotFound | io::ErrorKind::Other, _)
                if has_no_bucket(error) || kind == io::ErrorKind::NotFound && key_is_of_bucket(attempted) =>
            {
                // Not NotFound: nobody may take a bucket that is missing for an object that is.
                let message =
                    format!("cannot {attempted} '{at}': the bucket of '{bucket}' does not exist ({said})");
                return io::Error::other(message);
            }
            (io::ErrorKind::NotFound, _) => format!("there is no object '{at}'"),
            (io::ErrorKind::AlreadyExists, _) => format!("'{at}' exists"),
            _ if has_asked_the_machine(&said) => {
                format!("cannot {attempted} '{at}': there are no credentials ({said}): set {credentials}")
            }
            (io::ErrorKind::PermissionDenied, _) => format!(
                "cannot {attempted} '{at}': access is denied ({said}): check {credentials}, and what they may do in this bucket"
            ),
            (io::ErrorKind::TimedOut | io::ErrorKind::NotConnected, _) if has_no_credentials(&said) => {
                format!("cannot {attempted} '{at}': there are no credentials ({said}): set {credentials}")
            }
            (io::ErrorKind::NotConnected, _) => {
                format!("cannot {attempted} '{at}': the server cannot be reached ({said})")
            }
            (io::ErrorKind::TimedOut, _) => {
                format!("cannot {attempted} '{at}': the server did not answer in time ({said})")
            }
            _ => format!("cannot {attempted} '{at}': {said}"),
        };
        io::Error::new(kind, message)
    }
}

/// Requests that are not about one object: there is nothing that could be missing but the bucket.
fn key_is_of_bucket(attempted: &str) -> bool {
    matches!(attempted, "list" | "create")
}

fn has_no_bucket(error: &ClientError) -> bool {
    let text = error.to_string();
    NO_BUCKET.iter().any(|code| text.contains(code))
}

fn is_denied(error: &ClientError) -> bool {
    let text = error.to_string();
    DENIED.iter().any(|code| text.contains(code))
}

fn has_asked_the_machine(said: &str) -> bool {
    MACHINE.iter().any(|host| said.contains(host))
}

fn has_no_credentials(said: &str) -> bool {
    NO_CREDENTIALS.iter().any(|word| said.contains(word))
}

/// What a caller can do about it, in the words of `std::io`.
pub(crate) fn kind(error: &ClientError) -> io::ErrorKind {
    match error {
        ClientError::NotFound { .. } => io::ErrorKind::NotFound,
        ClientError::AlreadyExists { .. }
        | ClientError::Precondition { .. }
        | ClientError::NotModified { .. } => io::ErrorKind::AlreadyExists,
        ClientError::PermissionDenied { .. } | ClientError::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        ClientError::InvalidPath { .. } => io::ErrorKind::InvalidInput,
        _ if is_denied(error) => io::ErrorKind::PermissionDenied,
        _ => causes(error).find_map(transport_kind).unwrap_or(io::ErrorKind::Other),
    }
}

fn causes<'a>(error: &'a ClientError) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| {
        let cause: &'a (dyn Error + 'static) = *cause;
        cause.source()
    })
}

fn transport_kind(cause: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        let kind = error.kind();
        return match kind {
            io::ErrorKind::TimedOut => Some(kind),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable => {
                Some(io::ErrorKind::NotConnected)
            }
            _ => None,
        };
    }
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    if let Some(error) = cause.downcast_ref::<object_store::client::HttpError>() {
        use object_store::client::HttpErrorKind;
        return match error.kind() {
            HttpErrorKind::Timeout => Some(io::ErrorKind::TimedOut),
            HttpErrorKind::Connect => Some(io::ErrorKind::NotConnected),
            _ => None,
        };
    }
    None
}

/// What the server said, if it said something; else the innermost causes. Bodies of denials quote the request, so only their code and
/// message are taken.
fn said(error: &ClientError) -> String {
    let text = error.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(content, _)| content.trim().to_owned())
    };
    if let Some(code) = element("Code") {
        return match element("Message") {
            Some(message) if !message.is_empty() => shortened(&format!("{code}: {message}")),
            Some(_) | None => code,
        };
    }
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    // Each repeats what is inside of it; the last two say the most.
    let mut innermost: Vec<String> = causes.iter().rev().take(2).rev().cloned().collect();
    innermost.dedup();
    let innermost = if innermost.is_empty() { text } else { innermost.join(": ") };
    shortened(&innermost)
}

/// Texts of servers can be long.
const SAID_CHARS_MAX: usize = 400;

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SAID_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            bucket: "s3://b".to_owned(),
            credentials: "'s3.access-key' and 's3.secret-key'",
            secrets: Secrets::new([Some("hunter2".to_owned())]),
        }
    }

    fn denied(body: &str) -> ClientError {
        ClientError::PermissionDenied { path: "k".to_owned(), source: body.to_owned().into() }
    }

    #[test]
    fn denials_say_code_and_remedy_and_quote_no_request() {
        let body = "403: <Error><Code>SignatureDoesNotMatch</Code><Message>wrong for hunter2</Message><StringToSign>AWS4</StringToSign></Error>";
        let error = place().error("read", "a/b", &denied(body));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(
            error.to_string(),
            "cannot read 's3://b/a/b': access is denied (SignatureDoesNotMatch: wrong for ******): check 's3.access-key' and \
             's3.secret-key', and what they may do in this bucket"
        );
    }

    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        let missing =
            |body: &str| ClientError::NotFound { path: "k".to_owned(), source: body.to_owned().into() };
        let error = place().error("read", "a", &missing("<Code>NoSuchBucket</Code>"));
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert!(error.to_string().contains("the bucket of 's3://b' does not exist"), "{error}");
        let error = place().error("list", "a", &missing("404"));
        assert_eq!(error.kind(), io::ErrorKind::Other, "a list finds nothing, but never not");
        // Of some requests the client does not say that something was not found.
        let failed = ClientError::Generic { store: "S3", source: "<Code>NoSuchBucket</Code>".into() };
        let error = place().error("list", "a", &failed);
        assert!(error.to_string().contains("the bucket of 's3://b' does not exist"), "{error}");
        assert_eq!(
            place().error("read", "a", &missing("<Code>NoSuchKey</Code>")).kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn who_has_no_key_is_not_told_to_check_it() {
        let refused = "GET http://169.254.169.254/metadata/identity/oauth2/token: 403 Forbidden";
        let error = place().error("list", "a", &ClientError::Generic { store: "x", source: refused.into() });
        assert_eq!(
            error.to_string(),
            format!(
                "cannot list 's3://b/a': there are no credentials ({refused}): set 's3.access-key' and 's3.secret-key'"
            )
        );
    }

    #[test]
    fn long_answers_are_cut() {
        let long = ClientError::Generic { store: "S3", source: "ä ".repeat(1_000).into() };
        assert!(place().error("read", "a", &long).to_string().len() < 1_000);
    }
}
