//! What the command `openssl` computes.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs it with this on its standard input; what it prints.
pub(crate) fn pipe<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    input: &[u8],
) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("openssl: {error}");
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(cannot)?;
    // What is written here is less than a pipe holds.
    let written = process.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = process.wait_with_output().map_err(cannot)?;
    written.map_err(cannot)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("openssl fails: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// `bytes` in base64, in one line.
pub(crate) fn base64(bytes: &[u8]) -> Result<String, String> {
    let text = pipe(["base64", "-A"], bytes)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// The HMAC-SHA-256 of `text`.
pub(crate) fn hmac_sha256(key: &[u8], text: &str) -> Result<Vec<u8>, String> {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("hexkey:{key}");
    pipe(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &key, "-binary"], text.as_bytes())
}
