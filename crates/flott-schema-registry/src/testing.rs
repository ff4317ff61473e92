//! A registry for tests: the part of the protocol that [`SchemaRegistry`](crate::SchemaRegistry) speaks, on a free port of this machine.
//!
//! It knows one rule of compatibility, which a test can set: none, or that a subject takes no second schema.

#![expect(clippy::disallowed_methods, reason = "a server for tests, outside of any job")]

use crate::schema::{Schema, SchemaType};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What goes wrong with the next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and body.
    Answer(u16, String),
    /// The connection ends without an answer.
    HangUp,
}

#[derive(Debug, Default)]
struct State {
    schemas: Vec<Schema>,
    /// The ids of the versions of each subject.
    subjects: BTreeMap<String, Vec<usize>>,
    authorization: Option<String>,
    is_frozen: bool,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
    is_over: bool,
}

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct TestRegistry {
    port: u16,
    state: Arc<Mutex<State>>,
    server: Option<JoinHandle<()>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TestRegistry {
    /// Starts a registry without schemas.
    ///
    /// # Errors
    /// If the machine has no port.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State::default()));
        let of_server = Arc::clone(&state);
        let server = std::thread::Builder::new().name("test-registry".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if lock(&of_server).is_over {
                    return;
                }
                // Who hangs up in the middle has had enough.
                if let Ok(stream) = stream {
                    drop(serve(stream, &of_server));
                }
            }
        })?;
        Ok(Self { port, state, server: Some(server) })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks for this value of the header `Authorization` from now on.
    pub fn require(&self, authorization: &str) {
        lock(&self.state).authorization = Some(authorization.to_owned());
    }

    /// Takes no second schema under a subject from now on: it would not be compatible.
    pub fn freeze(&self) {
        lock(&self.state).is_frozen = true;
    }

    /// Lets the next requests go wrong, in turn.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.state).faults.extend(faults);
    }

    /// The requests so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state).requests.clone()
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        // Wakes the server, which waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

/// Answers one request and ends the connection.
fn serve(stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut n_body, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => n_body = value.trim().parse().unwrap_or_default(),
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; n_body];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut state = lock(state);
    state.requests.push(format!("{method} {path}"));
    let (status, answer) = match state.faults.pop_front() {
        Some(Fault::HangUp) => return Ok(()),
        Some(Fault::Answer(status, body)) => (status, body),
        None if state.authorization.is_some() && state.authorization != authorization => {
            refusal(401, 401, "Unauthorized")
        }
        None => state.answer(method, path, &body),
    };
    drop(state);
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    reader.get_mut().write_all(format!("{head}{answer}").as_bytes())
}

fn refusal(status: u16, error_code: u32, message: &str) -> (u16, String) {
    (status, serde_json::json!({ "error_code": error_code, "message": message }).to_string())
}

/// The real one says the language only if it is not Avro.
fn described(schema: &Schema) -> serde_json::Value {
    let mut json = serde_json::json!({ "schema": schema.schema });
    if schema.schema_type != SchemaType::Avro {
        json["schemaType"] = serde_json::json!(schema.schema_type);
    }
    if !schema.references.is_empty() {
        json["references"] = serde_json::json!(schema.references);
    }
    json
}

impl State {
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            ("GET", ["schemas", "ids", id]) => self.schema(id),
            ("GET", ["subjects", subject, "versions", version]) => self.version(subject, version),
            ("POST", ["subjects", subject, "versions"]) => self.register(subject, body),
            _ => refusal(404, 404, "HTTP 404 Not Found"),
        }
    }

    fn schema(&self, id: &str) -> (u16, String) {
        let schema = id.parse::<usize>().ok().and_then(|id| self.schemas.get(id.checked_sub(1)?));
        let Some(schema) = schema else {
            return refusal(404, 40_403, &format!("Schema {id} not found"));
        };
        (200, described(schema).to_string())
    }

    fn version(&self, subject: &str, version: &str) -> (u16, String) {
        let Some(versions) = self.subjects.get(subject) else {
            return refusal(404, 40_401, &format!("Subject '{subject}' not found."));
        };
        let id = version.parse::<usize>().ok().and_then(|version| versions.get(version.checked_sub(1)?));
        match id.and_then(|id| self.schemas.get(id.checked_sub(1)?)) {
            None => refusal(404, 40_402, &format!("Version {version} not found.")),
            Some(schema) => (200, described(schema).to_string()),
        }
    }

    fn register(&mut self, subject: &str, body: &[u8]) -> (u16, String) {
        let Ok(schema) = serde_json::from_slice::<Schema>(body) else {
            return refusal(422, 42_201, "Invalid schema");
        };
        let id = self
            .schemas
            .iter()
            .position(|known| *known == schema)
            .map_or(self.schemas.len() + 1, |idx| idx + 1);
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&id) {
            if self.is_frozen && !versions.is_empty() {
                let message = format!(
                    "Schema being registered is incompatible with an earlier schema for subject \"{subject}\""
                );
                return refusal(409, 409, &message);
            }
            versions.push(id);
            if id > self.schemas.len() {
                self.schemas.push(schema);
            }
        }
        (200, serde_json::json!({ "id": id }).to_string())
    }
}
