use crate::SocketSource;
use expect_test::{Expect, expect};
use flott_api::testing::SourceDriver;
use flott_env::sim::Simulation;
use flott_env::{AsyncStream, Env, EnvBackend, FileSystem, TaskHandle};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a connection does next.
#[derive(Clone, Debug)]
enum Step {
    Bytes(Vec<u8>),
    Pause(Duration),
    Break,
}

/// A simulation whose connections are scripts, one after the other; when there is none left, connecting fails.
struct Scripted {
    simulation: Simulation,
    connections: Mutex<Vec<Option<Vec<Step>>>>,
}

struct ScriptedStream {
    env: Env,
    steps: std::vec::IntoIter<Step>,
    sleep: Option<BoxFuture<()>>,
}

impl AsyncRead for ScriptedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.steps.next() {
                None => return Poll::Ready(Ok(())),
                Some(Step::Bytes(bytes)) => {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Some(Step::Pause(duration)) => self.sleep = Some(self.env.sleep(duration)),
                Some(Step::Break) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
    }
}

impl EnvBackend for Scripted {
    fn connect(&self, _: String) -> BoxFuture<io::Result<Box<dyn AsyncStream>>> {
        let mut connections = self.connections.lock().expect("not poisoned");
        let script = if connections.is_empty() { None } else { connections.remove(0) };
        let env = self.simulation.env();
        Box::pin(async move {
            let steps = script.ok_or(io::ErrorKind::ConnectionRefused)?.into_iter();
            Ok(Box::new(ScriptedStream { env, steps, sleep: None }) as Box<dyn AsyncStream>)
        })
    }
    fn elapsed(&self) -> Duration {
        self.simulation.elapsed()
    }
    fn wall_clock_ms(&self) -> i64 {
        self.simulation.wall_clock_ms()
    }
    fn random_u64(&self) -> u64 {
        self.simulation.random_u64()
    }
    fn spawn(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        EnvBackend::spawn(&self.simulation, name, future)
    }
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        self.simulation.spawn_subtask(name, future)
    }
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()> {
        self.simulation.sleep_until(deadline)
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.simulation.fs()
    }
    fn block_on(&self, future: BoxFuture<()>) {
        self.simulation.block_on(future);
    }
    fn cores(&self) -> usize {
        1
    }
    fn trace(&self, _: u64) {}
    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.simulation.print(bytes)
    }
}

/// Reads to the end and writes down what came and when, in milliseconds.
async fn transcript(env: Env, source: SocketSource, parallelism: u32) -> String {
    let mut driver = SourceDriver::start(&source, &env, parallelism).expect("starts");
    let mut text = String::new();
    while !driver.has_ended() {
        let read = poll_fn(|cx| driver.poll_all(cx, 2)).await;
        let at = (env.now() - flott_env::Instant(Duration::ZERO)).as_millis();
        match read {
            Ok(read) => {
                text.extend(read.records.iter().map(|(_, record, _)| format!("{at}: {record:?}\n")));
                text.extend(read.bad_records.iter().map(|bad| {
                    let raw: String = String::from_utf8_lossy(&bad.raw).chars().take(20).collect();
                    format!(
                        "{at}: bad: {} at {}: {} {raw:?}{}\n",
                        bad.split,
                        bad.position,
                        bad.message,
                        if bad.is_truncated { "…" } else { "" }
                    )
                }));
            }
            Err(error) => {
                text.push_str(&format!("{at}: error: {}\n", error.report()));
                break;
            }
        }
    }
    text
}

fn check(source: SocketSource, connections: Vec<Option<Vec<Step>>>, expected: Expect) {
    let simulation = Simulation::new(1);
    let backend = Scripted { simulation: simulation.clone(), connections: Mutex::new(connections) };
    let env = Env::from_backend(Arc::new(backend));
    expected.assert_eq(&simulation.run(transcript(env, source, 2)).expect("ends"));
}

fn bytes(bytes: impl AsRef<[u8]>) -> Step {
    Step::Bytes(bytes.as_ref().to_vec())
}

fn pause(ms: u64) -> Step {
    Step::Pause(Duration::from_millis(ms))
}

#[test]
fn lines_are_put_out_as_they_arrive_until_the_server_closes() {
    check(
        SocketSource::lines("host:1"),
        vec![Some(vec![
            bytes("a\nb\r\nc"),
            pause(100),
            bytes("c\n"),
            pause(50),
            bytes("\n"),
            pause(50),
            bytes("last"),
        ])],
        expect![[r#"
            0: "a"
            0: "b"
            100: "cc"
            150: ""
            200: "last"
        "#]],
    );
}

#[test]
fn a_line_that_is_not_text_or_too_long_is_a_bad_record() {
    check(
        SocketSource::lines("host:1").max_line_bytes(4),
        vec![Some(vec![
            bytes("ok\n"),
            bytes(b"x\xffy\n"),
            bytes("1234\n12345\n"),
            bytes("12345678"),
            bytes("9\nok"),
        ])],
        expect![[r#"
            0: "ok"
            0: bad: host:1 at line 2: not UTF-8: byte 2 of the line is no character "x�y"
            0: "1234"
            0: bad: host:1 at line 4: longer than 4 bytes, the limit for a line (max_line_bytes) "12345"…
            0: bad: host:1 at line 5: longer than 4 bytes, the limit for a line (max_line_bytes) "12345678"…
            0: "ok"
        "#]],
    );
}

#[test]
fn without_retries_the_first_failure_fails_the_job() {
    check(
        SocketSource::lines("host:1"),
        vec![None],
        expect![[r#"
            0: error: reading split host:1: cannot connect to host:1: connection refused
        "#]],
    );
    check(
        SocketSource::lines("host:1"),
        vec![Some(vec![bytes("a\nhalf"), pause(10), Step::Break])],
        expect![[r#"
            0: "a"
            10: error: reading split host:1: cannot read from host:1: connection reset
        "#]],
    );
}

#[test]
fn retries_are_counted_until_something_arrives_and_cut_lines_are_shown() {
    check(
        SocketSource::lines("host:1").retries(2, Duration::from_millis(100)),
        vec![
            None,
            Some(vec![Step::Break]),
            Some(vec![bytes("a\nhalf"), pause(5), Step::Break]),
            None,
            Some(vec![bytes("b\n"), Step::Break]),
            None,
            None,
        ],
        expect![[r#"
            200: "a"
            205: bad: host:1 at line 2: the connection broke in the middle of the line "half"…
            405: "b"
            605: error: reading split host:1: cannot connect to host:1, 3 attempts in a row: connection refused
        "#]],
    );
}

#[test]
fn the_simulation_serves_bytes() {
    let simulation = Simulation::new(1);
    simulation.serve("host:1", b"one\ntwo\n".to_vec());
    let text = simulation.run(transcript(simulation.env(), SocketSource::lines("host:1"), 3)).expect("ends");
    assert_eq!(text, "0: \"one\"\n0: \"two\"\n");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the other end of a real connection")]
fn a_real_connection_is_read() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        io::Write::write_all(&mut connection, b"one\ntwo").expect("written");
    });
    let env = Env::real().expect("an environment");
    let text = env.block_on(transcript(env.clone(), SocketSource::lines(address), 1));
    server.join().expect("no panic");
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(_, line)| line).collect();
    assert_eq!(lines, ["\"one\"", "\"two\""]);
}
