//! What users see: the source and its options.

use crate::keys::KeyLimits;
use crate::reader::HttpReader;
use crate::split::HttpSplit;
use flott_api::message::DeserializationSchema;
use flott_api::{Boundedness, SourceReaderContext, SplitSource};
use flott_format_json::JsonFormat;
use flott_types::{Data, Error, Result};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A text that is shown to nobody.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("******")
    }
}

/// Listens at an address and takes records that clients post: JSON lines, or a single JSON value with the content type `application/json`.
///
/// The answer is 200 when all records of a request are in the log and synced; then they are read exactly once. A request with a record that
/// cannot be read (400), that is too large (413) or not allowed (401) is refused as a whole, and so is one while the log is full or the
/// job stops (503, with `Retry-After`). A client that got no answer, or 503, does not know and tries again; then records may be there
/// twice, unless the request has an `Idempotency-Key`.
///
/// A request with a key that was seen before is answered as before and appended no second time, after a restart, too; with another body it
/// is refused (422), and while the first is not answered (409). How long keys are known is said by
/// [`HttpSource::idempotency_keys_max`] and [`HttpSource::idempotency_retention`]; one that was forgotten is new.
///
/// One subtask listens, whatever the parallelism, while the job runs. What lies in the log is deleted when a checkpoint is past it; a job
/// without checkpoints deletes nothing.
pub struct HttpSource<T> {
    pub(crate) options: Options,
    pub(crate) format: Arc<dyn DeserializationSchema<T>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) address: String,
    pub(crate) directory: PathBuf,
    pub(crate) path: String,
    pub(crate) token: Option<Secret>,
    pub(crate) allow_unauthenticated: bool,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_log_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) max_connections: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) key_limits: KeyLimits,
}

impl<T> Clone for HttpSource<T> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), format: Arc::clone(&self.format) }
    }
}

impl<T> fmt::Debug for HttpSource<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(formatter)
    }
}

impl<T: Data> HttpSource<T> {
    /// Records in JSON, posted to `address`, a `host:port` of this machine, with their log in `directory`, which no other source uses.
    pub fn json(address: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        Self::format(address, directory, JsonFormat::new())
    }

    /// Records in another format that has one on each line.
    pub fn format(
        address: impl Into<String>,
        directory: impl Into<PathBuf>,
        format: impl DeserializationSchema<T>,
    ) -> Self {
        let options = Options {
            address: address.into(),
            directory: directory.into(),
            path: "/".to_owned(),
            token: None,
            allow_unauthenticated: false,
            max_body_bytes: 1 << 20,
            max_log_bytes: 1 << 30,
            segment_bytes: 16 << 20,
            max_connections: 64,
            request_timeout: Duration::from_secs(30),
            key_limits: KeyLimits { n_max: 10_000, retention: Duration::from_secs(24 * 60 * 60) },
        };
        Self { options, format: Arc::new(format) }
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Where clients post to: `/` unless said otherwise.
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        self.with(|options| options.path = path.into())
    }

    /// What clients must say to be let in: `Authorization: Bearer` and this token.
    #[must_use]
    pub fn bearer_token(self, token: impl Into<String>) -> Self {
        self.with(|options| options.token = Some(Secret(token.into())))
    }

    /// Lets anybody in who reaches the address, even if that is not only this machine.
    #[must_use]
    pub fn allow_unauthenticated(self) -> Self {
        self.with(|options| options.allow_unauthenticated = true)
    }

    /// How large a request may be: 1 MiB unless said otherwise. A larger one is answered with 413.
    #[must_use]
    pub fn max_body_bytes(self, max_body_bytes: usize) -> Self {
        self.with(|options| options.max_body_bytes = max_body_bytes)
    }

    /// How large the log may get while the job is behind: 1 GiB unless said otherwise. Then requests are answered with 503.
    #[must_use]
    pub fn max_log_bytes(self, max_log_bytes: u64) -> Self {
        self.with(|options| options.max_log_bytes = max_log_bytes)
    }

    /// How large a file of the log gets, 16 MiB unless said otherwise: what is read is deleted in such pieces.
    #[must_use]
    pub fn segment_bytes(self, segment_bytes: u64) -> Self {
        self.with(|options| options.segment_bytes = segment_bytes)
    }

    /// How many clients may be connected: 64 unless said otherwise. Further ones wait.
    #[must_use]
    pub fn max_connections(self, max_connections: usize) -> Self {
        self.with(|options| options.max_connections = max_connections)
    }

    /// How long a client may take to send a request, and wait for an answer: 30 s unless said otherwise.
    #[must_use]
    pub fn request_timeout(self, request_timeout: Duration) -> Self {
        self.with(|options| options.request_timeout = request_timeout)
    }

    /// How many keys of requests are known: the last 10,000 unless said otherwise. They are in memory, and at the start of each file of
    /// the log.
    #[must_use]
    pub fn idempotency_keys_max(self, n_max: usize) -> Self {
        self.with(|options| options.key_limits.n_max = n_max)
    }

    /// How long keys of requests are known: a day unless said otherwise.
    #[must_use]
    pub fn idempotency_retention(self, retention: Duration) -> Self {
        self.with(|options| options.key_limits.retention = retention)
    }
}

impl Options {
    /// Where to listen, if that is allowed.
    #[expect(
        clippy::disallowed_methods,
        reason = "resolves the address to listen at, which no simulated world has"
    )]
    pub(crate) fn socket_address(&self) -> Result<SocketAddr> {
        let address = &self.address;
        let mut resolved = address.to_socket_addrs().map_err(|error| {
            Error::user(format!("cannot listen at '{address}': expected host:port")).with_source(error)
        })?;
        let resolved = resolved
            .next()
            .ok_or_else(|| Error::user(format!("cannot listen at '{address}': no such host")))?;
        let is_open = self.token.is_none() && !self.allow_unauthenticated;
        if is_open && !resolved.ip().is_loopback() {
            return Err(Error::user(format!(
                "refuses to listen at '{address}', which others than this machine reach, and let anybody in: say a bearer_token, or \
                 allow_unauthenticated"
            )));
        }
        Ok(resolved)
    }
}

impl<T: Data> SplitSource for HttpSource<T> {
    type Record = T;
    type Split = HttpSplit;
    type Reader = HttpReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::ContinuousUnbounded
    }

    fn splits(&self, _: u32) -> Result<Vec<HttpSplit>> {
        self.options.socket_address()?;
        let directory = self.options.directory.to_string_lossy().into_owned();
        Ok(vec![HttpSplit { directory, position: None }])
    }

    fn open(&self, split: HttpSplit, ctx: &SourceReaderContext) -> Result<HttpReader<T>> {
        HttpReader::new(self, split, ctx.env.clone())
    }
}
