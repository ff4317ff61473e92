//! Encryption, by OpenSSL as in the client library, and with the same options: whom one of them trusts the other does.

#![expect(
    clippy::disallowed_methods,
    reason = "reads the user's key, where the client library reads it, too"
)]

use super::connection::Refusal;
use crate::config::Properties;
use flott_types::Error;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{HandshakeError, SslConnector, SslConnectorBuilder, SslMethod, SslStream};
use openssl::x509::X509VerifyResult;
use openssl::x509::store::X509StoreBuilder;
use std::net::TcpStream;
use std::path::Path;

/// What is known here of the client library's options for TLS.
const OPTIONS: [&str; 5] = [CA, CERTIFICATE, KEY, KEY_PASSWORD, ENDPOINT];
const CA: &str = "ssl.ca.location";
const CERTIFICATE: &str = "ssl.certificate.location";
const KEY: &str = "ssl.key.location";
const KEY_PASSWORD: &str = "ssl.key.password";
const ENDPOINT: &str = "ssl.endpoint.identification.algorithm";

/// Encrypts a connection to `server`, `host:port`.
pub(super) fn encrypt(
    tcp: TcpStream,
    server: &str,
    properties: &Properties,
) -> Result<SslStream<TcpStream>, Refusal> {
    if let Some(unknown) = properties.names().find(|name| name.contains("ssl.") && !OPTIONS.contains(name)) {
        return Err(Refusal::Final(Error::user(format!(
            "transaction coordinators are asked without the property {unknown}: for connections to them there are {}; do without it, or write at least once",
            OPTIONS.join(", ")
        ))));
    }
    let connector = connector(properties)?;
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    let verifies_host = properties.get(ENDPOINT) != Some("none");
    let configured = connector.configure().map_err(|error| wrong("TLS", &error))?;
    match configured.verify_hostname(verifies_host).connect(host, tcp) {
        Ok(stream) => Ok(stream),
        Err(HandshakeError::Failure(failed)) if failed.error().io_error().is_none() => {
            let why = match failed.ssl().verify_result() {
                X509VerifyResult::OK => failed.error().to_string(),
                refused => format!("its certificate is refused: {}", refused.error_string()),
            };
            Err(Refusal::Final(Error::user(format!(
                "no encrypted connection to the broker at {server}: {why}: check {CA}, the name in bootstrap.servers and in the broker's advertised.listeners, \
                 and that this is a listener for TLS"
            ))))
        }
        Err(HandshakeError::SetupFailure(error)) => Err(wrong("TLS", &error)),
        // It is cut, or takes too long.
        Err(HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed)) => {
            Err(Refusal::Passes(format!("the TLS handshake with {server} was cut: {}", failed.error())))
        }
    }
}

fn connector(properties: &Properties) -> Result<SslConnector, Refusal> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(|error| wrong("TLS", &error))?;
    for (name, set) in [(CA, set_authority as Set), (CERTIFICATE, set_certificate), (KEY, set_key)] {
        if let Some(path) = properties.get(name) {
            let set = set(&mut builder, Path::new(path), properties);
            set.map_err(|error| {
                Refusal::Final(Error::user(format!("the property {name}, '{path}': {error}")))
            })?;
        }
    }
    Ok(builder.build())
}

type Set = fn(&mut SslConnectorBuilder, &Path, &Properties) -> Result<(), Box<dyn std::error::Error>>;

/// Trusts these and no others.
fn set_authority(
    builder: &mut SslConnectorBuilder,
    path: &Path,
    _: &Properties,
) -> Result<(), Box<dyn std::error::Error>> {
    builder.set_cert_store(X509StoreBuilder::new()?.build());
    let (file, dir) = if path.is_dir() { (None, Some(path)) } else { (Some(path), None) };
    Ok(builder.load_verify_locations(file, dir)?)
}

fn set_certificate(
    builder: &mut SslConnectorBuilder,
    path: &Path,
    _: &Properties,
) -> Result<(), Box<dyn std::error::Error>> {
    Ok(builder.set_certificate_chain_file(path)?)
}

fn set_key(
    builder: &mut SslConnectorBuilder,
    path: &Path,
    properties: &Properties,
) -> Result<(), Box<dyn std::error::Error>> {
    let password = properties.get(KEY_PASSWORD).unwrap_or_default().as_bytes();
    // Without a callback OpenSSL would ask who sits at the terminal.
    let key = PKey::private_key_from_pem_callback(&std::fs::read(path)?, |buffer| {
        let n = password.len().min(buffer.len());
        buffer[..n].copy_from_slice(&password[..n]);
        Ok(n)
    })?;
    Ok(builder.set_private_key(&key)?)
}

fn wrong(what: &str, error: &ErrorStack) -> Refusal {
    Refusal::Final(Error::user(format!("{what} cannot be set up: {error}")))
}
