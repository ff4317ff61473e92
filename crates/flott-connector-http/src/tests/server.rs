#![expect(clippy::disallowed_methods, reason = "a client of the real server, and a free port for it")]

use crate::{HttpSource, HttpSplit};
use flott_api::SplitSource;
use flott_api::testing::{SourceDriver, SourceSnapshot};
use flott_env::Env;
use flott_types::ErrorKind;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    value: u64,
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn source(address: &str, directory: &Path) -> HttpSource<Reading> {
    HttpSource::json(address, directory.join("log"))
}

/// A source at work, with the values that it has read.
struct Job {
    env: Env,
    driver: SourceDriver<HttpSource<Reading>>,
    read: Vec<u64>,
}

impl Job {
    fn start(source: &HttpSource<Reading>, restored: Option<SourceSnapshot<HttpSplit>>) -> Self {
        let env = Env::real().unwrap();
        let driver = match restored {
            None => SourceDriver::start(source, &env, 1),
            Some(snapshot) => SourceDriver::restore(source, &env, 1, snapshot),
        };
        let mut job = Self { env, driver: driver.unwrap(), read: Vec::new() };
        // It may have to wait until who was there before has gone, who may still take connections and answer none.
        for _ in 0..1_000 {
            job.read();
            if source.options.token.is_some() || is_answering(&source.options.address) {
                return job;
            }
            let sleep = job.env.sleep(Duration::from_millis(10));
            job.env.block_on(sleep);
        }
        panic!("the source does not start");
    }

    fn read(&mut self) -> &[u64] {
        let records = self.driver.read_available(2).unwrap();
        assert!(records.bad_records.is_empty(), "{records:?}");
        self.read.extend(records.into_records().into_iter().map(|reading| reading.value));
        &self.read
    }
}

/// Whether an empty request is answered.
fn is_answering(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    /// The status line and headers of an answer, and its body.
    fn send(&mut self, head: &str, body: &str) -> (String, String) {
        let len = body.len();
        let request = format!("{head}\r\nhost: x\r\ncontent-length: {len}\r\n\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> (String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "no answer after {head:?}");
        }
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; len.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }
}

fn post(address: &str, head: &str, body: &str) -> (u16, String) {
    let (head, body) = Client::connect(address).send(head, body);
    (head[9..12].parse().unwrap(), body)
}

#[test]
fn what_is_posted_is_read_and_what_cannot_be_read_is_refused_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut job = Job::start(&source(&address, directory.path()).max_body_bytes(200), None);
    let post = |head: &str, body: &str| post(&address, head, body);
    let lines = "POST / HTTP/1.1";
    assert_eq!(post(lines, "{\"value\":1}\r\n\n{\"value\":2}"), (200, "{\"accepted\":2}\n".to_owned()));
    assert_eq!(
        post("POST /?x HTTP/1.1\r\ncontent-type: application/json; charset=utf-8", "{\n\"value\":3\n}").0,
        200
    );
    assert_eq!(post(lines, "").1, "{\"accepted\":0}\n");
    let (status, why) = post(lines, "{\"value\":4}\n{\"value\":-1}\n");
    assert_eq!(status, 400);
    assert_eq!(
        why,
        "line 2: field 'value': invalid value: integer `-1`, expected u64, at column 11; nothing of the request was taken\n"
    );
    assert_eq!(post(lines, &"x".repeat(201)).0, 413);
    assert_eq!(post("POST /other HTTP/1.1", "").0, 404);
    assert_eq!(post("GET / HTTP/1.1", "").0, 405);
    assert_eq!(post("POST / HTTP/1.1\r\norigin: http://evil.example", "{\"value\":5}").0, 403);

    let mut client = Client::connect(&address);
    for value in 6..9 {
        assert!(client.send(lines, &format!("{{\"value\":{value}}}")).0.starts_with("HTTP/1.1 200"));
    }
    // Without a length, and larger than allowed.
    let chunk = format!(
        "{lines}\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nc9\r\n{}\r\n0\r\n\r\n",
        " ".repeat(201)
    );
    client.0.get_mut().write_all(chunk.as_bytes()).unwrap();
    assert!(client.answer().0.starts_with("HTTP/1.1 413"));
    assert_eq!(job.read(), [1, 2, 3, 6, 7, 8]);
}

#[test]
fn what_is_posted_later_wakes_the_reader() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let Job { env, mut driver, .. } = Job::start(&source(&address, directory.path()), None);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let client = std::thread::spawn(move || {
        // The reader waits by now, as a rule.
        receiver.recv().unwrap();
        post(&address, "POST / HTTP/1.1", "{\"value\":1}")
    });
    let mut has_polled = false;
    let read = env.block_on(async move {
        std::future::poll_fn(|cx| {
            let polled = driver.poll_all(cx, 10);
            if !std::mem::replace(&mut has_polled, true) {
                sender.send(()).unwrap();
            }
            polled
        })
        .await
    });
    assert_eq!(read.unwrap().into_records(), [Reading { value: 1 }]);
    assert_eq!(client.join().unwrap().0, 200);
}

