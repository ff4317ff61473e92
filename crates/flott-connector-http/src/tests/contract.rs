//! The contract of sources, by the kit for connectors and by a sweep of crash points: clients post over real connections, and the log is on a disk
//! that knows what was synced.
//!
//! A client posts its requests in order, each with its `Idempotency-Key`, and again until it is answered. What it was answered is read, once.

use super::world::{Posted, World};
use crate::HttpSource;
use crate::log::Log;
use flott_api::UserResult;
use flott_api::testing::{SourceDriver, SourceSnapshot};
use flott_env::Env;
use flott_env::sim::{CrashMode, Fault, FaultEffect};
use flott_testkit::contract::{Budget, RecordId, SourceContract, SourceEvent, SourceSubject, Wakeup};
use flott_types::{ErrorKind, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// Records of a request.
const REQUEST_RECORDS_MAX: u64 = 2;

/// A turn takes no longer: an attempt before may still hold log and address.
const TURN: Duration = Duration::from_millis(20);

/// Clients, each of which is a partition.
struct Clients {
    world: World,
    /// Of each, the requests that were not answered.
    waiting: Vec<VecDeque<Vec<RecordId>>>,
    n_made: Vec<u64>,
    /// The next requests get no answer: the connection breaks before, or behind the request.
    breaks: VecDeque<Breaks>,
    n_crashes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Breaks {
    InTheRequest,
    BeforeTheAnswer,
}

impl Clients {
    fn new(real: &Env) -> Self {
        Self {
            world: World::new(real),
            waiting: vec![VecDeque::new(); 3],
            n_made: vec![0; 3],
            breaks: VecDeque::new(),
            n_crashes: 0,
        }
    }

    /// Posts until a request is not answered.
    fn post(&mut self) -> UserResult {
        for waiting in &mut self.waiting {
            while let Some(request) = waiting.front() {
                let key = request.first().ok_or("an empty request")?.to_string();
                let lines = request.iter().map(|record| format!("{}\n", Posted::from(*record).json()));
                let request = self.world.request(&key, &lines.collect::<String>());
                match self.breaks.pop_front() {
                    Some(Breaks::InTheRequest) => {
                        let half = request.get(..request.len() / 2).unwrap_or_default();
                        self.world.send_and_go(half);
                    }
                    Some(Breaks::BeforeTheAnswer) => self.world.send_and_go(&request),
                    None => {}
                }
                match self.world.send(&request) {
                    Some(200) => drop(waiting.pop_front()),
                    // Nobody listens, or the job stops; or the request is on its way, from a connection that broke.
                    None | Some(409 | 503) => return Ok(()),
                    Some(status) => return Err(format!("answered with {status}").into()),
                }
            }
        }
        Ok(())
    }
}

impl SourceSubject for Clients {
    type Source = HttpSource<Posted>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn source(&mut self) -> UserResult<HttpSource<Posted>> {
        // Files of a few records each, so that some are deleted.
        Ok(self.world.source().segment_bytes(150))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let mut put: Vec<RecordId> = Vec::new();
        for idx in 0..n {
            let partition = (idx % self.n_made.len() as u64) as usize;
            let n_made = self.n_made.get_mut(partition).ok_or("no such client")?;
            put.push(RecordId { partition: partition as u32, number: *n_made });
            *n_made += 1;
        }
        for (partition, waiting) in (0..).zip(&mut self.waiting) {
            let records = put.iter().copied().filter(|record| record.partition == partition);
            let records: Vec<RecordId> = records.collect();
            waiting.extend(records.chunks(REQUEST_RECORDS_MAX as usize).map(<[RecordId]>::to_vec));
        }
        self.post()?;
        Ok(put)
    }
    fn identify(&self, record: &Posted) -> RecordId {
        (*record).into()
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![SourceEvent::AddPartition, SourceEvent::Disconnect, SourceEvent::PowerFailure]
    }
    fn happen(&mut self, event: SourceEvent) -> UserResult {
        match event {
            SourceEvent::AddPartition => {
                self.waiting.push(VecDeque::new());
                self.n_made.push(0);
            }
            SourceEvent::Disconnect => {
                self.breaks.extend([Breaks::InTheRequest, Breaks::BeforeTheAnswer, Breaks::BeforeTheAnswer]);
            }
            SourceEvent::PowerFailure => {
                self.n_crashes += 1;
                let mode = if self.n_crashes % 2 == 1 {
                    CrashMode::LoseUnsynced
                } else {
                    CrashMode::Random(self.n_crashes)
                };
                self.world.disk.crash(mode);
            }
            SourceEvent::HideMetadata | SourceEvent::ShowMetadata | SourceEvent::GapAtEnd => {
                return Err(format!("clients know no {event:?}").into());
            }
        }
        Ok(())
    }
    fn wait(&mut self, wakeup: &Wakeup) {
        self.post().expect("an answer that fits");
        wakeup.wait_at_most(TURN);
    }
}

#[test]
fn the_source_keeps_the_contract_of_sources() {
    let real = Env::real().unwrap();
    let contract = SourceContract::new().budget(Budget::Sample { cases: 150, seed: 1 });
    let report = contract.run(|| Ok(Clients::new(&real))).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.cases.len(), 151);
    let n_of = |name: &str| report.cases.iter().filter(|case| case.starts_with(name)).count();
    assert!(n_of("power-failure") > 0 && n_of("disconnect") > 0 && n_of("give-back") > 0, "{report:?}");
}

/// A job that goes on from its last complete checkpoint, and a client that does not give up.
struct Job {
    world: World,
    n_answered: u64,
    read: Vec<u64>,
    /// With what was read before it.
    checkpoint: Option<(SourceSnapshot<crate::HttpSplit>, usize)>,
}

const N_REQUESTS: u64 = 8;

impl Job {
    fn new(real: &Env) -> Self {
        Self { world: World::new(real), n_answered: 0, read: Vec::new(), checkpoint: None }
    }

    /// Runs until all requests are answered and read, or until something fails.
    fn live(&mut self) -> Result<()> {
        let source = self.world.source_elsewhere().segment_bytes(150);
        let env = self.world.env();
        let mut driver = match self.checkpoint.clone() {
            Some((snapshot, n_read)) => {
                self.read.truncate(n_read);
                SourceDriver::restore(&source, &env, 1, snapshot)?
            }
            None => {
                self.read.clear();
                SourceDriver::start(&source, &env, 1)?
            }
        };
        loop {
            let polled = driver.read_available(10).map_err(|failed| failed.error)?;
            assert_eq!(polled.bad_records.len(), 0);
            self.read.extend(polled.into_records().into_iter().map(|record| record.number));
            if self.n_answered == N_REQUESTS {
                return Ok(());
            }
            let (first, second) = (2 * self.n_answered, 2 * self.n_answered + 1);
            let json = |number| Posted { partition: 0, number }.json();
            let request =
                self.world.request(&first.to_string(), &format!("{}\n{}", json(first), json(second)));
            match self.world.send(&request) {
                Some(200) => self.n_answered += 1,
                None | Some(409 | 503) => self.world.pause(),
                Some(status) => panic!("answered with {status}"),
            }
            if self.n_answered % 3 == 1 {
                let snapshot = driver.snapshot()?;
                driver.checkpoint_complete(&snapshot)?;
                self.checkpoint = Some((snapshot, self.read.len()));
            }
        }
    }
}

#[test]
fn what_was_answered_is_read_once_after_a_crash_at_any_operation_on_the_disk() {
    let real = Env::real().unwrap();
    let expected: Vec<u64> = (0..2 * N_REQUESTS).collect();
    let mut undisturbed = Job::new(&real);
    undisturbed.live().unwrap();
    assert_eq!(undisturbed.read, expected);
    let n_operations = undisturbed.world.disk.operations();
    assert!(n_operations > 25, "{n_operations}");
    let mut n_failed = 0;
    for at in 0..n_operations {
        let modes = [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Random(at)];
        for (idx, effect) in
            [FaultEffect::Before, FaultEffect::After, FaultEffect::AppliedButError].into_iter().enumerate()
        {
            let mode = modes[(at as usize + idx) % modes.len()];
            let mut job = Job::new(&real);
            job.world.disk.set_fault(Some(Fault { at, effect, halts: true }));
            n_failed += u32::from(job.live().is_err());
            job.world.disk.crash(mode);
            job.live().unwrap_or_else(|error| panic!("{effect:?} at {at}, {mode:?}: {}", error.report()));
            assert_eq!(job.read, expected, "{effect:?} at {at}, {mode:?}");
            // What was read counts, so it is there after a second failure, too.
            job.world.disk.crash(CrashMode::LoseUnsynced);
            job.live().unwrap();
            assert_eq!(job.read, expected, "again, {effect:?} at {at}, {mode:?}");
        }
    }
    assert!(n_failed > 25, "{n_failed}");
}

/// Reads until there are so many records more.
fn read(driver: &mut SourceDriver<HttpSource<Posted>>, world: &World, n: usize) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    while numbers.len() < n {
        let polled = driver.read_available(10).map_err(|failed| failed.error)?;
        numbers.extend(polled.into_records().into_iter().map(|record| record.number));
        world.pause();
    }
    Ok(numbers)
}

