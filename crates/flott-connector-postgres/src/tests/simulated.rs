//! A database in memory that keeps the contract of the real one, and a network that loses what it is told to lose.

use crate::PostgresValue;
use crate::gid::Gid;
use crate::peer::{Backend, Peer, RowOp, Session, Visible};
use flott_connector_sql::{OnBadRow, Owner, RefusedRows};
use flott_types::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The database does not hear of it.
    LoseRequest,
    /// The database does it, and nobody hears of that.
    LoseReply,
}

type Subtask = (String, String, i64);

/// A row of the eager mode.
#[derive(Clone, Debug)]
struct Marked {
    of: Subtask,
    checkpoint: i64,
    row: RowOp,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    rows: Vec<RowOp>,
    marked: Vec<Marked>,
    upserted: BTreeMap<String, RowOp>,
    pub(crate) prepared: BTreeMap<String, (Gid, Vec<RowOp>)>,
    commits: BTreeSet<String>,
    owners: BTreeMap<Subtask, Owner>,
    /// Sessions of writers that are not known to have ended.
    noted: Vec<(Subtask, Backend)>,
    completed: BTreeMap<Subtask, i64>,
    sessions: BTreeSet<i32>,
    last_pid: i32,
    pub(crate) n_calls: u64,
    pub(crate) faults: BTreeMap<u64, Fault>,
}

impl World {
    /// All connections that are open now break.
    pub(crate) fn disconnect(&mut self) {
        self.sessions.clear();
    }

    /// What a reader sees: rows that are committed, in order.
    pub(crate) fn committed(&self) -> Vec<RowOp> {
        let is_complete = |it: &&Marked| self.completed.get(&it.of).is_some_and(|upto| it.checkpoint < *upto);
        let marked = self.marked.iter().filter(is_complete).map(|it| &it.row);
        self.rows.iter().chain(marked).chain(self.upserted.values()).cloned().collect()
    }
}

/// The database.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedPeer(Arc<Mutex<World>>);

impl SimulatedPeer {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Peer for SimulatedPeer {
    fn connect(&self) -> Result<Box<dyn Session>> {
        let mut world = self.world();
        world.last_pid += 1;
        let pid = world.last_pid;
        world.sessions.insert(pid);
        Ok(Box::new(SimulatedSession { peer: self.clone(), pid, is_open: true, transaction: None }))
    }
}

struct SimulatedSession {
    peer: SimulatedPeer,
    pid: i32,
    is_open: bool,
    transaction: Option<Vec<RowOp>>,
}

impl Drop for SimulatedSession {
    fn drop(&mut self) {
        self.peer.world().sessions.remove(&self.pid);
    }
}

impl SimulatedSession {
    fn backend(&self) -> Backend {
        Backend { pid: self.pid, started: self.pid.to_string() }
    }

    fn broken(&mut self) -> Error {
        self.is_open = false;
        self.transaction = None;
        self.peer.world().sessions.remove(&self.pid);
        Error::new(ErrorKind::Retry, "the connection broke")
    }

    /// One round trip.
    fn call<R>(&mut self, f: impl FnOnce(&mut World, &mut Option<Vec<RowOp>>) -> Result<R>) -> Result<R> {
        let fault = {
            let mut world = self.peer.world();
            world.n_calls += 1;
            let n = world.n_calls;
            if world.sessions.contains(&self.pid) {
                world.faults.remove(&n)
            } else {
                Some(Fault::LoseRequest)
            }
        };
        if fault == Some(Fault::LoseRequest) {
            return Err(self.broken());
        }
        let result = f(&mut self.peer.clone().world(), &mut self.transaction);
        if fault == Some(Fault::LoseReply) { Err(self.broken()) } else { result }
    }
}

fn of(owner: &Owner, subtask: i64) -> Subtask {
    (owner.job.clone(), owner.sink.clone(), subtask)
}

fn stands_for(owner: &Owner, it: &Subtask) -> bool {
    it.0 == owner.job && it.1 == owner.sink && it.2 % owner.parallelism == owner.subtask
}

/// Returns the other sessions of the subtasks.
fn note(world: &mut World, owner: &Owner, backend: Backend) -> Vec<Backend> {
    let others = world.noted.iter().filter(|(key, it)| stands_for(owner, key) && *it != backend);
    let others = others.map(|(_, it)| it.clone()).collect();
    world.noted.push((of(owner, owner.subtask), backend));
    others
}

fn is_owner(world: &World, owner: &Owner) -> Result<()> {
    let found = world.owners.get(&of(owner, owner.subtask));
    if found.is_some_and(|it| it.run == owner.run) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Fenced, "another attempt has taken over"))
}

/// Takes rows apart: the table takes no value below 0.
fn sift(rows: &[RowOp], on_bad_row: OnBadRow) -> Result<(Vec<RowOp>, RefusedRows)> {
    let (mut good, mut refused) = (Vec::new(), RefusedRows::new());
    for (idx, row) in rows.iter().enumerate() {
        let is_bad = row.values.iter().any(|value| matches!(value, PostgresValue::Integer(..0)));
        match on_bad_row {
            _ if !is_bad => good.push(row.clone()),
            OnBadRow::Fail => return Err(Error::user("a value below 0")),
            OnBadRow::Refuse => drop(refused.insert(idx, Error::user("a value below 0"))),
        }
    }
    Ok((good, refused))
}

