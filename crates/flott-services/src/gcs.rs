//! A server that speaks the XML protocol of Google Cloud Storage.
//!
//! That is the protocol of S3 but for the names of headers, who one is and what a condition says, as Google documents for who comes from there. So
//! it is moto behind a translator (`xml`): what is conditional, listed, cut in pieces and missing is so by moto, who may is decided by the translator.
//! Emulators of others (fake-gcs-server 1.56, gcp-storage-emulator) know Google's JSON protocol, which `object_store` does not speak: in XML they have no
//! conditions, uploads in pieces or copies.

mod xml;

use crate::http::Message;
use crate::openssl;
use crate::process::run;
use crate::s3::S3;
use std::fmt;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// A Google Cloud Storage server, which runs until it is dropped. It knows one service account.
pub struct Gcs {
    storage: S3,
    address: String,
    directory: TempDir,
}

impl fmt::Debug for Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gcs").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The key that the server knows, and one that it does not.
const KNOWN: &str = "known";
const UNKNOWN: &str = "unknown";

impl Gcs {
    /// Installs it if need be and starts it.
    ///
    /// # Errors
    /// Why it cannot be had: there is no Python, the package index is out of reach, there is no command `openssl`, ….
    pub fn start() -> Result<Self, String> {
        let storage = S3::start(&[])?;
        let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
        for name in [KNOWN, UNKNOWN] {
            make_key(directory.path(), name)?;
        }
        let cannot = |error: std::io::Error| format!("no port: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?.to_string();
        let upstream = storage.address().to_owned();
        let translator = Arc::new(xml::Translator::new(upstream, directory.path().join("known.public")));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let translator = Arc::clone(&translator);
                std::thread::spawn(move || serve(stream, &translator));
            }
        });
        Ok(Self { storage, address, directory })
    }

    /// `host:port` of the server.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The JSON key file of the service account.
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("known.json")
    }

    /// One with a key that the server does not know.
    pub fn unknown_key_file(&self) -> PathBuf {
        self.directory.path().join("unknown.json")
    }

    /// A new bucket; its name.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn bucket(&self) -> String {
        self.storage.bucket()
    }

    /// Whether pieces of an object that was never completed are in a bucket.
    ///
    /// # Panics
    /// If it does not say.
    pub fn has_uploads(&self, bucket: &str) -> bool {
        self.storage.has_uploads(bucket)
    }
}

fn serve(mut stream: TcpStream, translator: &xml::Translator) {
    // An error is a client that went away.
    let served = Message::read_request(&mut stream)
        .and_then(|request| translator.answer(request))
        .and_then(|answer| answer.write(&mut stream));
    drop(served);
}

/// A key as Google hands it out, `NAME.json`, and what is signed with it is verified with, `NAME.public`.
fn make_key(directory: &Path, name: &str) -> Result<(), String> {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(directory), "openssl")
    };
    openssl(&format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {name}.pem"))?;
    openssl(&format!("pkey -in {name}.pem -pubout -out {name}.public"))?;
    let cannot = |error: std::io::Error| format!("no key file: {error}");
    let key = fs::read_to_string(directory.join(format!("{name}.pem"))).map_err(cannot)?;
    let key = key.replace('\n', "\\n");
    let json = format!(
        "{{\"type\": \"service_account\", \"client_email\": \"tests@flott\", \"private_key_id\": \"{name}\", \"private_key\": \"{key}\"}}"
    );
    fs::write(directory.join(format!("{name}.json")), json).map_err(cannot)
}

/// Whether a token was signed with the key of a service account (RFC 7515, RS256).
fn is_signed(token: &str, public_key: &Path) -> Result<bool, String> {
    let Some((signed, signature)) = token.rsplit_once('.') else { return Ok(false) };
    let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
    let mut signature = signature.replace('-', "+").replace('_', "/");
    signature.push_str(match signature.len() % 4 {
        2 => "==",
        3 => "=",
        _ => "",
    });
    let file = directory.path().join("signature");
    let bytes = openssl::pipe(["base64", "-d", "-A"], signature.as_bytes())?;
    fs::write(&file, bytes).map_err(|error| format!("no file: {error}"))?;
    let arguments = ["dgst".as_ref(), "-sha256".as_ref(), "-verify".as_ref(), public_key.as_os_str()];
    let arguments = arguments.into_iter().chain(["-signature".as_ref(), file.as_os_str()]);
    Ok(openssl::pipe(arguments, signed.as_bytes()).is_ok())
}