#[test]
fn a_snapshot_from_before_the_log_could_be_opened_leaves_no_record_out() {
    let world = World::new(&Env::real().unwrap());
    let (env, source) = (world.env(), world.source().segment_bytes(150));
    let records: Vec<String> = (0..9).map(|number| Posted { partition: 0, number }.json()).collect();
    // An earlier attempt has it still, and leaves records there.
    let mut earlier = Log::open(env.fs(), &source.options.directory, 150).unwrap().unwrap();
    for record in &records {
        earlier.append([record.as_bytes()]).unwrap();
    }
    let mut driver = SourceDriver::start(&source, &env, 1).unwrap();
    assert_eq!(driver.read_available(10).unwrap().into_records(), []);
    let early = driver.snapshot().unwrap();
    drop(earlier);
    let all: Vec<u64> = (0..9).collect();
    assert_eq!(read(&mut driver, &world, all.len()).unwrap(), all);
    let late = driver.snapshot().unwrap();
    drop(driver);
    // As long as they are there they are read again.
    let mut driver = SourceDriver::restore(&source, &env, 1, early.clone()).unwrap();
    assert_eq!(read(&mut driver, &world, all.len()).unwrap(), all);
    driver.checkpoint_complete(&late).unwrap();
    drop(driver);
    let mut driver = SourceDriver::restore(&source, &env, 1, early).unwrap();
    let error = read(&mut driver, &world, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{}", error.report());
}
