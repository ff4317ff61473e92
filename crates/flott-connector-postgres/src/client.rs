//! A connection that blocks: the part of PostgreSQL's protocol 3.0 that the connector needs, replication among it.
//!
//! Everything travels as text: the server knows how a text becomes a value of a column's type, and says so best if it does not.

mod auth;
mod copy;
mod error;
mod message;
mod startup;
mod stream;
mod tls;

pub(crate) use copy::CopyBoth;
pub(crate) use error::{PgError, ServerError};
pub(crate) use message::{Column, Reader, Row, columns, frame_len, put, put_text};
pub(crate) use stream::Dial;
#[cfg(test)]
pub(crate) use stream::Wire;

use crate::options::ConnectionOptions;
use message::Message;
use std::fmt;
use std::io::{self, Read, Write};
use stream::Stream;

/// How much is read from the connection at once.
const READ_BYTES: usize = 64 << 10;

/// A result: its columns and rows.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
    /// What the last command says of itself, such as `INSERT 0 5`.
    pub(crate) tag: String,
}

impl Answer {
    /// The number of rows that the command changed.
    pub(crate) fn n_changed(&self) -> u64 {
        self.tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// The first value of the first row.
    pub(crate) fn first(&self) -> Option<&str> {
        self.rows.first()?.get(0)
    }
}

/// Why a wait for a message ended without one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited<T> {
    Message(T),
    /// The time is over, and the connection as it was.
    TimedOut,
}

/// A connection.
pub(crate) struct Client {
    stream: Stream,
    input: Vec<u8>,
    /// Up to here `input` has been taken.
    taken: usize,
    output: Vec<u8>,
    is_broken: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("is_broken", &self.is_broken).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects and says who it is.
    pub(crate) fn connect(options: &ConnectionOptions) -> Result<Self, PgError> {
        startup::connect(options, false)
    }

    /// A connection that takes commands of replication, too.
    pub(crate) fn connect_for_replication(options: &ConnectionOptions) -> Result<Self, PgError> {
        startup::connect(options, true)
    }

    fn new(stream: Stream) -> Self {
        Self { stream, input: Vec::new(), taken: 0, output: Vec::new(), is_broken: false }
    }

    /// Whether the connection can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_broken
    }

    /// Whether a message has arrived that nobody has taken.
    pub(crate) fn has_message(&self) -> bool {
        let unread = self.input.get(self.taken..).unwrap_or_default();
        frame_len(unread).is_ok_and(|len| len.is_some_and(|len| len <= unread.len()))
    }

    /// Executes statements without parameters.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<Answer, PgError> {
        put(&mut self.output, b'Q', |out| put_text(out, sql));
        self.send()?;
        self.answer()
    }

    /// Executes one statement with parameters, which the server reads as text.
    pub(crate) fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Answer, PgError> {
        put(&mut self.output, b'P', |out| {
            put_text(out, "");
            put_text(out, sql);
            out.extend(0_u16.to_be_bytes());
        });
        put(&mut self.output, b'B', |out| {
            out.extend([0; 4]);
            out.extend((parameters.len() as u16).to_be_bytes());
            for parameter in parameters {
                let Some(text) = parameter else {
                    out.extend((-1_i32).to_be_bytes());
                    continue;
                };
                out.extend((text.len() as i32).to_be_bytes());
                out.extend(text.as_bytes());
            }
            out.extend(0_u16.to_be_bytes());
        });
        put(&mut self.output, b'D', |out| out.extend([b'P', 0]));
        put(&mut self.output, b'E', |out| out.extend([0; 5]));
        put(&mut self.output, b'S', |_| ());
        self.send()?;
        self.answer()
    }

    /// What the server answers until it is ready for the next query.
    fn answer(&mut self) -> Result<Answer, PgError> {
        let (mut answer, mut error) = (Answer::default(), None);
        loop {
            let message = match self.receive() {
                Ok(message) => message,
                // A server that ends the connection says why before.
                Err(end) => return Err(error.unwrap_or(end)),
            };
            match message.tag {
                b'T' => {
                    answer.columns = self.checked(columns(&message.body))?;
                    answer.rows.clear();
                }
                b'D' => answer.rows.push(self.checked(Row::read(&message.body))?),
                b'C' => self.checked(Reader(&message.body).text())?.clone_into(&mut answer.tag),
                b'E' => error = error.or(Some(PgError::from_body(&message.body))),
                b'Z' => return error.map_or(Ok(answer), Err),
                b'1' | b'2' | b'3' | b'I' | b'n' | b's' => {}
                tag => return Err(self.unexpected(tag)),
            }
        }
    }

    fn unexpected(&mut self, tag: u8) -> PgError {
        self.is_broken = true;
        PgError::Protocol(format!("a message '{}' that nobody waits for", tag.escape_ascii()))
    }

    /// Whoever does not understand a message does not know where the next one belongs.
    fn checked<T>(&mut self, result: Result<T, PgError>) -> Result<T, PgError> {
        self.is_broken |= result.is_err();
        result
    }

    /// Sends what has been put into `output`.
    fn send(&mut self) -> Result<(), PgError> {
        let sent = self.stream.write_all(&self.output).and_then(|()| self.stream.flush());
        self.output.clear();
        self.is_broken |= sent.is_err();
        Ok(sent?)
    }

    /// The next message that concerns the caller.
    fn receive(&mut self) -> Result<Message, PgError> {
        match self.receive_or_time_out()? {
            Waited::Message(message) => Ok(message),
            Waited::TimedOut => {
                self.is_broken = true;
                Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time").into())
            }
        }
    }

    fn receive_or_time_out(&mut self) -> Result<Waited<Message>, PgError> {
        loop {
            let unread = self.input.get(self.taken..).unwrap_or_default();
            let len = frame_len(unread);
            if let Some(len) = self.checked(len)?
                && let Some(frame) = self.input.get(self.taken..self.taken + len)
            {
                let message = Message {
                    tag: frame.first().copied().unwrap_or_default(),
                    body: frame.get(5..).unwrap_or_default().to_vec(),
                };
                self.taken += len;
                // Notices, notifications and settings that have changed may come at any time.
                if matches!(message.tag, b'N' | b'A' | b'S') {
                    continue;
                }
                return Ok(Waited::Message(message));
            }
            if !self.read_more()? {
                return Ok(Waited::TimedOut);
            }
        }
    }

    /// Whether anything has arrived before the time was over.
    fn read_more(&mut self) -> Result<bool, PgError> {
        self.input.drain(..self.taken);
        self.taken = 0;
        let start = self.input.len();
        self.input.resize(start + READ_BYTES, 0);
        let read = self.stream.read(self.input.get_mut(start..).unwrap_or_default());
        self.input.truncate(start + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => {
                self.is_broken = true;
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into())
            }
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => {
                self.is_broken = true;
                Err(error.into())
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.is_open() {
            put(&mut self.output, b'X', |_| ());
            // Whoever does not hear it sees that the connection ends.
            drop(self.send());
        }
    }
}
