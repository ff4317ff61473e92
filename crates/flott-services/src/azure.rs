//! A server that speaks the protocol of Azure's Blob Storage: Azurite, from the npm registry. Its objects are in memory.

use crate::http::Message;
use crate::openssl;
use crate::process::{Listening, installed, run};
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// The last that runs on Node.js 20. A put with `If-None-Match: *` looks and writes without another request in between.
const PACKAGE: &str = "azurite@3.35.0";

const ACCOUNT: &str = "flott";

const KEY: &[u8] = b"the key of the account of tests";

/// An Azure Blob Storage server, which runs until it is dropped.
pub struct Azure {
    server: Listening,
    /// [`KEY`], as people write it.
    key: String,
    /// What allows requests about containers, in their query.
    shared_access: String,
    containers: AtomicU64,
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Azure {
    /// Installs it if need be and starts it.
    ///
    /// # Errors
    /// Why it cannot be had: there is no Node.js, the registry is out of reach, there is no command `openssl`, ….
    pub fn start() -> Result<Self, String> {
        let (key, shared_access) = (openssl::base64(KEY)?, shared_access()?);
        let mut command = Command::new(install()?);
        command
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0"])
            .args(["--inMemoryPersistence", "--silent", "--disableTelemetry"])
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{key}"));
        let server = Listening::start(&mut command, "azurite", "successfully listens on http://")?;
        Ok(Self { server, key, shared_access, containers: AtomicU64::new(0) })
    }

    /// `host:port` of the server.
    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// The account that it has.
    pub fn account(&self) -> &'static str {
        ACCOUNT
    }

    /// The key of the account, in base64.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A new container; its name.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn container(&self) -> String {
        let container = format!("container-{}", self.containers.fetch_add(1, Ordering::Relaxed));
        let (address, access) = (self.address(), &self.shared_access);
        let path = format!("/{ACCOUNT}/{container}?restype=container&{access}");
        let mut request = Message::new(format!("PUT {path} HTTP/1.1"));
        request.set("Host", address);
        request.set("Content-Length", "0");
        let answer = request.exchange(address);
        let answer = answer.unwrap_or_else(|error| panic!("no container at {address}: {error}"));
        assert!(answer.start.contains(" 201"), "no container: {answer:?}");
        container
    }
}

/// A shared access signature of the account: simpler than to sign each request, and as good for making containers.
fn shared_access() -> Result<String, String> {
    let (permissions, version, end) = ("rwdlac", "2020-08-04", "2100-01-01T00:00:00Z");
    let signed = [ACCOUNT, permissions, "b", "sco", "", end, "", "", version, ""].join("\n");
    let signature = openssl::base64(&openssl::hmac_sha256(KEY, &signed)?)?;
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    Ok(format!("sv={version}&ss=b&srt=sco&sp={permissions}&se={end}&sig={signature}"))
}

fn install() -> Result<PathBuf, String> {
    let dir = installed("azurite-3.35.0", |dir| {
        let mut npm = Command::new("npm");
        npm.arg("install").arg("--prefix").arg(dir);
        npm.args(["--no-audit", "--no-fund", "--ignore-scripts", "--no-save", PACKAGE]);
        run(&mut npm, "npm install azurite")
    })?;
    Ok(dir.join("node_modules").join(".bin").join("azurite-blob"))
}
