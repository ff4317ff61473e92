//! The contract of sources, by the kit for connectors, before the server in memory; and captures with mistakes, which the kit has to find.

use super::server::Server;
use crate::{PostgresCdcReader, PostgresCdcSource, PostgresCdcSplit, PostgresSource, StartupMode};
use flott_api::{
    Boundedness, InputStatus, SourceReaderContext, SplitOutput, SplitReader, SplitSource, UserResult,
};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{
    ContractFailure, ContractReport, RecordId, SourceContract, SourceEvent, SourceSubject, Wakeup,
};
use flott_types::{Result, RowChange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

const URL: &str = "postgres://user@memory/db";
const SLOT: &str = "slot";
/// A turn of the kit. Shorter than what the capture waits for the log, so that it is stopped also in between.
const TURN: Duration = Duration::from_millis(30);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    id: i64,
}

impl Item {
    fn id(&self) -> RecordId {
        RecordId { partition: 0, number: self.id as u64 }
    }
}

/// A world in virtual time, and a server in it.
struct World {
    simulation: Simulation,
    server: Server,
}

impl World {
    fn new() -> Self {
        Self { simulation: Simulation::new(1), server: Server::new(2) }
    }

    /// Of rows that are inserted one after the other.
    fn insert(&self, n: u64, is_concurrent: bool) -> Vec<RecordId> {
        let mut state = self.server.state();
        let first = state.n_rows() as i64;
        let ids: Vec<i64> = (first..first + n as i64).collect();
        state.insert(&ids, is_concurrent);
        ids.into_iter().map(|id| Item { id }.id()).collect()
    }

    fn take_turn(&self) {
        self.simulation.run_for(TURN).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Readers that were left alone have handles to their world.
        drop(self.simulation.run(async {}));
    }
}

struct Scan(World);

impl SourceSubject for Scan {
    type Source = PostgresSource<Item>;

    fn env(&self) -> Env {
        self.0.simulation.env()
    }
    fn source(&mut self) -> UserResult<Self::Source> {
        let mut source = PostgresSource::new(URL, "items").scan_partition_num(3).scan_fetch_size(4);
        source.address.dial = Some(Arc::new(self.0.server.clone()));
        Ok(source)
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        Ok(self.0.insert(n, false))
    }
    fn identify(&self, record: &Item) -> RecordId {
        record.id()
    }
    fn is_ordered(&self) -> bool {
        // Within a part of the table, but the kit does not know of those.
        false
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![SourceEvent::Disconnect]
    }
    fn happen(&mut self, _: SourceEvent) -> UserResult {
        self.0.server.state().disconnect();
        Ok(())
    }
    fn wait(&mut self, _: &Wakeup) {
        self.0.take_turn();
    }
}

#[test]
fn a_scan_keeps_the_contract_of_sources() {
    let report = SourceContract::new().run(|| Ok(Scan(World::new())));
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 300, "{}", report.cases.len());
}

/// With what a capture begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// With the table, whose slot it makes.
    Snapshot,
    /// With the table, and the slot was there before it: the log has rows that the table has.
    SnapshotAndOldSlot,
    /// With the log of a slot that was there before it.
    Log,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// What was read may be forgotten.
    AcknowledgesWhatItReads,
    /// What is in a snapshot may be forgotten before that is complete.
    AcknowledgesSnapshots,
    NeverAcknowledges,
}

/// A capture that tells of complete checkpoints.
#[derive(Clone)]
struct Watched {
    source: PostgresCdcSource<Item>,
    mistake: Mistake,
    /// What the last complete checkpoint has of which it was told.
    durable: Arc<Mutex<Option<PostgresCdcSplit>>>,
}

struct WatchedReader {
    reader: Mutex<PostgresCdcReader<Item>>,
    of: Watched,
}

impl SplitSource for Watched {
    type Record = RowChange<Item>;
    type Split = PostgresCdcSplit;
    type Reader = WatchedReader;

    fn boundedness(&self) -> Boundedness {
        SplitSource::boundedness(&self.source)
    }
    fn splits(&self, parallelism: u32) -> Result<Vec<PostgresCdcSplit>> {
        self.source.splits(parallelism)
    }
    fn open(&self, split: PostgresCdcSplit, ctx: &SourceReaderContext) -> Result<WatchedReader> {
        Ok(WatchedReader { reader: Mutex::new(self.source.open(split, ctx)?), of: self.clone() })
    }
}

