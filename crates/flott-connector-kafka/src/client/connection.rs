//! A connection to a broker: encrypted, authenticated, and a request at a time.

#![expect(clippy::disallowed_methods, reason = "the seam has no connection that can be written to")]

use super::answers::{Asked, fits};
use crate::config::{Properties, Security};
use bytes::{Bytes, BytesMut};
use flott_scram::{Scram, ScramError, ScramHash};
use flott_types::Error;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

/// An answer longer than this is none.
const ANSWER_BYTES_MAX: u32 = 64 << 20;

/// Why a broker does not do what it is asked for.
pub(super) enum Refusal {
    /// It passes: the broker is away, the coordinator moves, or has not ended what was there before.
    Passes(String),
    /// It does not.
    Final(Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Passes(error.to_string())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Bytes to and from a broker.
pub(super) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A connection to a broker.
pub(super) struct Connection(Box<dyn Wire>);

impl Connection {
    /// Connects to `server`, `host:port`.
    pub(super) fn open(server: &str, properties: &Properties) -> Result<Self, Refusal> {
        let Security { encrypts, .. } = properties.security()?;
        let tcp = connect(server, properties)?;
        let wire: Box<dyn Wire> = if encrypts { encrypt(tcp, server, properties)? } else { Box::new(tcp) };
        Self::begin(wire, server, properties)
    }

    /// Begins what is said on a wire to `server`.
    pub(super) fn begin(wire: Box<dyn Wire>, server: &str, properties: &Properties) -> Result<Self, Refusal> {
        let mut connection = Self(wire);
        if let Some(mechanism) = properties.security()?.mechanism {
            connection.authenticate(server, mechanism, properties)?;
        }
        Ok(connection)
    }

    /// Proves who the user is, as SASL mechanisms do.
    fn authenticate(
        &mut self,
        server: &str,
        mechanism: &str,
        properties: &Properties,
    ) -> Result<(), Refusal> {
        let hash = match mechanism {
            "PLAIN" => None,
            "SCRAM-SHA-256" => Some(ScramHash::Sha256),
            "SCRAM-SHA-512" => Some(ScramHash::Sha512),
            _ => {
                return Err(Refusal::Final(Error::user(format!(
                    "transaction coordinators are asked with sasl.mechanism PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, and it is {mechanism}: \
                     choose one of them, or write at least once"
                ))));
            }
        };
        let option = |name| {
            let missing = || {
                Error::user(format!("security.protocol asks for a user, and the property {name} is missing"))
            };
            properties.get(name).ok_or_else(missing)
        };
        let (username, password) = (option("sasl.username")?, option("sasl.password")?);
        let handshake =
            SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(mechanism.to_owned()));
        let answer = self.ask(&handshake)?;
        if answer.error_code != 0 {
            let known: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            return Err(Refusal::Final(Error::user(format!(
                "the broker at {server} does not know sasl.mechanism {mechanism}: it knows {}",
                known.join(", ")
            ))));
        }
        let Some(hash) = hash else {
            return self.prove(server, username, format!("\0{username}\0{password}")).map(|_| ());
        };
        let failed =
            |error: ScramError| Refusal::Final(Error::user(format!("the broker at {server}: {error}")));
        let mut scram = Scram::new(hash, username, password).map_err(failed)?;
        let challenge = self.prove(server, username, scram.first())?;
        let proof = scram.answer(&challenge).map_err(failed)?;
        let last = self.prove(server, username, proof)?;
        scram.check(&last).map_err(failed)
    }

    /// One message of a mechanism, and the broker's answer to it.
    fn prove(&mut self, server: &str, username: &str, message: String) -> Result<String, Refusal> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into_bytes().into());
        let answer = self.ask(&request)?;
        if answer.error_code == 0 {
            return Ok(String::from_utf8_lossy(&answer.auth_bytes).into_owned());
        }
        let said = answer.error_message.map(|it| it.to_string());
        let code = || ResponseError::try_from_code(answer.error_code).map(|error| error.to_string());
        let why = said.or_else(code).unwrap_or_else(|| format!("error code {}", answer.error_code));
        Err(Refusal::Final(Error::user(format!(
            "the broker at {server} does not believe that this is user '{username}': {why}: check sasl.username, sasl.password and sasl.mechanism"
        ))))
    }

    /// Sends a request and reads the answer: a length, a header, a body each way.
    pub(super) fn ask<R: Asked>(&mut self, request: &R) -> io::Result<R::Response> {
        const CORRELATION_ID: i32 = 1;
        let version = R::VERSION;
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(CORRELATION_ID)
            .with_client_id(Some(StrBytes::from_static_str("flott")));
        let mut body = BytesMut::new();
        let encoded = header
            .encode(&mut body, R::header_version(version))
            .and_then(|()| request.encode(&mut body, version));
        encoded.map_err(|error| invalid(&format!("cannot encode the request: {error}")))?;
        let len = u32::try_from(body.len()).map_err(|_| invalid("the request is too long"))?;
        let mut message = len.to_be_bytes().to_vec();
        message.extend_from_slice(&body);
        self.0.write_all(&message)?;
        self.0.flush()?;

        let mut len = [0; 4];
        self.0.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > ANSWER_BYTES_MAX {
            return Err(invalid(&format!(
                "an answer of {len} bytes: is this a Kafka broker, and security.protocol that of its listener?"
            )));
        }
        let mut answer = vec![0; len as usize];
        self.0.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        let undecodable = |error| invalid(&format!("cannot decode the answer: {error}"));
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version));
        if header.map_err(undecodable)?.correlation_id != CORRELATION_ID {
            return Err(invalid("the answer is of another request"));
        }
        if !fits(R::ANSWER, &answer) {
            return Err(invalid("the answer is cut short, or of another request"));
        }
        R::Response::decode(&mut answer, version).map_err(undecodable)
    }
}

fn connect(server: &str, properties: &Properties) -> io::Result<TcpStream> {
    let timeout = properties.request_timeout();
    let mut last = io::Error::other(format!("'{server}' has no address"));
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(feature = "kafka-ssl")]
fn encrypt(tcp: TcpStream, server: &str, properties: &Properties) -> Result<Box<dyn Wire>, Refusal> {
    Ok(Box::new(super::tls::encrypt(tcp, server, properties)?))
}

/// The client library was asked before, and has refused with the remedy.
#[cfg(not(feature = "kafka-ssl"))]
fn encrypt(_: TcpStream, _: &str, properties: &Properties) -> Result<Box<dyn Wire>, Refusal> {
    properties.config(&[], &[])?;
    Err(Refusal::Passes("this program was built without TLS".to_owned()))
}
