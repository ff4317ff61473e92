//! Stands between client and server, and loses what it is told to lose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pass,
    /// The server does it, and the connection breaks before the answer.
    LoseAnswer,
    /// The connection breaks before the server hears of it.
    LoseRequest,
}

/// Decides by the text of a statement.
pub(crate) type Rule = Box<dyn FnMut(&str) -> Act + Send>;

/// Runs until the process ends: a thread that waits for connections.
pub(crate) struct Proxy {
    pub(crate) address: String,
}

impl Proxy {
    pub(crate) fn start(upstream: &str, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (upstream, rule) = (upstream.to_owned(), Arc::new(Mutex::new(rule)));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (upstream, rule) = (upstream.clone(), Arc::clone(&rule));
                // An error is a connection that breaks, which is what this is for.
                std::thread::spawn(move || serve(client, &upstream, &rule));
            }
        });
        Self { address }
    }
}

/// Loses something about the first statement that contains a text, `n` times.
pub(crate) fn lose(act: Act, text: &'static str, mut n: u32) -> Rule {
    Box::new(move |statement| {
        if n == 0 || !statement.contains(text) {
            return Act::Pass;
        }
        n -= 1;
        act
    })
}

fn serve(mut client: TcpStream, upstream: &str, rule: &Mutex<Rule>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    let loses = Arc::new(AtomicBool::new(false));
    let (answers, asks, lost) = (server.try_clone()?, client.try_clone()?, Arc::clone(&loses));
    std::thread::spawn(move || pass_answers(answers, asks, &lost));
    // The first message has no tag.
    let first = read_message(&mut client, 0)?;
    server.write_all(&first)?;
    loop {
        let Ok(message) = read_message(&mut client, 1) else {
            return server.shutdown(Shutdown::Both);
        };
        let is_statement = matches!(message.first(), Some(b'Q' | b'P'));
        let act =
            if is_statement { rule.lock().unwrap()(&String::from_utf8_lossy(&message)) } else { Act::Pass };
        match act {
            Act::Pass => {}
            Act::LoseAnswer => loses.store(true, Ordering::SeqCst),
            Act::LoseRequest => {
                server.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
        }
        server.write_all(&message)?;
    }
}

fn pass_answers(mut server: TcpStream, mut client: TcpStream, loses: &AtomicBool) -> std::io::Result<()> {
    let mut chunk = vec![0; 1 << 16];
    loop {
        let n = server.read(&mut chunk)?;
        if n == 0 || loses.load(Ordering::SeqCst) {
            server.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&chunk[..n])?;
    }
}

fn read_message(stream: &mut TcpStream, tag_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; tag_bytes + 4];
    stream.read_exact(&mut message)?;
    let length: [u8; 4] = message[tag_bytes..].try_into().unwrap();
    let start = message.len();
    message.resize(tag_bytes + u32::from_be_bytes(length) as usize, 0);
    stream.read_exact(&mut message[start..])?;
    Ok(message)
}
