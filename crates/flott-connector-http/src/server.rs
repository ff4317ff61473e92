//! HTTP: connections, requests and answers.

use crate::config::{Options, Secret};
use crate::ingest::{Ingest, Refused};
use crate::keys::{Claim, Claimed};
use bytes::Bytes;
use flott_api::message::{DecodeError, DeserializationSchema, MessageDecoder};
use flott_env::Env;
use flott_env::sync::watch;
use flott_types::{Error, Result};
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use twox_hash::XxHash3_64;

/// What requests are answered by.
pub(crate) struct Server<T> {
    pub(crate) options: Options,
    pub(crate) format: Arc<dyn DeserializationSchema<T>>,
    pub(crate) ingest: Ingest,
    pub(crate) env: Env,
}

/// Wait after a connection that could not be accepted: the process may have too many files open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Seconds after which a client may try again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Begins to listen.
#[expect(
    clippy::disallowed_methods,
    reason = "no simulated world has clients; what is behind the listener is tested in one"
)]
pub(crate) fn listen(options: &Options) -> Result<std::io::Result<std::net::TcpListener>> {
    let address = options.socket_address()?;
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    Ok(listen())
}

impl<T: 'static> Server<T> {
    /// Takes connections until `stop` is dropped. Those that are open end then, too.
    pub(crate) async fn run(self: Arc<Self>, listener: std::net::TcpListener, mut stop: watch::Receiver<()>) {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        let permits = Arc::new(Semaphore::new(self.options.max_connections.max(1)));
        loop {
            let accept = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (listener.accept().await, permit)
            };
            let (accepted, permit) = match select(pin!(accept), pin!(stop.changed())).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (server, stop) = (Arc::clone(&self), stop.clone());
                    let connection = async move {
                        server.connection(stream, stop).await;
                        drop(permit);
                    };
                    drop(self.env.spawn("http-connection", connection));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection at {}: {error}", self.options.address);
                    self.env.sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, mut stop: watch::Receiver<()>) {
        let service = service_fn(|request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.request_timeout)
            .serve_connection(TokioIo::new(stream), service);
        // A client that breaks off, or the end of the source: either way nobody is there to be told.
        drop(select(pin!(connection), pin!(stop.changed())).await);
    }

    /// Answers in time.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let answer = pin!(self.answer_to(request));
        match select(answer, self.env.sleep(self.options.request_timeout)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => response(StatusCode::REQUEST_TIMEOUT, "the request took too long"),
        }
    }

    async fn answer_to(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Err(refused) = self.check(&request) {
            return *refused;
        }
        let is_single = is_single_json(&request);
        let key = match idempotency_key(&request) {
            Ok(key) => key,
            Err(why) => return response(StatusCode::BAD_REQUEST, &why),
        };
        let body = match Limited::new(request.into_body(), self.options.max_body_bytes).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => return self.too_large(),
            Err(error) => {
                return response(StatusCode::BAD_REQUEST, &format!("the request broke off: {error}"));
            }
        };
        let claim = match key.map(|key| self.claim(&key, &body, is_single)).transpose() {
            Ok(claim) => claim,
            Err(answer) => return *answer,
        };
        let records = match self.records(&body, is_single) {
            Ok(records) => records,
            Err(answer) => return *answer,
        };
        let n_records = records.len();
        let appended = if records.is_empty() { Ok(()) } else { self.ingest.append(records, claim).await };
        match appended {
            Ok(()) => accepted(n_records),
            Err(refused) => {
                let why = match refused {
                    Refused::Full => "the log is full: the job is behind".to_owned(),
                    Refused::Stopping => "the job stops".to_owned(),
                    Refused::Failed(why) => format!("the log cannot be written: {why}"),
                };
                let mut answer = response(StatusCode::SERVICE_UNAVAILABLE, &why);
                answer.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
                answer
            }
        }
    }

    /// Claims the key of a request, or says what it is answered because of that.
    fn claim(&self, key: &str, body: &[u8], is_single: bool) -> Result<Claim, Box<Response<Full<Bytes>>>> {
        let hash = |seed: u64| u128::from(XxHash3_64::oneshot_with_seed(seed, body));
        let fingerprint = hash(u64::from(is_single)) << 64 | hash(2);
        let time = self.env.processing_time();
        Err(Box::new(match self.ingest.claim(key, fingerprint, time, &self.options.key_limits) {
            Claimed::New(claim) => return Ok(claim),
            Claimed::Answered(n_records) => accepted(n_records as usize),
            Claimed::InProgress => {
                let mut answer =
                    response(StatusCode::CONFLICT, "a request with this Idempotency-Key is being answered");
                answer.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
                answer
            }
            Claimed::OtherBody => response(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was said with another body: each request has a key of its own",
            ),
        }))
    }

    fn check(&self, request: &Request<Incoming>) -> Result<(), Box<Response<Full<Bytes>>>> {
        let headers = request.headers();
        match &self.options.token {
            Some(token) if !is_allowed(headers.get(AUTHORIZATION), token) => {
                let mut answer =
                    response(StatusCode::UNAUTHORIZED, "say Authorization: Bearer and the token");
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return Err(Box::new(answer));
            }
            // A page in a browser of this machine may post to it without asking; it says where it is from.
            None if headers.contains_key(ORIGIN) => {
                return Err(Box::new(response(
                    StatusCode::FORBIDDEN,
                    "browsers are let in with a token only",
                )));
            }
            Some(_) | None => {}
        }
        if request.uri().path() != self.options.path {
            return Err(Box::new(response(StatusCode::NOT_FOUND, &format!("post to {}", self.options.path))));
        }
        if request.method() != Method::POST {
            return Err(Box::new(response(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed")));
        }
        if request.body().size_hint().lower() > self.options.max_body_bytes as u64 {
            return Err(Box::new(self.too_large()));
        }
        Ok(())
    }

    fn too_large(&self) -> Response<Full<Bytes>> {
        let max = self.options.max_body_bytes;
        response(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("more than {max} bytes, the limit for a request (max_body_bytes)"),
        )
    }

    /// The records of a request, if all of them can be read.
    fn records(&self, body: &[u8], is_single: bool) -> Result<Vec<Vec<u8>>, Box<Response<Full<Bytes>>>> {
        let failed = |error: &Error| Box::new(response(StatusCode::INTERNAL_SERVER_ERROR, &error.report()));
        let mut decoder = self.format.create_decoder().map_err(|error| failed(&error))?;
        let pieces: Vec<&[u8]> =
            if is_single { vec![body] } else { body.split(|byte| *byte == b'\n').collect() };
        let (mut records, mut lines) = (Vec::new(), Vec::new());
        for (idx, piece) in pieces.into_iter().enumerate() {
            let piece = piece.trim_ascii();
            if !piece.is_empty() {
                lines.push(idx + 1);
                records.push(piece.to_vec());
            }
        }
        match first_malformed(decoder.as_mut(), &records) {
            Ok(None) => Ok(records),
            Ok(Some((idx, why))) => {
                let line = lines.get(idx).copied().unwrap_or_default();
                let place = if is_single { String::new() } else { format!("line {line}: ") };
                let why = format!("{place}{why}; nothing of the request was taken");
                Err(Box::new(response(StatusCode::BAD_REQUEST, &why)))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// The first of the records that cannot be read, and why.
fn first_malformed<T>(
    decoder: &mut dyn MessageDecoder<T>,
    records: &[Vec<u8>],
) -> Result<Option<(usize, String)>> {
    let mut decoded = Vec::new();
    for (idx, record) in records.iter().enumerate() {
        match decoder.decode(record, &mut decoded) {
            Ok(()) => decoded.clear(),
            Err(DecodeError::Malformed(why)) => return Ok(Some((idx, why))),
            Err(DecodeError::Failed(error)) => return Err(error),
        }
    }
    let mut first = None;
    decoder.flush(&mut decoded, &mut |malformed| {
        first.get_or_insert((malformed.idx, malformed.why));
    })?;
    Ok(first)
}

/// The name of the header, and how long a key may be.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;

/// What the client calls the request: a string in quotes, by the draft of the header, or without.
fn idempotency_key<B>(request: &Request<B>) -> Result<Option<String>, String> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().map(str::trim).filter(|_| values.next().is_none());
    let unquoted =
        text.map(|text| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text));
    match unquoted {
        Some(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key.to_owned())),
        Some(_) | None => {
            Err(format!("Idempotency-Key must be said once, and be 1 to {KEY_BYTES_MAX} ASCII characters"))
        }
    }
}

fn accepted(n_records: usize) -> Response<Full<Bytes>> {
    response(StatusCode::OK, &format!("{{\"accepted\":{n_records}}}"))
}

fn is_single_json<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Takes as long for a wrong token as for the right one, so that nobody finds it letter by letter.
fn is_allowed(said: Option<&HeaderValue>, Secret(token): &Secret) -> bool {
    let said =
        said.map(HeaderValue::as_bytes).and_then(|said| said.strip_prefix(b"Bearer ")).unwrap_or_default();
    let differs = said.iter().zip(token.as_bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
    std::hint::black_box(differs) == 0 && said.len() == token.len()
}

fn response(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response
}
