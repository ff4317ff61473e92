//! Data in bulk: rows to the server, and the log from it.

use super::message::{put, put_text};
use super::{Client, PgError, Waited};
use std::time::Duration;

/// How much of a COPY goes into one message.
const PIECE_BYTES: usize = 64 << 10;

/// What comes in the stream of a replication.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CopyBoth {
    Data(Vec<u8>),
    /// The server has ended the stream.
    Done,
}

impl Client {
    /// Executes `COPY … FROM STDIN` with these bytes; returns the number of rows.
    pub(crate) fn copy_in(&mut self, sql: &str, data: &[u8]) -> Result<u64, PgError> {
        put(&mut self.output, b'Q', |out| put_text(out, sql));
        self.send()?;
        let message = self.receive()?;
        match message.tag {
            b'G' => {}
            b'E' => {
                let error = PgError::from_body(&message.body);
                return Err(self.answer().err().filter(|_| !self.is_open()).unwrap_or(error));
            }
            tag => return Err(self.unexpected(tag)),
        }
        for piece in data.chunks(PIECE_BYTES) {
            put(&mut self.output, b'd', |out| out.extend(piece));
            // A server that has already said what is wrong takes the rest, too, or closes the connection.
            self.send()?;
        }
        put(&mut self.output, b'c', |_| ());
        self.send()?;
        Ok(self.answer()?.n_changed())
    }

    /// Executes `START_REPLICATION`.
    pub(crate) fn start_copy_both(&mut self, sql: &str) -> Result<(), PgError> {
        put(&mut self.output, b'Q', |out| put_text(out, sql));
        self.send()?;
        let message = self.receive()?;
        match message.tag {
            b'W' => Ok(()),
            b'E' => {
                let error = PgError::from_body(&message.body);
                drop(self.answer());
                Err(error)
            }
            tag => Err(self.unexpected(tag)),
        }
    }

    /// The next message of the stream, if one comes before the time-out of the connection.
    pub(crate) fn receive_copy_both(&mut self) -> Result<Waited<CopyBoth>, PgError> {
        let Waited::Message(message) = self.receive_or_time_out()? else { return Ok(Waited::TimedOut) };
        match message.tag {
            b'd' => Ok(Waited::Message(CopyBoth::Data(message.body))),
            b'c' | b'C' | b'Z' => Ok(Waited::Message(CopyBoth::Done)),
            b'E' => {
                // The stream has ended, and what comes next belongs to nothing.
                self.is_broken = true;
                Err(PgError::from_body(&message.body))
            }
            tag => Err(self.unexpected(tag)),
        }
    }

    /// Sends a message in the stream.
    pub(crate) fn send_copy_data(&mut self, data: &[u8]) -> Result<(), PgError> {
        put(&mut self.output, b'd', |out| out.extend(data));
        self.send()
    }

    /// How long to wait for the server.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) -> Result<(), PgError> {
        Ok(self.stream.set_timeout(timeout)?)
    }
}
