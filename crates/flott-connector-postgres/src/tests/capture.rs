//! Snapshot and log together, before a database in small whose transactions are in the log before they can be seen.

use crate::cdc::simulation::{
    Chunk, Frontier, Item, Log, LogMessage, Lsn, Old, PostgresCdcSplit, Progress, RawChange, Region,
    Relation, Seen, Value,
};
use crate::client::Column;
use crate::{ChangelogMode, StartupMode};
use flott_env::sim::SimRng;
use flott_types::{RowChange, RowKind};
use std::collections::{BTreeMap, BTreeSet};

type Table = BTreeMap<i64, i64>;
type Change = RowChange<(i64, i64)>;

const KEYS: u64 = 30;
const OID: u32 = 7;

#[derive(Clone, Debug)]
struct Transaction {
    xid: u32,
    commit: Lsn,
    end: Lsn,
    changes: Vec<RawChange>,
    /// New values, and rows that are gone.
    writes: BTreeMap<i64, Option<i64>>,
}

/// The server.
struct Database {
    log: Vec<Transaction>,
    table: Table,
    /// Committed in the log, and not seen by new snapshots.
    unseen: BTreeSet<u32>,
    next_xid: u32,
    last_version: i64,
    rng: SimRng,
}

fn tuple(key: i64, version: i64) -> Vec<Value> {
    vec![Value::Text(key.to_string()), Value::Text(version.to_string())]
}

impl Database {
    fn end(&self) -> Lsn {
        self.log.last().map_or(Lsn(100), |transaction| transaction.end)
    }

    /// Rows that somebody has locked until he is seen are left alone.
    fn commit(&mut self) {
        let locked: BTreeSet<i64> = self
            .log
            .iter()
            .filter(|it| self.unseen.contains(&it.xid))
            .flat_map(|it| it.writes.keys().copied())
            .collect();
        let (xid, mut changes, mut writes) = (self.next_xid, Vec::new(), BTreeMap::new());
        self.next_xid += 1;
        for _ in 0..=self.rng.next_u64() % 3 {
            let (key, other) = ((self.rng.next_u64() % KEYS) as i64, (self.rng.next_u64() % KEYS) as i64);
            if locked.contains(&key) || locked.contains(&other) {
                continue;
            }
            self.last_version += 1;
            let new = self.last_version;
            match (self.table.get(&key).copied(), self.rng.next_u64() % 4) {
                (None, _) => {
                    changes.push(RawChange::Insert(tuple(key, new)));
                    writes.insert(key, Some(new));
                    self.table.insert(key, new);
                }
                (Some(old), 0) => {
                    changes.push(RawChange::Delete(Old::Full(tuple(key, old))));
                    writes.insert(key, None);
                    self.table.remove(&key);
                }
                (Some(old), 1) if !self.table.contains_key(&other) => {
                    changes.push(RawChange::Update(Old::Full(tuple(key, old)), tuple(other, new)));
                    writes.extend([(key, None), (other, Some(new))]);
                    self.table.remove(&key);
                    self.table.insert(other, new);
                }
                (Some(old), _) => {
                    changes.push(RawChange::Update(Old::Full(tuple(key, old)), tuple(key, new)));
                    writes.insert(key, Some(new));
                    self.table.insert(key, new);
                }
            }
        }
        let commit = Lsn(self.end().0 + 10);
        self.log.push(Transaction { xid, commit, end: Lsn(commit.0 + 5), changes, writes });
        self.unseen.insert(xid);
    }

    fn see_one(&mut self) {
        let n = self.rng.next_u64() as usize % self.unseen.len().max(1);
        if let Some(xid) = self.unseen.iter().nth(n).copied() {
            self.unseen.remove(&xid);
        }
    }

    fn snapshot(&self) -> (Seen, Table) {
        let mut table = Table::new();
        for transaction in self.log.iter().filter(|it| !self.unseen.contains(&it.xid)) {
            for (key, version) in &transaction.writes {
                match version {
                    Some(version) => drop(table.insert(*key, *version)),
                    None => drop(table.remove(key)),
                }
            }
        }
        let in_progress: Vec<u64> = self.unseen.iter().copied().map(u64::from).collect();
        let xmax = u64::from(self.next_xid);
        (Seen { xmin: in_progress.first().copied().unwrap_or(xmax), xmax, in_progress }, table)
    }
}

