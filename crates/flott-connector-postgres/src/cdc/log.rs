//! Makes records of the log: a function of messages, of where keys are, and of nothing else.

use super::config::ChangelogMode;
use super::pgoutput::{LogMessage, Old, RawChange, Relation, Tuple, Value};
use super::snapshot::Region;
use super::split::{Chunk, Frontier, Key, Lsn, PostgresCdcSplit, Progress};
use crate::client::{Column, Row};
use crate::decode;
use flott_types::{Data, Error, ErrorKind, Result, RowChange, RowKind};
use std::collections::BTreeMap;

/// Changes whose keys are looked for at once.
const PENDING_MAX: usize = 500;

/// Says where keys are.
pub(crate) type Regions<'a> = dyn FnMut(&Progress, &[Key]) -> Result<Vec<Region>> + 'a;

/// What comes out.
#[derive(Debug, PartialEq)]
pub(crate) enum Item<T> {
    /// With the time of its commit.
    Record(RowChange<T>, i64),
    Bad {
        position: String,
        raw: String,
        message: String,
    },
}

/// A row of the log, before or after a change.
#[derive(Debug)]
struct Side {
    row: Row,
    key: Key,
    /// Why it is no whole row.
    problem: Option<String>,
}

#[derive(Debug)]
struct Change {
    position: String,
    oid: u32,
    is_update: bool,
    old: Option<Side>,
    new: Option<Side>,
}

#[derive(Debug)]
struct Transaction {
    commit: Lsn,
    committed_at_ms: i64,
    xid: u32,
    n_changes: u64,
    /// So many of them were read before.
    n_known: u64,
}

/// What is known of the log of one table.
#[derive(Debug)]
pub(crate) struct Log<T> {
    /// Schema and name.
    table: (String, String),
    key: Vec<String>,
    mode: ChangelogMode,
    relations: BTreeMap<u32, Relation>,
    transaction: Option<Transaction>,
    /// Changes whose keys have not been looked for.
    pending: Vec<Change>,
    items: Vec<Item<T>>,
    /// Behind all that is pending.
    split: PostgresCdcSplit,
}

impl<T: Data> Log<T> {
    pub(crate) fn new(
        table: (String, String),
        key: Vec<String>,
        mode: ChangelogMode,
        split: PostgresCdcSplit,
    ) -> Self {
        let (relations, transaction, pending, items) = (BTreeMap::new(), None, Vec::new(), Vec::new());
        Self { table, key, mode, relations, transaction, pending, items, split }
    }

    pub(crate) fn split(&self) -> &PostgresCdcSplit {
        &self.split
    }

    /// How far the snapshot is.
    pub(crate) fn progress(&self) -> &Progress {
        const DONE: &Progress =
            &Progress { frontier: Frontier::Everything, chunk: None, dropped: Vec::new() };
        self.split.snapshot.as_ref().unwrap_or(DONE)
    }

    /// How many records wait.
    pub(crate) fn n_items(&self) -> usize {
        self.items.len() + self.pending.len()
    }

    /// What has come out, and the position behind it.
    pub(crate) fn take(&mut self, regions: &mut Regions<'_>) -> Result<(Vec<Item<T>>, PostgresCdcSplit)> {
        self.resolve(regions)?;
        Ok((std::mem::take(&mut self.items), self.split.clone()))
    }

    /// Whether it is time for the next chunk of the snapshot.
    pub(crate) fn wants_chunk(&self) -> bool {
        let wants = |it: &Progress| it.chunk.is_none() && it.frontier != Frontier::Everything;
        self.transaction.is_none()
            && self.split.within.is_none()
            && self.split.snapshot.as_ref().is_some_and(wants)
    }

    /// Whether the log has to pass a place before the snapshot goes on.
    pub(crate) fn awaits_log(&self) -> bool {
        self.split.snapshot.as_ref().is_some_and(|it| it.chunk.is_some())
    }

    /// Rows of a chunk have been read up to here.
    pub(crate) fn chunk_read(&mut self, chunk: Chunk, frontier: Frontier) {
        self.split.snapshot = Some(Progress { frontier, chunk: Some(chunk), dropped: Vec::new() });
    }

    /// Transactions of which changes were dropped and that a new snapshot may not see.
    pub(crate) fn dropped(&mut self) -> Option<&mut Vec<u32>> {
        self.split.snapshot.as_mut().map(|progress| &mut progress.dropped)
    }