impl Session for SimulatedSession {
    fn is_open(&self) -> bool {
        self.is_open
    }

    fn set_up(&mut self, _: i64) -> Result<()> {
        self.call(|_, _| Ok(()))
    }

    fn claim(&mut self, owner: &Owner) -> Result<Vec<Backend>> {
        let backend = self.backend();
        self.call(|world, _| {
            let is_newer = |(key, it): (&Subtask, &Owner)| {
                let (Some(mine), Some(other)) = (owner.generation, it.generation) else { return false };
                let same = key.0 == owner.job && key.1 == owner.sink && mine.history == other.history;
                same && (other.job > mine.job || stands_for(owner, key) && other.subtask > mine.subtask)
            };
            if world.owners.iter().any(is_newer) {
                return Err(Error::new(ErrorKind::Fenced, "a later generation has been here"));
            }
            world.owners.retain(|key, _| !stands_for(owner, key));
            world.owners.insert(of(owner, owner.subtask), owner.clone());
            Ok(note(world, owner, backend))
        })
    }

    fn end(&mut self, backends: &[Backend]) -> Result<()> {
        let own = self.pid;
        self.call(|world, _| {
            world.sessions.retain(|pid| *pid == own || backends.iter().all(|it| it.pid != *pid));
            world.noted.retain(|(_, it)| !backends.contains(it));
            Ok(())
        })
    }

    fn register(&mut self, owner: &Owner) -> Result<Vec<Backend>> {
        let backend = self.backend();
        self.call(|world, _| {
            is_owner(world, owner)?;
            Ok(note(world, owner, backend))
        })
    }

    fn begin(&mut self) -> Result<()> {
        self.call(|_, transaction| {
            *transaction = Some(Vec::new());
            Ok(())
        })
    }

    fn write(&mut self, rows: &[RowOp], on_bad_row: OnBadRow) -> Result<RefusedRows> {
        self.call(|_, transaction| {
            let (rows, refused) = sift(rows, on_bad_row)?;
            transaction.as_mut().expect("it has begun").extend(rows);
            Ok(refused)
        })
    }

    fn prepare(&mut self, _: &Owner, gid: &Gid, n_rows: u64) -> Result<()> {
        self.call(|world, transaction| {
            let rows = transaction.take().expect("it has begun");
            assert_eq!(rows.len() as u64, n_rows);
            world.prepared.insert(gid.text.clone(), (gid.clone(), rows));
            Ok(())
        })
    }

    fn prepared(&mut self, owner: &Owner) -> Result<Vec<Gid>> {
        let prefix = Gid::prefix(owner);
        self.call(|world, _| {
            let mine = world.prepared.iter().filter(|(text, _)| text.starts_with(&prefix));
            Ok(mine.map(|(_, (gid, _))| gid.clone()).collect())
        })
    }

    fn commit_prepared(&mut self, gid: &str) -> Result<bool> {
        self.call(|world, _| {
            let Some((_, rows)) = world.prepared.remove(gid) else { return Ok(false) };
            world.rows.extend(rows);
            world.commits.insert(gid.to_owned());
            Ok(true)
        })
    }

    fn roll_back_prepared(&mut self, gid: &str) -> Result<()> {
        self.call(|world, _| {
            world.prepared.remove(gid);
            Ok(())
        })
    }

    fn is_committed(&mut self, gid: &str) -> Result<bool> {
        self.call(|world, _| Ok(world.commits.contains(gid)))
    }

    fn write_visible(
        &mut self,
        owner: &Owner,
        how: &Visible,
        rows: &[RowOp],
        on_bad_row: OnBadRow,
    ) -> Result<RefusedRows> {
        let of = of(owner, owner.subtask);
        self.call(|world, _| {
            let (rows, refused) = sift(rows, on_bad_row)?;
            for row in rows {
                match how {
                    Visible::Marked { checkpoint } => {
                        world.marked.push(Marked { of: of.clone(), checkpoint: *checkpoint, row });
                    }
                    Visible::Upserted => {
                        world.upserted.insert(format!("{:?}", row.values), row);
                    }
                }
            }
            Ok(refused)
        })
    }

    fn delete_marked(&mut self, owner: &Owner, from: i64) -> Result<()> {
        self.call(|world, _| {
            world.marked.retain(|it| !stands_for(owner, &it.of) || it.checkpoint < from);
            let mine = world.completed.iter_mut().filter(|(it, _)| stands_for(owner, it));
            mine.for_each(|(_, upto)| *upto = from.min(*upto));
            Ok(())
        })
    }

    fn complete(&mut self, owner: &Owner, subtask: i64, checkpoint: i64) -> Result<()> {
        self.call(|world, _| {
            is_owner(world, owner)?;
            let upto = world.completed.entry(of(owner, subtask)).or_insert(checkpoint);
            *upto = checkpoint.max(*upto);
            Ok(())
        })
    }
}