fn number(key: &[String]) -> i64 {
    key[0].parse().unwrap()
}

fn regions(progress: &Progress, keys: &[Vec<String>]) -> flott_types::Result<Vec<Region>> {
    let region = |key: &Vec<String>| {
        let is_ahead = match &progress.frontier {
            Frontier::Nothing => true,
            Frontier::UpTo(upto) => number(key) > number(upto),
            Frontier::Everything => false,
        };
        let is_behind =
            |after: &Option<Vec<String>>| after.as_ref().is_none_or(|after| number(key) > number(after));
        match &progress.chunk {
            _ if is_ahead => Region::Ahead,
            Some(chunk) if is_behind(&chunk.after) => Region::InChunk,
            _ => Region::Passed,
        }
    };
    Ok(keys.iter().map(region).collect())
}

fn columns() -> Vec<Column> {
    ["key", "version"].map(|name| Column { name: name.to_owned(), type_oid: 20 }).to_vec()
}

/// A reader that may die.
struct Reader {
    log: Log<(i64, i64)>,
    /// All that was handed on, with the position behind it.
    handed_on: Vec<(Vec<Change>, PostgresCdcSplit)>,
    /// The next transaction, and the next message of it.
    next: (usize, usize),
}

impl Reader {
    fn start(
        split: PostgresCdcSplit,
        handed_on: Vec<(Vec<Change>, PostgresCdcSplit)>,
        database: &Database,
    ) -> Self {
        let table = ("public".to_owned(), "items".to_owned());
        let next = database.log.iter().position(|it| it.end > split.lsn).unwrap_or(database.log.len());
        let mut log = Log::new(table, vec!["key".to_owned()], ChangelogMode::All, split);
        let relation = Relation { schema: "public".to_owned(), name: "items".to_owned(), columns: columns() };
        log.message(LogMessage::Relation { oid: OID, relation }, &mut regions).unwrap();
        Self { log, handed_on, next: (next, 0) }
    }

    fn hand_on(&mut self) {
        let (items, split) = self.log.take(&mut regions).unwrap();
        let change = |item| match item {
            Item::Record(change, _) => change,
            Item::Bad { message, .. } => panic!("{message}"),
        };
        self.handed_on.push((items.into_iter().map(change).collect(), split));
    }

    fn read_log(&mut self, database: &Database) {
        let (n, at) = self.next;
        let Some(transaction) = database.log.get(n) else { return self.log.passed(database.end()) };
        let Transaction { xid, commit, end, changes, .. } = transaction;
        let message = if at == 0 {
            LogMessage::Begin { commit: *commit, committed_at_ms: 0, xid: *xid }
        } else if let Some(change) = changes.get(at - 1) {
            LogMessage::Change { oid: OID, change: change.clone() }
        } else {
            LogMessage::Commit { end: *end }
        };
        self.next = if at > changes.len() { (n + 1, 0) } else { (n, at + 1) };
        self.log.message(message, &mut regions).unwrap();
    }

    fn read_chunk(&mut self, database: &Database, n_rows: usize, piece: usize) {
        self.hand_on();
        let (seen, table) = database.snapshot();
        if self.log.progress().dropped.iter().any(|xid| !seen.sees(*xid)) {
            return;
        }
        let after = match &self.log.progress().frontier {
            Frontier::UpTo(key) => Some(key.clone()),
            _ => None,
        };
        let behind = table.iter().filter(|(key, _)| after.as_ref().is_none_or(|after| **key > number(after)));
        let rows: Vec<(i64, i64)> = behind.take(n_rows).map(|(key, version)| (*key, *version)).collect();
        let (chunk, is_last) = (Chunk { after, seen, until: database.end() }, rows.len() < n_rows);
        let pieces: Vec<&[(i64, i64)]> =
            if rows.is_empty() { vec![&[]] } else { rows.chunks(piece).collect() };
        for (idx, rows) in pieces.iter().enumerate() {
            let frontier = match rows.last() {
                Some((key, _)) if !is_last || idx + 1 < pieces.len() => Frontier::UpTo(vec![key.to_string()]),
                _ => Frontier::Everything,
            };
            self.log.chunk_read(chunk.clone(), frontier);
            let rows = rows.iter().map(|row| Change { kind: RowKind::Insert, row: *row }).collect();
            self.handed_on.push((rows, self.log.split().clone()));
        }
    }
}