#[test]
fn a_client_without_the_token_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let source = source(&address, directory.path()).bearer_token("s3cr3t");
    assert!(!format!("{source:?}").contains("s3cr3t"));
    let mut job = Job::start(&source, None);
    let record = "{\"value\":1}";
    for said in [
        "",
        "\r\nauthorization: Bearer s3cr3",
        "\r\nauthorization: Bearer s3cr3t2",
        "\r\nauthorization: s3cr3t",
    ] {
        assert_eq!(post(&address, &format!("POST / HTTP/1.1{said}"), record).0, 401, "{said}");
    }
    assert_eq!(job.read(), [0; 0]);
    assert_eq!(post(&address, "POST / HTTP/1.1\r\nauthorization: Bearer s3cr3t", record).0, 200);
    assert_eq!(job.read(), [1]);
}

#[test]
fn an_address_that_others_reach_needs_a_token_or_a_word() {
    let source = HttpSource::<Reading>::json("0.0.0.0:9", "/log");
    let error = SplitSource::splits(&source, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError);
    assert!(error.to_string().contains("bearer_token"), "{error}");
    assert!(SplitSource::splits(&source.clone().bearer_token("x"), 1).is_ok());
    assert!(SplitSource::splits(&source.allow_unauthenticated(), 1).is_ok());
    assert!(SplitSource::splits(&HttpSource::<Reading>::json("here", "/log"), 1).is_err());
}

#[test]
fn a_log_that_is_full_refuses_until_a_checkpoint_is_past_it() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut job = Job::start(&source(&address, directory.path()).segment_bytes(100).max_log_bytes(400), None);
    let mut n_taken = 0;
    let refused = loop {
        let (head, body) =
            Client::connect(&address).send("POST / HTTP/1.1", &format!("{{\"value\":{n_taken}}}"));
        if !head.starts_with("HTTP/1.1 200") {
            break (head, body);
        }
        n_taken += 1;
        assert!(n_taken < 100, "it is never full");
    };
    assert!(refused.0.starts_with("HTTP/1.1 503") && refused.0.contains("retry-after: 1"), "{refused:?}");
    assert!(refused.1.contains("the log is full"), "{refused:?}");
    assert_eq!(job.read(), (0..n_taken).collect::<Vec<_>>());
    assert_eq!(post(&address, "POST / HTTP/1.1", "{\"value\":0}").0, 503, "to be read is not enough");
    let snapshot = job.driver.snapshot().unwrap();
    job.driver.checkpoint_complete(&snapshot).unwrap();
    assert_eq!(post(&address, "POST / HTTP/1.1", "{\"value\":1000}").0, 200);
    assert_eq!(job.read().last(), Some(&1_000));
}

