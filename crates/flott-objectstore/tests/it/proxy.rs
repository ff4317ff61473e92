//! Stands between client and server, and loses what it is told to lose.

use flott_services::Message;
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
    let request = Message::read_request(&mut client)?;
    let act = (rule.lock().unwrap())(&request.start);
    if act == Act::LoseRequest {
        return Ok(());
    }
    let answer = request.exchange(upstream)?;
    if act == Act::LoseAnswer { Ok(()) } else { answer.write(&mut client) }
}
