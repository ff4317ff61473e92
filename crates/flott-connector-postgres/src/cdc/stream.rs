//! The stream of the log.

use super::config::PostgresCdcSource;
use super::split::Lsn;
use crate::client::{Client, CopyBoth, PgError, Reader, Waited};
use crate::describe::{describe, describe_connect};
use crate::link::Link;
use crate::options::ConnectionOptions;
use crate::schema::{literal, quoted};
use flott_types::{Data, Error, ErrorKind, Result};
use std::time::Duration;

/// How often to ask again for a slot that another session reads.
const ATTEMPTS_MAX: u32 = 50;

/// What comes.
#[derive(Debug)]
pub(super) enum Event {
    /// A message of the plugin.
    Log(Vec<u8>),
    /// The server has sent everything that was committed before.
    Keepalive(Lsn),
    /// Nothing has come for a while.
    Idle,
}

/// A connection that gets the log of a slot.
#[derive(Debug)]
pub(super) struct LogStream {
    client: Client,
    options: ConnectionOptions,
    table: String,
    /// What the server may forget.
    acknowledged: Lsn,
    received: Lsn,
}

impl LogStream {
    /// Begins at `start`. A session that reads the slot for an earlier attempt is ended.
    pub(super) fn open<T: Data>(source: &PostgresCdcSource<T>, link: &mut Link, start: Lsn) -> Result<Self> {
        let mut options = link.options.clone();
        options.application_name = format!("flott {}", source.slot);
        let client =
            Client::connect_for_replication(&options).map_err(|error| describe_connect(&options, error))?;
        let (table, acknowledged) = (source.table.clone(), Lsn(0));
        let mut stream = Self { client, options, table, acknowledged, received: start };
        let sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '1', publication_names {})",
            quoted(&source.slot),
            literal(&quoted(source.publication()))
        );
        for _ in 0..ATTEMPTS_MAX {
            match stream.client.start_copy_both(&sql) {
                Err(error) if error.code() == "55006" => {
                    end_reader(link, &source.slot, &stream.options.application_name)?
                }
                started => {
                    started.map_err(|error| stream.describe(error))?;
                    return Ok(stream);
                }
            }
        }
        let message = format!(
            "replication slot '{}' for table '{}' is read by somebody else, who does not end",
            source.slot, stream.table
        );
        Err(Error::new(ErrorKind::Retry, message))
    }

    pub(super) fn describe(&self, error: PgError) -> Error {
        describe(&self.options, &self.table, "START_REPLICATION", error)
    }

    /// How long [`LogStream::next`] waits.
    pub(super) fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.client.set_timeout(timeout).map_err(|error| self.describe(error))
    }

    /// Whether something has arrived that nobody has looked at.
    pub(super) fn has_more(&self) -> bool {
        self.client.has_message()
    }

    pub(super) fn next(&mut self) -> Result<Event> {
        let received = self.client.receive_copy_both().map_err(|error| self.describe(error))?;
        let data = match received {
            Waited::TimedOut => return Ok(Event::Idle),
            Waited::Message(CopyBoth::Data(data)) => data,
            Waited::Message(CopyBoth::Done) => {
                return Err(Error::new(
                    ErrorKind::Retry,
                    format!("the server has ended the log of table '{}'", self.table),
                ));
            }
        };
        let event = self.event(&data);
        event.map_err(|error| self.describe(error))
    }

    fn event(&mut self, data: &[u8]) -> Result<Event, PgError> {
        let mut reader = Reader(data);
        match reader.u8()? {
            b'w' => {
                reader.bytes(24)?;
                Ok(Event::Log(reader.0.to_vec()))
            }
            b'k' => {
                let sent = Lsn(reader.u64()?);
                reader.bytes(8)?;
                if reader.u8()? == 1 {
                    self.send_status(false)?;
                }
                Ok(Event::Keepalive(sent))
            }
            tag => Err(PgError::Protocol(format!("a message '{}' in a replication", tag.escape_ascii()))),
        }
    }

    /// Says that it is alive, and what the server may forget.
    pub(super) fn tell(&mut self, acknowledged: Lsn, received: Lsn) -> Result<()> {
        self.acknowledged = self.acknowledged.max(acknowledged);
        self.received = self.received.max(received);
        self.send_status(false).map_err(|error| self.describe(error))
    }

    /// Asks how far the server is.
    pub(super) fn ask(&mut self) -> Result<()> {
        self.send_status(true).map_err(|error| self.describe(error))
    }

    fn send_status(&mut self, asks: bool) -> Result<(), PgError> {
        let mut message = vec![b'r'];
        for lsn in [self.received, self.acknowledged, self.acknowledged] {
            message.extend(lsn.0.to_be_bytes());
        }
        // The server does not look at our clock.
        message.extend(0_u64.to_be_bytes());
        message.push(u8::from(asks));
        self.client.send_copy_data(&message)
    }
}

/// Ends the session of an earlier attempt that reads the slot; of somebody else it waits for the end.
fn end_reader(link: &mut Link, slot: &str, application_name: &str) -> Result<()> {
    let sql = "SELECT pg_terminate_backend(a.pid), pg_sleep(0.05) FROM pg_replication_slots AS s \
               JOIN pg_stat_activity AS a ON a.pid = s.active_pid WHERE s.slot_name = $1 AND a.application_name = $2";
    if link.query(sql, &[slot, application_name])?.rows.is_empty() {
        link.batch("SELECT pg_sleep(0.1)")?;
    }
    Ok(())
}