impl SplitReader for WatchedReader {
    type Record = RowChange<Item>;
    type Split = PostgresCdcSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<RowChange<Item>>,
    ) -> Poll<Result<InputStatus>> {
        let reader = self.reader.get_mut().unwrap();
        let read = reader.poll_read(cx, records_max, out);
        if self.of.mistake == Mistake::AcknowledgesWhatItReads {
            reader.checkpoint_complete(&reader.split())?;
        }
        read
    }

    fn split(&self) -> PostgresCdcSplit {
        let mut reader = self.reader.lock().unwrap();
        let split = reader.split();
        if self.of.mistake == Mistake::AcknowledgesSnapshots {
            reader.checkpoint_complete(&split).unwrap();
        }
        split
    }

    fn checkpoint_complete(&mut self, split: &PostgresCdcSplit) -> Result<()> {
        *self.of.durable.lock().unwrap() = Some(split.clone());
        match self.of.mistake {
            Mistake::NeverAcknowledges => Ok(()),
            Mistake::None | Mistake::AcknowledgesWhatItReads | Mistake::AcknowledgesSnapshots => {
                self.reader.get_mut().unwrap().checkpoint_complete(split)
            }
        }
    }
}

struct Capture {
    world: World,
    begin: Begin,
    mistake: Mistake,
    durable: Arc<Mutex<Option<PostgresCdcSplit>>>,
}

impl Capture {
    fn new(begin: Begin, mistake: Mistake) -> Self {
        let world = World::new();
        if begin != Begin::Snapshot {
            let mut state = world.server.state();
            state.make_publication();
            state.make_slot();
        }
        Self { world, begin, mistake, durable: Arc::default() }
    }
}

impl SourceSubject for Capture {
    type Source = Watched;

    fn env(&self) -> Env {
        self.world.simulation.env()
    }
    fn source(&mut self) -> UserResult<Watched> {
        let startup = match self.begin {
            Begin::Snapshot | Begin::SnapshotAndOldSlot => StartupMode::Initial,
            Begin::Log => StartupMode::LatestOffset,
        };
        let mut source = PostgresCdcSource::new(URL, "items", SLOT).startup_mode(startup).chunk_size(5);
        source.address.dial = Some(Arc::new(self.world.server.clone()));
        Ok(Watched { source, mistake: self.mistake, durable: Arc::clone(&self.durable) })
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        Ok(self.world.insert(n, true))
    }
    fn identify(&self, record: &RowChange<Item>) -> RecordId {
        record.row.id()
    }
    fn is_ordered(&self) -> bool {
        // A row that a chunk does not see comes behind it, with the log.
        self.begin == Begin::Log
    }
    fn acknowledged(&mut self) -> UserResult<Option<BTreeMap<u32, u64>>> {
        let durable = self.durable.lock().unwrap().clone();
        let state = self.world.server.state();
        state.check(durable.as_ref().map(|split| split.lsn))?;
        // Until a checkpoint has all of the table, it is the table that keeps the rows, whatever the slot says.
        let is_kept = self.begin != Begin::Log && durable.is_none_or(|split| split.snapshot.is_some());
        Ok(Some(BTreeMap::from([(0, if is_kept { 0 } else { state.n_confirmed() })])))
    }
    /// The log goes on behind the last row, and only a later checkpoint is past that.
    fn acknowledges_late(&self) -> bool {
        true
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![SourceEvent::Disconnect, SourceEvent::GapAtEnd]
    }
    fn happen(&mut self, event: SourceEvent) -> UserResult {
        let mut state = self.world.server.state();
        match event {
            SourceEvent::GapAtEnd => state.write_log(),
            _ => state.disconnect(),
        }
        Ok(())
    }
    fn wait(&mut self, _: &Wakeup) {
        self.world.take_turn();
    }
}

fn run(begin: Begin, mistake: Mistake) -> std::result::Result<ContractReport, ContractFailure> {
    SourceContract::new().run(|| Ok(Capture::new(begin, mistake)))
}

fn check(begin: Begin) {
    let report = run(begin, Mistake::None).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 300, "{}", report.cases.len());
}

#[test]
fn a_capture_of_a_table_and_its_log_keeps_the_contract_of_sources() {
    check(Begin::Snapshot);
}

#[test]
fn a_capture_of_a_table_whose_rows_the_log_has_too_keeps_it() {
    check(Begin::SnapshotAndOldSlot);
}

#[test]
fn a_capture_of_a_log_keeps_it() {
    check(Begin::Log);
}

#[test]
fn a_capture_that_lets_the_server_forget_too_early_is_caught() {
    let early = "and the last complete checkpoint is at";
    for begin in [Begin::Snapshot, Begin::SnapshotAndOldSlot, Begin::Log] {
        for (mistake, message) in [
            (Mistake::AcknowledgesWhatItReads, early),
            (Mistake::AcknowledgesSnapshots, early),
            (Mistake::NeverAcknowledges, "the outside is never told"),
        ] {
            let failure = run(begin, mistake).err();
            let failure = failure.unwrap_or_else(|| panic!("{begin:?}, {mistake:?}: it is not caught"));
            let first = failure.violations.first().unwrap();
            assert!(first.message.contains(message), "{begin:?}, {mistake:?}: {first}");
        }
    }
}
