//! Google's XML protocol in terms of that of S3.

use super::is_signed;
use crate::http::Message;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Stands in front of an S3 server.
pub(super) struct Translator {
    upstream: String,
    /// Of the service account.
    public_key: PathBuf,
    /// Tokens that were seen, and whether they are good: each client shows the same for an hour.
    tokens: Mutex<BTreeMap<String, bool>>,
    /// Held by a conditional request: the other server looks and then writes, so of two at once both could succeed.
    conditional: Mutex<()>,
}

/// It wants to see a signature, of whomever.
const SOMEBODY: &str =
    "AWS4-HMAC-SHA256 Credential=flott/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

impl Translator {
    pub(super) fn new(upstream: String, public_key: PathBuf) -> Self {
        Self { upstream, public_key, tokens: Mutex::default(), conditional: Mutex::default() }
    }

    pub(super) fn answer(&self, mut request: Message) -> io::Result<Message> {
        if !self.is_allowed(request.remove("Authorization").as_deref())? {
            return Ok(refusal("401 Unauthorized", "AuthenticationRequired", "Authentication required."));
        }
        let condition = request.remove("x-goog-if-generation-match");
        let source = request.remove("x-goog-copy-source");
        let is_of_upload = query_has(&request.start, "uploads") || query_has(&request.start, "uploadId");
        match condition.as_deref() {
            None => {}
            // As Google: a condition that would not be looked at must not be taken for one that holds.
            Some(_) if is_of_upload => {
                return Ok(refusal("400 Bad Request", "NotImplemented", "no conditions in uploads"));
            }
            Some("0") => request.set("If-None-Match", "*"),
            Some(_) => return Ok(refusal("400 Bad Request", "InvalidArgument", "no such generation")),
        }
        if let Some((method, rest)) = request.start.split_once(' ') {
            let (target, version) = rest.split_once(' ').unwrap_or((rest, ""));
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mark = if query.is_empty() { "" } else { "?" };
            request.start = format!("{method} {}{mark}{query} {version}", plain(path));
        }
        request.set("Authorization", SOMEBODY);
        request.set("Host", &self.upstream);
        for (name, _) in &mut request.headers {
            rename(name, "x-goog-meta-", "x-amz-meta-");
        }
        let _alone =
            condition.as_ref().map(|_| self.conditional.lock().unwrap_or_else(PoisonError::into_inner));
        let mut answer = match source {
            Some(source) if condition.is_some() => self.copy_if_absent(&request, &source)?,
            Some(source) => {
                request.set("x-amz-copy-source", source);
                request.exchange(&self.upstream)?
            }
            None => request.exchange(&self.upstream)?,
        };
        for (name, _) in &mut answer.headers {
            rename(name, "x-amz-meta-", "x-goog-meta-");
        }
        Ok(answer)
    }

    /// Whether a request is of the service account.
    fn is_allowed(&self, authorization: Option<&str>) -> io::Result<bool> {
        let Some(token) = authorization.and_then(|it| it.strip_prefix("Bearer ")) else { return Ok(false) };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_good) = tokens.get(token) {
            return Ok(*is_good);
        }
        let is_good = is_signed(token, &self.public_key).map_err(io::Error::other)?;
        tokens.insert(token.to_owned(), is_good);
        Ok(is_good)
    }

    /// The copy of the S3 server knows no conditions, the request that ends an upload does: so a piece is copied.
    fn copy_if_absent(&self, request: &Message, source: &str) -> io::Result<Message> {
        let path = request.start.split(' ').nth(1).unwrap_or_default().to_owned();
        let send = |method: &str, query: &str, header: Option<(&str, &str)>, body: String| {
            let mut part = Message::new(format!("{method} {path}?{query} HTTP/1.1"));
            part.set("Host", &self.upstream);
            part.set("Authorization", SOMEBODY);
            if let Some((name, value)) = header {
                part.set(name, value);
            }
            part.set("Content-Length", body.len().to_string());
            part.body = body.into_bytes();
            part.exchange(&self.upstream)
        };
        let begun = send("POST", "uploads", None, String::new())?;
        let Some(id) = element(&begun, "UploadId") else { return Ok(begun) };
        let of_upload = format!("uploadId={id}");
        let copy = Some(("x-amz-copy-source", source));
        let copied = send("PUT", &format!("partNumber=1&{of_upload}"), copy, String::new())?;
        let ended = match element(&copied, "ETag") {
            None => copied,
            Some(tag) => {
                let part = format!("<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>");
                let parts = format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>");
                send("POST", &of_upload, Some(("If-None-Match", "*")), parts)?
            }
        };
        if !ended.start.contains(" 200") {
            send("DELETE", &of_upload, None, String::new())?;
        }
        Ok(ended)
    }
}

/// A path in which only what must be is encoded: clients encode slashes of names and more, which the other server takes for parts of a name.
fn plain(path: &str) -> String {
    let mut parts = path.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from);
        match byte.filter(|byte| byte.is_ascii_alphanumeric() || "-._~/".contains(*byte)) {
            Some(byte) => {
                plain.push(byte);
                plain.push_str(part.get(2..).unwrap_or_default());
            }
            None => {
                plain.push('%');
                plain.push_str(part);
            }
        }
    }
    plain
}

fn query_has(start: &str, name: &str) -> bool {
    let target = start.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

fn rename(name: &mut String, from: &str, to: &str) {
    if let Some(rest) = name.to_ascii_lowercase().strip_prefix(from) {
        *name = format!("{to}{rest}");
    }
}

fn element(answer: &Message, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&answer.body);
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.to_owned())
}

/// In the words of Google.
fn refusal(status: &str, code: &str, said: &str) -> Message {
    let body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{said}</Message></Error>"
    );
    let mut answer = Message::new(format!("HTTP/1.1 {status}"));
    answer.set("Content-Type", "application/xml; charset=UTF-8");
    answer.set("Content-Length", body.len().to_string());
    answer.set("Connection", "close");
    answer.body = body.into_bytes();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        assert_eq!(plain("/a%2Db/c%2Fd%20e%25f%C3%A4%2"), "/a-b/c/d%20e%25f%C3%A4%2");
    }

    #[test]
    fn a_query_has_what_it_has() {
        assert!(query_has("POST /a/b?uploads= HTTP/1.1", "uploads"));
        assert!(query_has("PUT /a/b?partNumber=1&uploadId=x HTTP/1.1", "uploadId"));
        assert!(!query_has("PUT /a/uploads HTTP/1.1", "uploads"));
    }
}
