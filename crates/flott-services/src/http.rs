//! The little of HTTP/1.1 that stands between clients and servers of tests: one request a connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A request or an answer with its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names and values, as they came.
    pub headers: Vec<(String, String)>,
    /// As it came: what is encoded in chunks still is.
    pub body: Vec<u8>,
}

impl Message {
    /// One without headers and body.
    pub fn new(start: impl Into<String>) -> Self {
        Self { start: start.into(), ..Self::default() }
    }

    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Takes a header out; its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.headers.iter().position(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(self.headers.remove(at).1)
    }

    /// Sets a header, in place of one of that name.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    /// Reads a request whose header says how long its body is.
    ///
    /// # Errors
    /// If the connection fails, or ends before the request does.
    pub fn read_request(stream: &mut impl Read) -> io::Result<Self> {
        let (mut message, mut bytes) = Self::read_head(stream)?;
        let len = message.body_len().unwrap_or(0);
        read_up_to(stream, &mut bytes, len)?;
        message.body = bytes;
        Ok(message)
    }

    /// Sends this request to a server, on a connection that then ends; the answer.
    ///
    /// # Errors
    /// If there is no server, or it gives no answer.
    pub fn exchange(mut self, address: &str) -> io::Result<Self> {
        self.set("Connection", "close");
        let mut server = TcpStream::connect(address)?;
        self.write(&mut server)?;
        let (mut answer, mut bytes) = Self::read_head(&mut server)?;
        match answer.body_len() {
            _ if self.start.starts_with("HEAD ") => {}
            // Servers take their time to end a connection.
            Some(len) => read_up_to(&mut server, &mut bytes, len)?,
            None => drop(server.read_to_end(&mut bytes)?),
        }
        answer.body = bytes;
        Ok(answer)
    }

    /// Writes it as it goes over the line.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("{}\r\n{}\r\n", self.start, headers.collect::<String>());
        // At once: a second packet may wait for the answer to the first.
        stream.write_all(&[head.as_bytes(), &self.body].concat())
    }

    /// Reads up to the end of the head; what came behind it.
    fn read_head(stream: &mut impl Read) -> io::Result<(Self, Vec<u8>)> {
        let mut bytes = Vec::new();
        let head_len = loop {
            let end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
            match end {
                Some(at) => break at + 4,
                None => read_some(stream, &mut bytes)?,
            }
        };
        let rest = bytes.split_off(head_len);
        Ok((Self::parse(&bytes), rest))
    }

    /// How long it says that its body is.
    fn body_len(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }

    fn parse(head: &[u8]) -> Self {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        Self { start, headers, body: Vec::new() }
    }
}

/// Reads until there are `len` bytes.
fn read_up_to(stream: &mut impl Read, bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    bytes.reserve(len.saturating_sub(bytes.len()));
    while bytes.len() < len {
        read_some(stream, bytes)?;
    }
    Ok(())
}

fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 1 << 16];
    match stream.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => {
            bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_body_and_written_as_it_was() {
        let text = b"PUT /a?b=c HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello";
        let mut message = Message::read_request(&mut text.as_slice()).expect("a request");
        assert_eq!((message.start.as_str(), message.header("HOST")), ("PUT /a?b=c HTTP/1.1", Some("here")));
        assert_eq!(message.body, b"hello");
        let mut written = Vec::new();
        message.write(&mut written).expect("written");
        assert_eq!(written, text);
        message.set("host", "there");
        assert_eq!((message.header("Host"), message.headers.len()), (Some("there"), 2));
        let cut = text.get(..text.len() - 1).expect("shorter");
        let error = Message::read_request(&mut &*cut).expect_err("it ends before");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