/// Each record has to fit what was before.
fn play(handed_on: &[(Vec<Change>, PostgresCdcSplit)], seed: u64) -> Table {
    let mut table = Table::new();
    for change in handed_on.iter().flat_map(|(changes, _)| changes) {
        let (key, version) = change.row;
        let (former, expected) = match change.kind {
            RowKind::Insert | RowKind::UpdateAfter => (table.insert(key, version), None),
            RowKind::UpdateBefore | RowKind::Delete => (table.remove(&key), Some(version)),
        };
        assert_eq!(former, expected, "seed {seed}: {change:?}");
    }
    table
}

fn check(seed: u64, startup_mode: StartupMode) {
    let mut rng = SimRng::new(seed);
    let mut database = Database {
        log: Vec::new(),
        table: Table::new(),
        unseen: BTreeSet::new(),
        next_xid: 1_000,
        last_version: 0,
        rng: SimRng::new(!seed),
    };
    (0..rng.next_u64() % 20).for_each(|_| database.commit());
    let snapshot = (startup_mode == StartupMode::Initial).then(Progress::default);
    // The slot may have been made before or now: then it has waited for whoever was there.
    let is_new = rng.next_u64().is_multiple_of(2) && snapshot.is_some();
    if is_new {
        database.unseen.clear();
    }
    let lsn = if is_new { database.end() } else { Lsn(0) };
    let begin = PostgresCdcSplit { slot: "slot".to_owned(), lsn, within: None, snapshot };
    let (n_rows, piece) = (1 + rng.next_u64() as usize % 8, 1 + rng.next_u64() as usize % 4);
    let mut reader = Reader::start(begin.clone(), vec![(Vec::new(), begin)], &database);
    for step in 0..400 {
        match rng.next_u64() % 16 {
            0..3 if step < 300 => database.commit(),
            3..6 => database.see_one(),
            6 if step < 350 => {
                let n = rng.next_u64() as usize % reader.handed_on.len();
                let mut handed_on = reader.handed_on;
                handed_on.truncate(n + 1);
                reader = Reader::start(handed_on[n].1.clone(), handed_on, &database);
            }
            7 => reader.hand_on(),
            8 if reader.log.wants_chunk() => reader.read_chunk(&database, n_rows, piece),
            _ => reader.read_log(&database),
        }
    }
    database.unseen.clear();
    for _ in 0..2_000 {
        if reader.log.wants_chunk() {
            reader.read_chunk(&database, n_rows, piece);
        }
        reader.read_log(&database);
    }
    reader.hand_on();
    assert_eq!(play(&reader.handed_on, seed), database.table, "seed {seed}");
    assert!(reader.log.split().snapshot.is_none(), "seed {seed}: the snapshot does not end");
}

#[test]
fn a_table_is_captured_without_gap_and_nothing_twice_wherever_reading_stops() {
    for seed in 0..1_000 {
        check(seed, StartupMode::Initial);
        if seed.is_multiple_of(10) {
            check(seed, StartupMode::LatestOffset);
        }
    }
}

#[test]
fn an_update_without_the_row_as_it_was_is_an_error() {
    let split = PostgresCdcSplit { slot: "slot".to_owned(), lsn: Lsn(0), within: None, snapshot: None };
    let database = Database {
        log: Vec::new(),
        table: Table::new(),
        unseen: BTreeSet::new(),
        next_xid: 1,
        last_version: 0,
        rng: SimRng::new(1),
    };
    let mut reader = Reader::start(split, Vec::new(), &database);
    let begin = LogMessage::Begin { commit: Lsn(1), committed_at_ms: 0, xid: 1 };
    reader.log.message(begin, &mut regions).unwrap();
    let change = LogMessage::Change { oid: OID, change: RawChange::Update(Old::Nothing, tuple(1, 1)) };
    let error = reader.log.message(change, &mut regions).unwrap_err().to_string();
    assert!(error.contains("its replica identity is not FULL"), "{error}");
}
