//! The log, and the slot through which it is read.

use super::State;
use super::statements::{OID, Refusal, TYPE_OID};
use crate::cdc::simulation::Lsn;
use crate::client::{Reader, put, put_text};

/// All rows are of 2000-01-01.
const CLOCK: u64 = 0;

/// Rows that were inserted together.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) xid: u32,
    pub(super) commit: Lsn,
    pub(super) end: Lsn,
    pub(super) rows: Vec<i64>,
}

pub(super) struct Slot {
    pub(super) made_at: Lsn,
    pub(super) confirmed: Lsn,
    /// Who reads it.
    pub(super) active: Option<u32>,
}

/// The server's side of a stream.
pub(super) struct Sender {
    /// Transactions whose commit stands here or behind come next.
    next: Lsn,
    knows_table: bool,
    /// The last keepalive said so.
    told: Lsn,
    is_asked: bool,
    n_keepalives: u64,
    /// The client has been asked whether it is there.
    awaits_reply: bool,
}

fn data(output: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    put(output, b'd', body);
}

fn log_data(output: &mut Vec<u8>, at: Lsn, message: &[u8]) {
    data(output, |out| {
        out.push(b'w');
        for number in [at.0, at.0, CLOCK] {
            out.extend(number.to_be_bytes());
        }
        out.extend(message);
    });
}

fn keepalive(output: &mut Vec<u8>, sent: Lsn, asks: bool) {
    data(output, |out| {
        out.push(b'k');
        out.extend(sent.0.to_be_bytes());
        out.extend(CLOCK.to_be_bytes());
        out.push(u8::from(asks));
    });
}

fn relation() -> Vec<u8> {
    let mut message = vec![b'R'];
    message.extend(OID.to_be_bytes());
    put_text(&mut message, "public");
    put_text(&mut message, "items");
    message.extend([b'f', 0, 1, 1]);
    put_text(&mut message, "id");
    message.extend(TYPE_OID.to_be_bytes());
    message.extend([0xff; 4]);
    message
}

fn insert(id: i64) -> Vec<u8> {
    let (mut message, text) = (vec![b'I'], id.to_string());
    message.extend(OID.to_be_bytes());
    message.extend([b'N', 0, 1, b't']);
    message.extend((text.len() as u32).to_be_bytes());
    message.extend(text.bytes());
    message
}

impl Transaction {
    /// As `pgoutput` writes it. In between the server may say how far it has read.
    fn write(&self, output: &mut Vec<u8>, with_relation: bool, says_so_behind: Option<usize>) {
        let mut begin = vec![b'B'];
        begin.extend(self.commit.0.to_be_bytes());
        begin.extend(CLOCK.to_be_bytes());
        begin.extend(self.xid.to_be_bytes());
        log_data(output, self.commit, &begin);
        if with_relation {
            log_data(output, self.commit, &relation());
        }
        for (idx, id) in self.rows.iter().enumerate() {
            log_data(output, self.commit, &insert(*id));
            if says_so_behind == Some(idx) {
                keepalive(output, self.commit, false);
            }
        }
        let mut commit = vec![b'C', 0];
        for number in [self.commit.0, self.end.0, CLOCK] {
            commit.extend(number.to_be_bytes());
        }
        log_data(output, self.end, &commit);
    }
}

impl State {
    pub(super) fn start_replication(&mut self, pid: u32, sql: &str) {
        let started = self.sender(pid, sql);
        let Some(session) = self.sessions.get_mut(&pid) else { return };
        match started {
            Ok(sender) => {
                session.sender = Some(sender);
                put(&mut session.output, b'W', |out| out.extend([0, 0, 0]));
            }
            Err(refusal) => {
                session.refuse("ERROR", &refusal);
                session.ready();
            }
        }
    }

    fn sender(&mut self, pid: u32, sql: &str) -> Result<Sender, Refusal> {
        let slot = self.slot.as_mut().ok_or_else(|| Refusal::new("42704", "the slot does not exist"))?;
        if let Some(other) = slot.active {
            return Err(Refusal::new("55006", format!("the slot is active for PID {other}")));
        }
        let asked = sql.split_whitespace().nth(4).and_then(|lsn| lsn.parse::<Lsn>().ok());
        let asked = asked.ok_or_else(|| Refusal::new("42601", sql))?;
        if !self.has_publication {
            return Err(Refusal::new("42704", "the publication does not exist"));
        }
        slot.active = Some(pid);
        // The server notes what runs.
        self.log_end.0 += 50;
        // Whoever asks for what was confirmed does not get it, and is not told.
        let next = asked.max(slot.confirmed);
        Ok(Sender {
            next,
            knows_table: false,
            told: Lsn(0),
            is_asked: false,
            n_keepalives: 0,
            awaits_reply: false,
        })
    }

    /// Sends what comes next, if all has arrived that was sent before.
    pub(super) fn send_log(&mut self, pid: u32) {
        let Some(session) = self.sessions.get_mut(&pid).filter(|it| it.output.is_empty() && !it.is_over)
        else {
            return;
        };
        let Some(sender) = &mut session.sender else { return };
        if sender.awaits_reply {
            // It has had its time: it has read what was asked, and wants to read more.
            return self.terminate(pid);
        }
        let next = self.log.iter().find(|transaction| transaction.commit >= sender.next);
        if let Some(transaction) = next {
            let says_so_behind = Some(self.rng.below(6) as usize);
            transaction.write(&mut session.output, !sender.knows_table, says_so_behind);
            (sender.next, sender.knows_table) = (transaction.end, true);
        } else if sender.told < self.log_end || std::mem::take(&mut sender.is_asked) {
            sender.told = self.log_end;
            sender.n_keepalives += 1;
            sender.awaits_reply = sender.n_keepalives.is_multiple_of(2);
            keepalive(&mut session.output, self.log_end, sender.awaits_reply);
        }
    }

    /// The client says what it has, and what may be forgotten.
    pub(super) fn take_status(&mut self, pid: u32, body: &[u8]) {
        let Some(sender) = self.sessions.get_mut(&pid).and_then(|session| session.sender.as_mut()) else {
            return;
        };
        let mut reader = Reader(body);
        assert_eq!(reader.u8().unwrap(), b'r', "no status");
        let [written, flushed, _applied] = [(); 3].map(|()| Lsn(reader.u64().unwrap()));
        reader.u64().unwrap();
        sender.awaits_reply = false;
        sender.is_asked |= reader.u8().unwrap() == 1;
        if flushed.max(written) > self.log_end {
            self.broken_rule = Some(format!("{flushed} is confirmed, {} is the end", self.log_end));
        }
        // Nothing is confirmed with 0, and what is confirmed stays so.
        if let Some(slot) = &mut self.slot {
            slot.confirmed = slot.confirmed.max(flushed);
        }
        self.forget_log();
    }

    pub(super) fn forget_log(&mut self) {
        let Some(slot) = &self.slot else { return };
        self.log.retain(|transaction| transaction.commit >= slot.confirmed);
    }

    pub(super) fn release_slot(&mut self, pid: u32) {
        if let Some(slot) = &mut self.slot {
            slot.active.take_if(|active| *active == pid);
        }
    }
}
