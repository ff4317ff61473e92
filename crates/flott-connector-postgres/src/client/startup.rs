//! How a connection begins: address, encryption, password, settings of the session.

use super::auth::md5_answer;
use super::message::{Reader, put, put_text, put_untagged};
use super::stream::Stream;
use super::{Client, PgError, tls};
use crate::options::{ConnectionOptions, SslMode};
use flott_scram::{Scram, ScramHash};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

const PROTOCOL: u32 = 3 << 16;
const SSL_REQUEST: u32 = 80_877_103;

/// What every session has: texts that do not depend on the server's place, and no limit that ends a transaction behind our back.
const SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "iso_8601"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
    ("timezone", "UTC"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

pub(super) fn connect(options: &ConnectionOptions, is_replication: bool) -> Result<Client, PgError> {
    let mut client = Client::new(open(options)?);
    client.set_timeout(options.socket_timeout)?;
    put_untagged(&mut client.output, |out| {
        out.extend(PROTOCOL.to_be_bytes());
        let session = [("user", options.username.as_str()), ("database", &options.database)];
        let named = [("application_name", options.application_name.as_str())];
        let replication = is_replication.then_some(("replication", "database"));
        for (name, value) in session.iter().chain(&named).chain(SETTINGS).copied().chain(replication) {
            put_text(out, name);
            put_text(out, value);
        }
        out.push(0);
    });
    client.send()?;
    authenticate(&mut client, options)?;
    Ok(client)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the seam has no connection that can be written to; a server in memory is behind `Dial`"
)]
fn open(options: &ConnectionOptions) -> Result<Stream, PgError> {
    if let Some(dial) = &options.dial {
        return Ok(Stream::Dialled(dial.dial()?));
    }
    let addresses = (options.host.as_str(), options.port).to_socket_addrs()?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name of the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, options.connect_timeout) {
            Ok(tcp) => return encrypt(tcp, options),
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

fn encrypt(mut tcp: TcpStream, options: &ConnectionOptions) -> Result<Stream, PgError> {
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(options.connect_timeout))?;
    tcp.set_write_timeout(Some(options.socket_timeout))?;
    if options.ssl_mode == SslMode::Disable {
        return Ok(Stream::Plain(tcp));
    }
    let mut request = Vec::new();
    put_untagged(&mut request, |out| out.extend(SSL_REQUEST.to_be_bytes()));
    tcp.write_all(&request)?;
    let mut answer = [0];
    tcp.read_exact(&mut answer)?;
    match (answer, options.ssl_mode) {
        ([b'S'], _) => Ok(tls::encrypt(tcp, options)?),
        ([b'N'], SslMode::Prefer) => Ok(Stream::Plain(tcp)),
        ([b'N'], _) => {
            Err(io::Error::other("the server does not encrypt connections, and sslmode asks for it").into())
        }
        _ => Err(PgError::Protocol("an answer to the request for encryption that is none".to_owned())),
    }
}

fn authenticate(client: &mut Client, options: &ConnectionOptions) -> Result<(), PgError> {
    let mut scram = None;
    loop {
        let message = client.receive()?;
        let mut reader = Reader(&message.body);
        match message.tag {
            b'R' => answer(client, options, &mut scram, &mut reader)?,
            b'E' => {
                client.is_broken = true;
                return Err(PgError::from_body(&message.body));
            }
            b'K' | b'v' => {}
            b'Z' => return Ok(()),
            tag => return Err(client.unexpected(tag)),
        }
    }
}

/// Answers one question of the server about the password.
fn answer(
    client: &mut Client,
    options: &ConnectionOptions,
    scram: &mut Option<Scram>,
    reader: &mut Reader<'_>,
) -> Result<(), PgError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let password = options.password.as_str();
    let reply = match reader.u32()? {
        0 => return Ok(()),
        3 => terminated(password),
        5 => terminated(&md5_answer(&options.username, password, reader.bytes(4)?)),
        10 => {
            // The server knows the user from the first message of the connection.
            let first = scram.insert(Scram::new(ScramHash::Sha256, "", password)?).first();
            let mut reply = terminated("SCRAM-SHA-256");
            reply.extend((first.len() as u32).to_be_bytes());
            reply.extend(first.as_bytes());
            reply
        }
        11 => match scram {
            Some(scram) => scram.answer(&text(reader.0))?.into_bytes(),
            None => return Err(PgError::Protocol("a challenge without a request".to_owned())),
        },
        12 => {
            return match scram {
                Some(scram) => Ok(scram.check(&text(reader.0))?),
                None => Err(PgError::Protocol("an end without a request".to_owned())),
            };
        }
        method => {
            let message = format!(
                "the server asks for authentication method {method}; scram-sha-256, md5 and password are possible"
            );
            return Err(io::Error::other(message).into());
        }
    };
    put(&mut client.output, b'p', |out| out.extend(reply));
    client.send()
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_text(&mut bytes, text);
    bytes
}
