//! Certificates for `localhost`, made with the command `openssl`.

use crate::process::run;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A certificate for `localhost` in `server.pem` with its key in `server.key`, and that of who signed it in `ca.pem`.
pub(crate) fn certify(directory: &Path) -> Result<(), String> {
    authority(directory, "ca")?;
    openssl(directory, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost")?;
    sign(directory, "server")
}

/// A certificate of somebody who signs others, and its key: `NAME.pem`, `NAME.key`.
pub(crate) fn authority(directory: &Path, name: &str) -> Result<(), String> {
    let arguments = format!("-keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}");
    openssl(directory, &format!("req -x509 -newkey rsa:2048 -nodes {arguments}"))
}

/// A certificate for a client in `client.pem`, signed by `ca.pem`, with its key in `client.key`, which has a password.
pub(crate) fn certify_client(directory: &Path, password: &str) -> Result<(), String> {
    let key = format!("-keyout client.key -passout pass:{password}");
    openssl(directory, &format!("req -newkey rsa:2048 {key} -out client.csr -subj /CN=client"))?;
    sign(directory, "client")
}

fn sign(directory: &Path, name: &str) -> Result<(), String> {
    fs::write(directory.join("names"), "subjectAltName=DNS:localhost")
        .map_err(|error| format!("no file: {error}"))?;
    let signer = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
    openssl(directory, &format!("x509 -req -in {name}.csr -out {name}.pem {signer}"))
}

fn openssl(directory: &Path, arguments: &str) -> Result<(), String> {
    run(Command::new("openssl").args(arguments.split(' ')).current_dir(directory), "openssl")
}
