//! Messages of sessions, a few bytes at a time.

use super::replication::Sender;
use super::statements::Refusal;
use super::{Server, Snapshot, State};
use crate::client::{Reader, Wire, frame_len, put, put_text};
use std::io::{self, Read, Write};

/// What a read returns at most.
const READ_BYTES_MAX: u64 = 256;

/// The client's end of a session.
pub(super) struct Connection {
    pub(super) server: Server,
    pub(super) pid: u32,
}

#[derive(Default)]
pub(super) struct Session {
    pub(super) application_name: String,
    has_started: bool,
    input: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// Nothing goes between its ends any more, and the server does not know.
    is_cut: bool,
    /// The server has ended it.
    pub(super) is_over: bool,
    statement: String,
    parameters: Vec<String>,
    /// Of an open transaction, when it has asked for something.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) sender: Option<Sender>,
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Wire for Connection {}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.server.state();
        let n_max = 1 + state.rng.below(READ_BYTES_MAX) as usize;
        if state.sessions.get(&self.pid).is_none_or(|session| session.is_cut) {
            return Err(reset());
        }
        state.send_log(self.pid);
        let session = state.sessions.get_mut(&self.pid).ok_or_else(reset)?;
        if session.output.is_empty() {
            return if session.is_over { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let n = n_max.min(buf.len()).min(session.output.len());
        for (to, from) in buf.iter_mut().zip(session.output.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut state = self.server.state();
        let session = state.sessions.get_mut(&self.pid).ok_or_else(reset)?;
        if session.is_cut || session.is_over {
            return Err(reset());
        }
        session.input.extend(buf);
        state.take_messages(self.pid);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.server.state();
        // Of one that is cut the server does not hear.
        if state.sessions.get(&self.pid).is_some_and(|session| !session.is_cut) {
            state.release_slot(self.pid);
            state.sessions.remove(&self.pid);
        }
    }
}

impl Session {
    fn put(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
        put(&mut self.output, tag, body);
    }

    pub(super) fn ready(&mut self) {
        self.put(b'Z', |out| out.push(b'I'));
    }

    pub(super) fn refuse(&mut self, severity: &str, Refusal(code, message): &Refusal) {
        self.put(b'E', |out| {
            for (field, text) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message)] {
                out.push(field);
                put_text(out, text);
            }
            out.push(0);
        });
    }

    /// The next message of the client, if it is whole.
    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        // The first has no tag.
        if !self.has_started && !self.input.is_empty() && self.input[0] != b'!' {
            self.input.insert(0, b'!');
        }
        let len = frame_len(&self.input).unwrap().filter(|len| *len <= self.input.len())?;
        let frame: Vec<u8> = self.input.drain(..len).collect();
        Some((frame[0], frame[5..].to_vec()))
    }

    fn start(&mut self, body: &[u8]) {
        let mut reader = Reader(body);
        reader.u32().unwrap();
        while let Ok(name) = reader.text()
            && let Ok(value) = reader.text()
        {
            if name == "application_name" {
                value.clone_into(&mut self.application_name);
            }
        }
        self.has_started = true;
        self.put(b'R', |out| out.extend([0; 4]));
        self.put(b'S', |out| {
            put_text(out, "server_version");
            put_text(out, "16.0");
        });
        self.put(b'K', |out| out.extend([0; 8]));
        self.ready();
    }

    fn parse(&mut self, body: &[u8]) {
        let mut reader = Reader(body);
        reader.text().unwrap();
        reader.text().unwrap().clone_into(&mut self.statement);
        self.put(b'1', |_| ());
    }

    fn bind(&mut self, body: &[u8]) {
        let mut reader = Reader(body);
        reader.bytes(4).unwrap();
        let n = reader.u16().unwrap();
        let text = |_| String::from_utf8(reader.cell().unwrap().unwrap().to_vec()).unwrap();
        self.parameters = (0..n).map(text).collect();
        self.put(b'2', |_| ());
    }
}

impl State {
    fn take_messages(&mut self, pid: u32) {
        while let Some((tag, body)) = self.sessions.get_mut(&pid).and_then(Session::take) {
            let breaks_now = self.breaks_at == Some(0);
            self.breaks_at = self.breaks_at.and_then(|n| n.checked_sub(1));
            // Either the server does not hear of it, or nobody hears what it says.
            if !breaks_now || self.rng.below(2) == 0 {
                self.take_message(pid, tag, &body);
            }
            if breaks_now {
                return self.cut(pid);
            }
        }
    }

    fn take_message(&mut self, pid: u32, tag: u8, body: &[u8]) {
        let Some(session) = self.sessions.get_mut(&pid) else { return };
        match tag {
            b'!' => session.start(body),
            b'P' => session.parse(body),
            b'B' => session.bind(body),
            // The answer to it stands before the rows.
            b'D' => {}
            b'E' => {
                let sql = std::mem::take(&mut session.statement);
                let parameters = std::mem::take(&mut session.parameters);
                self.answer(pid, &sql, &parameters);
            }
            b'S' => session.ready(),
            b'Q' => {
                let sql = Reader(body).text().unwrap().to_owned();
                if sql.starts_with("START_REPLICATION") {
                    return self.start_replication(pid, &sql);
                }
                self.answer(pid, &sql, &[]);
                if let Some(session) = self.sessions.get_mut(&pid) {
                    session.ready();
                }
            }
            b'd' => self.take_status(pid, body),
            b'X' => {
                session.is_over = true;
                self.release_slot(pid);
            }
            tag => panic!("a message '{}' of the client", tag.escape_ascii()),
        }
    }

    fn answer(&mut self, pid: u32, sql: &str, parameters: &[String]) {
        let answer = self.execute(pid, sql, parameters);
        let Some(session) = self.sessions.get_mut(&pid) else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => return session.refuse("ERROR", &refusal),
        };
        if !answer.columns.is_empty() {
            session.put(b'T', |out| {
                out.extend((answer.columns.len() as u16).to_be_bytes());
                for (name, type_oid) in &answer.columns {
                    put_text(out, name);
                    out.extend([0; 6]);
                    out.extend(type_oid.to_be_bytes());
                    out.extend([0; 8]);
                }
            });
        }
        for row in &answer.rows {
            session.put(b'D', |out| {
                out.extend((row.len() as u16).to_be_bytes());
                for text in row {
                    out.extend((text.len() as u32).to_be_bytes());
                    out.extend(text.bytes());
                }
            });
        }
        session.put(b'C', |out| put_text(out, &format!("SELECT {}", answer.rows.len())));
    }

    /// Ends a session as `pg_terminate_backend` does.
    pub(super) fn terminate(&mut self, pid: u32) {
        self.release_slot(pid);
        if let Some(session) = self.sessions.get_mut(&pid)
            && !session.is_over
        {
            session.is_over = true;
            session.sender = None;
            let message = "terminating connection due to administrator command";
            session.refuse("FATAL", &Refusal::new("57P01", message));
        }
    }

    /// Cuts the connection of a session. The server does not notice.
    pub(super) fn cut(&mut self, pid: u32) {
        if let Some(session) = self.sessions.get_mut(&pid) {
            session.is_cut = true;
        }
    }
}