#[test]
fn reading_goes_on_behind_the_checkpoint_on_the_same_port_in_the_same_process() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let source = source(&address, directory.path());
    let post = |value: u64| post(&address, "POST / HTTP/1.1", &format!("{{\"value\":{value}}}")).0;
    let mut job = Job::start(&source, None);
    // Stays open, and must not keep the port.
    let mut idle = Client::connect(&address);
    assert!(idle.send("POST / HTTP/1.1", "{\"value\":0}").0.starts_with("HTTP/1.1 200"));
    assert_eq!(post(1), 200);
    assert_eq!(job.read(), [0, 1]);
    let snapshot = job.driver.snapshot().unwrap();
    assert_eq!(post(2), 200);
    assert_eq!(job.read(), [0, 1, 2]);
    assert_eq!(post(3), 200);
    drop(job);

    let mut job = Job::start(&source, Some(snapshot));
    assert_eq!(post(4), 200);
    assert_eq!(job.read(), [2, 3, 4]);
    drop(job);
    // Without the snapshot, all that the log has.
    assert_eq!(Job::start(&source, None).read(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_client_that_does_not_go_on_is_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let source =
        source(&address, directory.path()).request_timeout(Duration::from_millis(100)).max_connections(1);
    let mut job = Job::start(&source, None);
    let mut slow = Client::connect(&address);
    slow.0.get_mut().write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").unwrap();
    assert!(slow.answer().0.starts_with("HTTP/1.1 408"));
    let mut slower = Client::connect(&address);
    slower.0.get_mut().write_all(b"POST / HT").unwrap();
    let mut rest = Vec::new();
    // Whether it hears an answer first is not the point: the connection ends.
    drop(slower.0.read_to_end(&mut rest));
    assert_eq!(post(&address, "POST / HTTP/1.1", "{\"value\":1}").0, 200);
    assert_eq!(job.read(), [1]);
}

#[test]
fn many_clients_at_once_are_all_acknowledged_and_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut job = Job::start(&source(&address, directory.path()).segment_bytes(2_000), None);
    let clients: Vec<_> = (0..8_u64)
        .map(|client| {
            let address = address.clone();
            std::thread::spawn(move || {
                let mut connection = Client::connect(&address);
                for n in 0..50 {
                    let (first, second) = (client * 1_000 + n * 2, client * 1_000 + n * 2 + 1);
                    let body = format!("{{\"value\":{first}}}\n{{\"value\":{second}}}");
                    assert!(connection.send("POST / HTTP/1.1", &body).0.starts_with("HTTP/1.1 200"));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    job.read();
    for client in 0..8 {
        let of_client: Vec<u64> = job.read.iter().copied().filter(|value| value / 1_000 == client).collect();
        assert_eq!(of_client, (client * 1_000..client * 1_000 + 100).collect::<Vec<_>>(), "in order");
    }
    assert_eq!(job.read.len(), 800);
}

#[test]
fn a_request_that_comes_again_with_its_key_is_answered_as_before_and_taken_once() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let source = source(&address, directory.path());
    let post =
        |key: &str, body: &str| post(&address, &format!("POST / HTTP/1.1\r\nIdempotency-Key: {key}"), body);
    let body = "{\"value\":1}\n{\"value\":2}";
    let mut job = Job::start(&source, None);
    assert_eq!(post("\"a\"", body), (200, "{\"accepted\":2}\n".to_owned()));
    assert_eq!(post("\"a\"", body), (200, "{\"accepted\":2}\n".to_owned()));
    assert_eq!(post("a", body).0, 200, "quotes are no part of it");
    let (status, why) = post("\"a\"", "{\"value\":3}");
    assert_eq!((status, why.contains("with another body")), (422, true), "{why}");
    // What was refused may be mended.
    assert_eq!(post("b", "{\"value\":\"4\"}").0, 400);
    assert_eq!(post("b", "{\"value\":4}").0, 200);
    assert_eq!(post("", body).0, 400);
    assert_eq!(post(&"k".repeat(256), body).0, 400);
    assert_eq!(job.read(), [1, 2, 4]);
    let snapshot = job.driver.snapshot().unwrap();
    job.driver.checkpoint_complete(&snapshot).unwrap();
    drop(job);

    let mut job = Job::start(&source, Some(snapshot));
    assert_eq!(post("a", body).0, 200);
    assert_eq!(post("b", body).0, 422);
    assert_eq!(post("c", "{\"value\":5}").0, 200);
    assert_eq!(job.read(), [5]);
}

#[test]
fn keys_beyond_the_limits_are_new() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let source = source(&address, directory.path()).idempotency_keys_max(2);
    let post =
        |key: &str| post(&address, &format!("POST / HTTP/1.1\r\nIdempotency-Key: {key}"), "{\"value\":1}").0;
    let mut job = Job::start(&source, None);
    for (key, n_read) in [("a", 1), ("b", 2), ("a", 2), ("c", 3), ("b", 3), ("a", 4), ("a", 4)] {
        assert_eq!(post(key), 200);
        assert_eq!(job.read().len(), n_read, "{key}");
    }
}

#[test]
fn posted_records_become_rows_of_batches_and_a_bad_one_is_named_by_its_line() {
    use flott_format_arrow::ArrowBatch;
    use flott_format_arrow::schema::{DataType, Field, Schema};
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let schema = Schema::new(vec![Field::new("value", DataType::UInt64, false)]);
    let format = flott_format_json::JsonFormat::new().arrow(std::sync::Arc::new(schema));
    let source = HttpSource::<ArrowBatch>::format(&address, directory.path().join("log"), format);
    let env = Env::real().unwrap();
    let mut driver = SourceDriver::start(&source, &env, 1).unwrap();
    assert!(driver.read_available(1_024).unwrap().into_records().is_empty());
    let head = "POST / HTTP/1.1";
    assert_eq!(post(&address, head, "{\"value\":1}\n{\"value\":2}\n\n{\"value\":3}").0, 200);
    let (status, why) = post(&address, head, "{\"value\":4}\n\n{\"value\":\"5\"}");
    assert_eq!(status, 400);
    assert!(why.starts_with("line 3: field 'value': invalid type"), "{why}");
    let batches = driver.read_available(1_024).unwrap().into_records();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).collect::<Vec<_>>(), [3]);
}
