//! A server in memory that keeps the contract of the real one towards sources: one table, its log, a publication and a replication slot.
//!
//! It speaks the protocol, so that everything of the connector is in use but the network. What it promises: transactions come whole, in the order of
//! their commits, from the place that the slot has confirmed or the later one that the client names; a slot has one reader; what it has confirmed never
//! goes back; the log before that is gone. What it does not promise: that a snapshot sees a transaction as soon as the log has it, that bytes come
//! together that were sent together, or that it notices when a connection breaks.

mod replication;
mod statements;
mod wire;

use crate::cdc::simulation::Lsn;
use crate::client::{Dial, Wire};
use flott_env::sim::SimRng;
use replication::{Slot, Transaction};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use wire::{Connection, Session};

/// Rows of a transaction.
const TRANSACTION_ROWS: usize = 3;

#[derive(Clone)]
pub(crate) struct Server(Arc<Mutex<State>>);

/// What a snapshot sees.
#[derive(Clone, Debug)]
struct Snapshot {
    xmax: u32,
    in_progress: BTreeSet<u32>,
}

pub(crate) struct State {
    rng: SimRng,
    /// All rows that were ever committed, with their transactions.
    rows: Vec<(i64, u32)>,
    next_xid: u32,
    /// In the log, and not seen by so many of the next snapshots.
    unseen: BTreeMap<u32, u64>,
    /// What the server still has of it.
    log: VecDeque<Transaction>,
    log_end: Lsn,
    /// Of each transaction that was ever in the log, how many rows there are with it, and where it ends.
    ends: Vec<(u64, Lsn)>,
    has_publication: bool,
    slot: Option<Slot>,
    sessions: BTreeMap<u32, Session>,
    last_pid: u32,
    /// A connection breaks at this one of the messages that come.
    breaks_at: Option<u64>,
    /// What a client has done that no server would take.
    broken_rule: Option<String>,
}

impl Server {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            rng: SimRng::new(seed),
            rows: Vec::new(),
            next_xid: 700,
            unseen: BTreeMap::new(),
            log: VecDeque::new(),
            log_end: Lsn(0x1_0000_0000),
            ends: Vec::new(),
            has_publication: false,
            slot: None,
            sessions: BTreeMap::new(),
            last_pid: 0,
            breaks_at: None,
            broken_rule: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Dial for Server {
    fn dial(&self) -> io::Result<Box<dyn Wire>> {
        let mut state = self.state();
        state.last_pid += 1;
        let pid = state.last_pid;
        state.sessions.insert(pid, Session::default());
        Ok(Box::new(Connection { server: self.clone(), pid }))
    }
}

impl State {
    /// Commits these rows, a few at once. Snapshots may not see the last transaction at once if `is_concurrent`.
    pub(crate) fn insert(&mut self, ids: &[i64], is_concurrent: bool) {
        for rows in ids.chunks(TRANSACTION_ROWS) {
            let xid = self.next_xid;
            self.next_xid += 1;
            self.rows.extend(rows.iter().map(|id| (*id, xid)));
            let commit = Lsn(self.log_end.0 + 100);
            let end = Lsn(commit.0 + 40);
            self.log.push_back(Transaction { xid, commit, end, rows: rows.to_vec() });
            self.log_end = end;
            self.ends.push((self.rows.len() as u64, end));
        }
        if is_concurrent {
            let n_snapshots = self.rng.below(3);
            self.unseen.insert(self.next_xid - 1, n_snapshots);
        }
    }

    /// The log goes on with what concerns no table.
    pub(crate) fn write_log(&mut self) {
        self.log_end.0 += 1_000;
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn make_publication(&mut self) {
        self.has_publication = true;
    }

    /// Waits for the transactions that run, and begins behind them.
    pub(crate) fn make_slot(&mut self) -> Lsn {
        self.unseen.clear();
        let at = self.log_end;
        self.slot = Some(Slot { made_at: at, confirmed: at, active: None });
        self.forget_log();
        at
    }

    /// All sessions are ended, or all connections break; and one of the next, too, in the middle of something.
    pub(crate) fn disconnect(&mut self) {
        let pids: Vec<u32> = self.sessions.keys().copied().collect();
        let is_cut = self.rng.below(2) == 0;
        pids.into_iter().for_each(|pid| if is_cut { self.cut(pid) } else { self.terminate(pid) });
        self.breaks_at = Some(self.rng.below(14));
    }

    /// How much of the rows was confirmed, as the log has them: it has no other from then on.
    pub(crate) fn n_confirmed(&self) -> u64 {
        let confirmed = self.slot.as_ref().map_or(Lsn(0), |slot| slot.confirmed);
        self.ends.iter().take_while(|(_, end)| *end <= confirmed).last().map_or(0, |(n_rows, _)| *n_rows)
    }

    /// That the slot has confirmed no more than `durable`, or than was there when it was made.
    pub(crate) fn check(&self, durable: Option<Lsn>) -> Result<(), String> {
        if let Some(rule) = &self.broken_rule {
            return Err(rule.clone());
        }
        let Some(slot) = &self.slot else { return Ok(()) };
        let most = durable.unwrap_or_default().max(slot.made_at);
        if slot.confirmed <= most {
            return Ok(());
        }
        let confirmed = slot.confirmed;
        Err(format!("the slot has confirmed {confirmed}, and the last complete checkpoint is at {most}"))
    }

    fn snapshot(&mut self) -> Snapshot {
        let in_progress = self.unseen.iter().filter(|(_, n)| **n > 0).map(|(xid, _)| *xid).collect();
        self.unseen.retain(|_, n| {
            *n = n.saturating_sub(1);
            *n > 0
        });
        Snapshot { xmax: self.next_xid, in_progress }
    }

    /// The rows that a snapshot sees, in the order of their key.
    fn visible(&self, snapshot: &Snapshot) -> Vec<i64> {
        let sees = |xid: u32| xid < snapshot.xmax && !snapshot.in_progress.contains(&xid);
        let mut ids: Vec<i64> = self.rows.iter().filter(|(_, xid)| sees(*xid)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
