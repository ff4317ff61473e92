//! The contract of sources, by the kit for connectors: logs that are rotated while they are read, and while nobody reads.

use super::super::config::FileTailSource;
use flott_api::UserResult;
use flott_env::sim::{MemoryFs, Simulation};
use flott_env::{Env, FileSystem, FileWrite};
use flott_testkit::contract::{RecordId, SourceContract, SourceEvent, SourceSubject, Wakeup};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// After so many lines a log is rotated: several times between two looks.
const LINES_PER_FILE: u64 = 2;

/// How logs are rotated.
#[derive(Clone, Copy, Debug)]
enum Rotation {
    Renames,
    CopiesAndTruncates,
}

/// Programs that each write a log, which is a partition. Those with even numbers write to one directory, the others to another.
struct Logs {
    world: Simulation,
    rotation: Rotation,
    logs: Vec<Box<dyn FileWrite>>,
    n_lines: BTreeMap<u32, u64>,
}

fn directory(partition: u32) -> &'static str {
    if partition.is_multiple_of(2) { "/even" } else { "/odd" }
}

fn path(partition: u32) -> PathBuf {
    Path::new(directory(partition)).join(format!("{partition}.log"))
}

impl Logs {
    fn new(rotation: Rotation) -> UserResult<Self> {
        let world = Simulation::new(1);
        let mut logs = Self { world, rotation, logs: Vec::new(), n_lines: BTreeMap::new() };
        for partition in 0..2 {
            logs.disk().create_dir_all(Path::new(directory(partition)))?;
        }
        (0..3).try_for_each(|_| logs.add())?;
        Ok(logs)
    }

    fn disk(&self) -> MemoryFs {
        self.world.disk().clone()
    }

    fn add(&mut self) -> UserResult {
        let partition = self.logs.len() as u32;
        self.logs.push(self.disk().create(&path(partition))?);
        Ok(())
    }

    fn rotate(&mut self, partition: u32) -> UserResult {
        let (disk, path) = (self.disk(), path(partition));
        let rotated = |number: u64| PathBuf::from(format!("{}.{number}", path.display()));
        let n_rotated = (1..).take_while(|number| disk.metadata(&rotated(*number)).is_ok()).count() as u64;
        (1..=n_rotated).rev().try_for_each(|number| disk.rename(&rotated(number), &rotated(number + 1)))?;
        match self.rotation {
            Rotation::Renames => disk.rename(&path, &rotated(1))?,
            Rotation::CopiesAndTruncates => {
                let mut content = Vec::new();
                disk.open(&path)?.read_to_end(&mut content)?;
                disk.create(&rotated(1))?.write_all(&content)?;
            }
        }
        let begun = disk.create(&path)?;
        *self.logs.get_mut(partition as usize).ok_or("no such log")? = begun;
        Ok(())
    }
}

impl SourceSubject for Logs {
    type Source = FileTailSource<String>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn source(&mut self) -> UserResult<FileTailSource<String>> {
        Ok(FileTailSource::lines("/even/*.log").and("/odd/*.log").poll_interval(POLL_INTERVAL))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let mut put = Vec::new();
        for idx in 0..n {
            let partition = (idx % self.logs.len() as u64) as u32;
            let n_lines = self.n_lines.entry(partition).or_default();
            let record = RecordId { partition, number: *n_lines };
            *n_lines += 1;
            let is_due = n_lines.is_multiple_of(LINES_PER_FILE);
            let log = self.logs.get_mut(partition as usize).ok_or("no such log")?;
            log.write_all(format!("{record}\n").as_bytes())?;
            if is_due {
                self.rotate(partition)?;
            }
            put.push(record);
        }
        Ok(put)
    }
    fn identify(&self, record: &String) -> RecordId {
        let (partition, number) = record.split_once('/').expect("a line that was written");
        RecordId {
            partition: partition.parse().expect("a number"),
            number: number.parse().expect("a number"),
        }
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![SourceEvent::AddPartition]
    }
    fn happen(&mut self, _: SourceEvent) -> UserResult {
        self.add()
    }
    fn wait(&mut self, wakeup: &Wakeup) {
        let env = self.world.env();
        env.block_on(env.sleep(POLL_INTERVAL));
        wakeup.take();
    }
}

#[test]
fn the_source_keeps_the_contract_of_sources() {
    for rotation in [Rotation::Renames, Rotation::CopiesAndTruncates] {
        let report = SourceContract::new().run(|| Logs::new(rotation));
        let report = report.unwrap_or_else(|failure| panic!("{rotation:?}: {failure}"));
        assert!(report.cases.len() > 300, "{}", report.cases.len());
    }
}