    /// Everything that was committed before has come.
    pub(crate) fn passed(&mut self, lsn: Lsn) {
        // Within a transaction it is only the place of its changes.
        if self.transaction.is_some() || self.split.within.is_some() {
            return;
        }
        self.split.lsn = self.split.lsn.max(lsn);
        let lsn = self.split.lsn;
        if let Some(progress) = &mut self.split.snapshot {
            progress.chunk.take_if(|chunk| chunk.until <= lsn);
            if progress.chunk.is_none() && progress.frontier == Frontier::Everything {
                self.split.snapshot = None;
            }
        }
    }

    pub(crate) fn message(&mut self, message: LogMessage, regions: &mut Regions<'_>) -> Result<()> {
        match message {
            LogMessage::Begin { commit, committed_at_ms, xid } => self.begin(commit, committed_at_ms, xid),
            LogMessage::Commit { end } => {
                self.resolve(regions)?;
                (self.transaction, self.split.within) = (None, None);
                self.passed(end);
                Ok(())
            }
            LogMessage::Relation { oid, relation } => {
                self.resolve(regions)?;
                if (&relation.schema, &relation.name) == (&self.table.0, &self.table.1) {
                    self.relations.insert(oid, relation);
                } else {
                    self.relations.remove(&oid);
                }
                Ok(())
            }
            LogMessage::Change { oid, change } => {
                self.change(oid, change)?;
                if self.pending.len() >= PENDING_MAX { self.resolve(regions) } else { Ok(()) }
            }
            LogMessage::Truncate { oids } if oids.iter().any(|oid| self.relations.contains_key(oid)) => {
                Err(Error::user(format!(
                    "table '{}' was truncated, of which no record can tell: start the job anew with a snapshot and another slot, or leave truncates out \
                     of the publication (publish = 'insert, update, delete') and do so",
                    self.table.1
                )))
            }
            LogMessage::Truncate { .. } | LogMessage::Other => Ok(()),
        }
    }

    fn begin(&mut self, commit: Lsn, committed_at_ms: i64, xid: u32) -> Result<()> {
        let n_known = match self.split.within {
            Some((known, n_known)) if known == commit => n_known,
            Some((known, _)) if known < commit => {
                let message = format!(
                    "the log of table '{}' does not have the transaction at {known} any more, of which a part was read",
                    self.table.1
                );
                return Err(Error::new(ErrorKind::Corruption, message));
            }
            _ => 0,
        };
        self.transaction = Some(Transaction { commit, committed_at_ms, xid, n_changes: 0, n_known });
        Ok(())
    }

    fn change(&mut self, oid: u32, change: RawChange) -> Result<()> {
        let Some(relation) = self.relations.get(&oid) else { return Ok(()) };
        let Some(transaction) = &mut self.transaction else {
            return Err(Error::new(ErrorKind::FailJob, "the log has a change outside of a transaction"));
        };
        transaction.n_changes += 1;
        if transaction.n_changes <= transaction.n_known {
            return Ok(());
        }
        let position = format!("{} change {}", transaction.commit, transaction.n_changes);
        self.split.within = Some((transaction.commit, transaction.n_changes));
        let side = |tuple: &Tuple, old: Option<&Tuple>| side(tuple, old, relation, &self.key);
        let (old, new, is_update) = match &change {
            RawChange::Insert(new) => (None, Some(side(new, None)?), false),
            RawChange::Update(Old::Full(old), new) => {
                (Some(side(old, None)?), Some(side(new, Some(old))?), true)
            }
            RawChange::Delete(Old::Full(old)) => (Some(side(old, None)?), None, false),
            _ if self.mode == ChangelogMode::All => {
                return Err(Error::user(format!(
                    "the log of table '{}' does not have rows as they were before a change, at {position}: its replica identity is not FULL, or was not then",
                    self.table.1
                )));
            }
            RawChange::Update(Old::Key(old), new) => (Some(side(old, None)?), Some(side(new, None)?), true),
            RawChange::Update(Old::Nothing, new) => (None, Some(side(new, None)?), true),
            RawChange::Delete(Old::Key(old)) => (Some(side(old, None)?), None, false),
            RawChange::Delete(Old::Nothing) => {
                return Err(Error::user(format!(
                    "the log of table '{}' does not say which row was deleted, at {position}",
                    self.table.1
                )));
            }
        };
        self.pending.push(Change { position, oid, is_update, old, new });
        Ok(())
    }

