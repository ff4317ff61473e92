//! Stands between client and server, and loses what it is told to lose.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pass,
    /// The server does it, and the connection breaks before the answer.
    LoseAnswer,
    /// The connection breaks before the server hears of it.
    LoseRequest,
}

/// Decides by the first line of a request.
pub(crate) type Rule = Box<dyn FnMut(&str) -> Act + Send>;

/// Runs until the process ends: a thread that waits for connections.
pub(crate) struct Proxy {
    pub(crate) address: String,
    rule: Arc<Mutex<Rule>>,
}

impl Proxy {
    pub(crate) fn start(upstream: &str, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let rule = Arc::new(Mutex::new(rule));
        let (upstream, shared) = (upstream.to_owned(), Arc::clone(&rule));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (upstream, rule) = (upstream.clone(), Arc::clone(&shared));
                // An error is a connection that breaks, which is what this is for.
                std::thread::spawn(move || serve(stream, &upstream, &rule));
            }
        });
        Self { address, rule }
    }

    pub(crate) fn set(&self, rule: Rule) {
        *self.rule.lock().unwrap() = rule;
    }
}

/// One request a connection: the answer ends with it.
fn serve(mut client: TcpStream, upstream: &str, rule: &Mutex<Rule>) -> std::io::Result<()> {
    let (head, body) = read_request(&mut client)?;
    let first = head.lines().next().unwrap_or_default().to_owned();
    let act = (rule.lock().unwrap())(&first);
    if act == Act::LoseRequest {
        return Ok(());
    }
    let mut server = TcpStream::connect(upstream)?;
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head = kept.collect::<Vec<_>>().join("\r\n");
    server.write_all(format!("{}\r\nConnection: close\r\n\r\n", head.trim_end()).as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if act == Act::LoseAnswer { Ok(()) } else { client.write_all(&answer) }
}

fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1 << 16];
    loop {
        let n = client.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..n]);
        let head_len = bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head_len) = head_len {
            let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if bytes.len() >= head_len + length.unwrap_or(0) {
                return Ok((head, bytes.split_off(head_len)));
            }
        }
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
