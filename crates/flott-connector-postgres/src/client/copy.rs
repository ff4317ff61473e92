//! Data in bulk: rows to the server.

use super::message::{put, put_text};
use super::{Client, PgError};

/// How much of a COPY goes into one message.
const PIECE_BYTES: usize = 64 << 10;

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
}
