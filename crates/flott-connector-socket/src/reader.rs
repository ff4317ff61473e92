//! Connects, reads and connects again.

use crate::config::SocketSource;
use crate::lines::{Line, LineBuffer};
use crate::split::SocketSplit;
use flott_api::{InputStatus, SplitOutput, SplitReader};
use flott_env::{AsyncStream, Env};
use flott_types::{Error, ErrorKind, Result};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Stream = Box<dyn AsyncStream>;

/// How much is taken from the connection at once.
const READ_BYTES: usize = 64 << 10;

enum Connection {
    Connecting(BoxFuture<io::Result<Stream>>),
    Open(Stream),
    /// The last attempt failed.
    Waiting(BoxFuture<()>),
    Ended,
}

/// Reads the lines of one connection.
pub struct SocketReader {
    source: SocketSource,
    split: SocketSplit,
    env: Env,
    connection: Connection,
    /// Since the last byte arrived.
    n_failures: u32,
    lines: LineBuffer,
    chunk: Vec<u8>,
}

impl fmt::Debug for SocketReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl SocketReader {
    pub(crate) fn new(source: &SocketSource, split: SocketSplit, env: Env) -> Self {
        Self {
            connection: Connection::Connecting(connect(&env, &split.address)),
            source: source.clone(),
            split,
            env,
            n_failures: 0,
            lines: LineBuffer::new(source.max_line_bytes),
            chunk: vec![0; READ_BYTES],
        }
    }

    /// Puts out lines that have arrived; whether there were any.
    fn put_out(&mut self, records_max: usize, out: &mut SplitOutput<String>) -> bool {
        let before = self.split.n_lines;
        while self.split.n_lines - before < records_max.max(1) as u64
            && let Some(line) = self.lines.next_line()
        {
            put_line(line, self.source.max_line_bytes, self.split.n_lines, out);
            self.split.n_lines += 1;
        }
        self.split.n_lines > before
    }

    /// Waits until bytes have arrived or the connection has ended.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, out: &mut SplitOutput<String>) -> Poll<Result<()>> {
        loop {
            match &mut self.connection {
                Connection::Ended => return Poll::Ready(Ok(())),
                Connection::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.connection = Connection::Connecting(connect(&self.env, &self.split.address));
                }
                Connection::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(stream) => self.connection = Connection::Open(stream),
                    Err(error) => self.failed("connect to", error)?,
                },
                Connection::Open(stream) => {
                    let mut chunk = ReadBuf::new(&mut self.chunk);
                    match ready!(Pin::new(stream).poll_read(cx, &mut chunk)) {
                        Ok(()) if chunk.filled().is_empty() => self.connection = Connection::Ended,
                        Ok(()) => {
                            self.n_failures = 0;
                            self.lines.push(chunk.filled());
                            return Poll::Ready(Ok(()));
                        }
                        Err(error) => {
                            self.put_broken_line(out);
                            self.failed("read from", error)?;
                        }
                    }
                }
            }
        }
    }

    fn failed(&mut self, what: &str, error: io::Error) -> Result<()> {
        if self.n_failures >= self.source.retries_max {
            let address = &self.split.address;
            let attempts = match self.n_failures {
                0 => String::new(),
                n => format!(", {} attempts in a row", n + 1),
            };
            let message = format!("cannot {what} {address}{attempts}");
            return Err(Error::new(ErrorKind::Retry, message).with_source(error));
        }
        self.n_failures += 1;
        self.connection = Connection::Waiting(self.env.sleep(self.source.retry_delay));
        Ok(())
    }

    /// What had arrived of a line when the connection broke is not a record, and not nothing either.
    fn put_broken_line(&mut self, out: &mut SplitOutput<String>) {
        let Some(line) = self.lines.take_rest() else { return };
        let raw = match &line {
            Line::Whole(line) => line,
            Line::TooLong(head) => head.as_slice(),
        };
        // The rest of it is not known.
        out.bad_record_head(
            describe(self.split.n_lines),
            raw,
            "the connection broke in the middle of the line",
        );
        self.split.n_lines += 1;
    }
}

fn connect(env: &Env, address: &str) -> BoxFuture<io::Result<Stream>> {
    let (env, address) = (env.clone(), address.to_owned());
    Box::pin(async move { env.connect(&address).await })
}

fn describe(n_lines: u64) -> String {
    format!("line {}", n_lines + 1)
}

fn put_line(line: Line<'_>, line_bytes_max: usize, n_lines: u64, out: &mut SplitOutput<String>) {
    match line {
        Line::Whole(line) => match std::str::from_utf8(line) {
            Ok(text) => {
                if out.batch.is_empty() {
                    out.position = Some(describe(n_lines));
                }
                out.collect(text.to_owned());
            }
            Err(error) => {
                let message =
                    format!("not UTF-8: byte {} of the line is no character", error.valid_up_to() + 1);
                out.bad_record(describe(n_lines), line, message);
            }
        },
        Line::TooLong(head) => {
            let message =
                format!("longer than {line_bytes_max} bytes, the limit for a line (max_line_bytes)");
            out.bad_record_head(describe(n_lines), &head, message);
        }
    }
}

impl SplitReader for SocketReader {
    type Record = String;
    type Split = SocketSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<String>,
    ) -> Poll<Result<InputStatus>> {
        let n_bad = out.bad_records.len();
        loop {
            if self.put_out(records_max, out) {
                return Poll::Ready(Ok(InputStatus::MoreAvailable));
            }
            if matches!(self.connection, Connection::Ended) {
                if let Some(line) = self.lines.take_rest() {
                    put_line(line, self.source.max_line_bytes, self.split.n_lines, out);
                    self.split.n_lines += 1;
                }
                return Poll::Ready(Ok(InputStatus::EndOfInput));
            }
            match self.poll_bytes(cx, out) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Only what is said to be there is looked at.
                Poll::Pending if out.bad_records.len() > n_bad => {
                    return Poll::Ready(Ok(InputStatus::MoreAvailable));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn split(&self) -> SocketSplit {
        self.split.clone()
    }
}