    /// Decides which of the pending changes come out.
    fn resolve(&mut self, regions: &mut Regions<'_>) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let sides = || pending.iter().flat_map(|change| change.old.iter().chain(&change.new));
        let found = match &self.split.snapshot {
            None => vec![Region::Passed; sides().count()],
            Some(progress) => {
                let keys: Vec<Key> = sides().map(|side| side.key.clone()).collect();
                regions(progress, &keys)?
            }
        };
        let mut found = found.into_iter();
        for change in pending {
            let is_in =
                [&change.old, &change.new].map(|it| it.is_some().then(|| self.comes_out(found.next())));
            self.put(change, is_in);
        }
        Ok(())
    }

    fn comes_out(&mut self, region: Option<Region>) -> bool {
        let Some(transaction) = &self.transaction else { return true };
        let Some(progress) = &mut self.split.snapshot else { return true };
        match region {
            Some(Region::Passed) => true,
            Some(Region::InChunk) => {
                progress.chunk.as_ref().is_none_or(|chunk| !chunk.seen.sees(transaction.xid))
            }
            Some(Region::Ahead) | None => {
                if progress.dropped.last() != Some(&transaction.xid) {
                    progress.dropped.push(transaction.xid);
                }
                false
            }
        }
    }

    /// `is_in` says of the old and of the new row, if there is one, whether it comes out.
    fn put(&mut self, change: Change, is_in: [Option<bool>; 2]) {
        let Change { position, oid, is_update, old, new } = change;
        let has_same_key = match (&old, &new) {
            (Some(old), Some(new)) => old.key == new.key,
            _ => true,
        };
        let (before, after) = match (is_in, self.mode) {
            ([Some(true), Some(true)], ChangelogMode::All) => {
                (Some(RowKind::UpdateBefore), Some(RowKind::UpdateAfter))
            }
            ([Some(true), Some(true)], ChangelogMode::Upsert) if has_same_key => {
                (None, Some(RowKind::UpdateAfter))
            }
            ([None, Some(true)], _) if is_update => (None, Some(RowKind::UpdateAfter)),
            // One that goes to a key or comes from one that the snapshot has yet to read or has read later.
            ([old, new], _) => {
                let when = |is_in: Option<bool>, kind| (is_in == Some(true)).then_some(kind);
                (when(old, RowKind::Delete), when(new, RowKind::Insert))
            }
        };
        for (side, kind) in [(old, before), (new, after)] {
            if let (Some(side), Some(kind), Some(relation)) = (side, kind, self.relations.get(&oid)) {
                let committed_at_ms = self.transaction.as_ref().map_or(0, |it| it.committed_at_ms);
                self.items.push(item(
                    side.row,
                    &relation.columns,
                    kind,
                    committed_at_ms,
                    &position,
                    side.problem,
                ));
            }
        }
    }
}

/// A row as a record, if it is one.
pub(crate) fn item<T: Data>(
    row: Row,
    columns: &[Column],
    kind: RowKind,
    at_ms: i64,
    position: &str,
    problem: Option<String>,
) -> Item<T> {
    let record = match problem {
        Some(problem) => Err(problem),
        None => decode::record(columns, &row).map_err(|error| error.to_string()),
    };
    match record {
        Ok(record) => Item::Record(RowChange { kind, row: record }, at_ms),
        Err(message) => Item::Bad { position: position.to_owned(), raw: format!("{row:?}"), message },
    }
}

fn side(tuple: &Tuple, old: Option<&Tuple>, relation: &Relation, key: &[String]) -> Result<Side> {
    let mut problem = None;
    let mut cells = Vec::new();
    for (idx, (value, column)) in tuple.iter().zip(&relation.columns).enumerate() {
        let known = if *value == Value::Unchanged { old.and_then(|old| old.get(idx)) } else { Some(value) };
        cells.push(match known {
            Some(Value::Text(text)) => Some(text.clone()),
            Some(Value::Null) => None,
            Some(Value::Unchanged) | None => {
                let name = &column.name;
                problem = Some(format!(
                    "column '{name}' is large and was not changed, so the log does not have it: execute ALTER TABLE … REPLICA IDENTITY FULL"
                ));
                None
            }
        });
    }
    let of_column = |name: &String| {
        let idx = relation.columns.iter().position(|column| column.name == *name)?;
        cells.get(idx).cloned().flatten()
    };
    let found: Option<Key> = key.iter().map(of_column).collect();
    let Some(key) = found else {
        let message = format!(
            "the log of table '{}' does not have its primary key; is it in the publication?",
            relation.name
        );
        return Err(Error::user(message));
    };
    Ok(Side { row: Row::new(cells), key, problem })
}
