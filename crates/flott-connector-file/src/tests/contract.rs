//! The contracts of sources and sinks, by the kit for connectors.

use super::harness::BASE;
use super::put;
use crate::{FileCompactStrategy, FileSink, FileSource, RollingPolicy};
use flott_api::UserResult;
use flott_checkpoint::{LocalStore, ObjectStore, ObjectStoreFactory, ObjectStores, RemoteLocation};
use flott_env::Env;
use flott_env::sim::{Fault, FaultEffect, Simulation};
use flott_testkit::contract::{
    Budget, RecordId, SinkContract, SinkFault, SinkLimits, SinkPromise, SinkSubject, SourceContract,
    SourceSubject, Wakeup,
};
use flott_types::CheckpointId;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn parse(line: &str) -> UserResult<RecordId> {
    let (partition, number) = line.split_once('/').ok_or("a line that nobody wrote")?;
    Ok(RecordId { partition: partition.parse()?, number: number.parse()? })
}

/// Object stores, each a directory of the simulated disk.
#[derive(Debug)]
struct Buckets(Env);

impl ObjectStoreFactory for Buckets {
    fn open(&self, location: &RemoteLocation) -> flott_types::Result<Arc<dyn ObjectStore>> {
        let root = format!("/buckets/{}", location.authority);
        Ok(Arc::new(LocalStore::new(self.0.fs(), root, self.0.random_u64())))
    }
}

fn with_buckets(world: &Simulation) -> Env {
    let env = world.env();
    env.with_settings(ObjectStores(Arc::new(Buckets(env.clone()))))
}

/// The sink's directory as a URI, and where that is on the simulated disk.
const REMOTE: (&str, &str) = ("s3://bucket/out", "/buckets/bucket/out");

struct FileSinkSubject {
    world: Simulation,
    base: (&'static str, &'static str),
    configure: fn(FileSink<String>) -> FileSink<String>,
    holds_back: bool,
}

impl SinkSubject for FileSinkSubject {
    type Record = String;
    type Sink = FileSink<String>;

    fn env(&self) -> Env {
        with_buckets(&self.world)
    }
    fn sink(&mut self) -> UserResult<FileSink<String>> {
        Ok((self.configure)(FileSink::lines(self.base.0)))
    }
    fn promise(&self) -> SinkPromise {
        SinkPromise::Transactional
    }
    fn limits(&self) -> SinkLimits {
        SinkLimits { holds_back: self.holds_back, zombies_leave_something: true, ..SinkLimits::default() }
    }
    fn record(&self, id: RecordId) -> String {
        id.to_string()
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let mut records = Vec::new();
        for (path, content) in self.world.disk().files() {
            let hidden = |name: &str| name.starts_with(['.', '_']);
            let relative = path.strip_prefix(self.base.1).ok().and_then(|path| path.to_str());
            if relative.is_some_and(|path| !path.split('/').any(hidden)) {
                let text = String::from_utf8(content)?;
                assert!(text.ends_with('\n'), "{path:?} is torn: {text:?}");
                records.extend(text.lines().map(parse).collect::<UserResult<Vec<_>>>()?);
            }
        }
        Ok(records)
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        let below = Path::new(self.base.1).join(".flott");
        let files = self.world.disk().files();
        let hidden = files.keys().filter(|path| path.starts_with(&below));
        // Of a dead put, what the clean-up of a store removes.
        let named = hidden.filter(|path| !path.to_string_lossy().contains("/.tmp-"));
        Ok(named.map(|path| path.display().to_string()).collect())
    }
    fn faults(&self) -> Vec<SinkFault> {
        vec![SinkFault::FailRequest, SinkFault::LoseReply]
    }
    fn inject(&mut self, fault: SinkFault, nth: u64) -> UserResult {
        let effect = match fault {
            SinkFault::LoseReply => FaultEffect::AppliedButError,
            _ => FaultEffect::Before,
        };
        let at = self.world.disk().operations() + nth;
        self.world.disk().set_fault(Some(Fault { at, effect, halts: false }));
        Ok(())
    }
    fn requests(&mut self) -> Option<u64> {
        Some(self.world.disk().operations())
    }
}

fn check(
    base: (&'static str, &'static str),
    budget: Budget,
    configure: fn(FileSink<String>) -> FileSink<String>,
    holds_back: bool,
) {
    let subject = || Ok(FileSinkSubject { world: Simulation::new(1), base, configure, holds_back });
    let report = SinkContract::new().budget(budget).run(subject);
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 200, "{}", report.cases.len());
}

const LOCAL: (&str, &str) = (BASE, BASE);
const SAMPLE: Budget = Budget::Sample { cases: 300, seed: 5 };

fn in_partitions(sink: FileSink<String>) -> FileSink<String> {
    sink.partition_by(|record: &String| record.split('/').next().unwrap_or_default().to_owned())
}

#[test]
fn the_sink_keeps_the_contract_of_sinks() {
    check(LOCAL, Budget::All, |sink| sink, false);
}

#[test]
fn with_parts_of_a_size_it_keeps_it() {
    check(LOCAL, SAMPLE, |sink| sink.rolling(RollingPolicy::never().max_part_size(3)), false);
}

#[test]
fn with_partitions_and_compaction_it_keeps_it() {
    let compacts = |sink| in_partitions(sink).enable_compact(FileCompactStrategy::on_checkpoint(2));
    check(LOCAL, SAMPLE, compacts, true);
}

#[test]
fn in_an_object_store_it_keeps_it() {
    check(REMOTE, SAMPLE, |sink| sink, false);
}

#[test]
fn in_an_object_store_with_parts_of_a_size_it_keeps_it() {
    check(REMOTE, SAMPLE, |sink| in_partitions(sink).rolling(RollingPolicy::never().max_part_size(3)), false);
}

#[test]
fn in_an_object_store_with_compaction_it_keeps_it() {
    let compacts = |sink| in_partitions(sink).enable_compact(FileCompactStrategy::on_checkpoint(2));
    check(REMOTE, SAMPLE, compacts, true);
}

/// Files that come one after the other; each is a partition.
struct FileSourceSubject {
    world: Simulation,
    base: (&'static str, &'static str),
    configure: fn(FileSource<String>) -> FileSource<String>,
    n_files: u32,
}

impl SourceSubject for FileSourceSubject {
    type Source = FileSource<String>;

    fn env(&self) -> Env {
        with_buckets(&self.world)
    }
    fn source(&mut self) -> UserResult<FileSource<String>> {
        Ok((self.configure)(FileSource::lines(self.base.0)))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let records: Vec<RecordId> = (0..n)
            .map(|idx| RecordId { partition: self.n_files + (idx / 3) as u32, number: idx % 3 })
            .collect();
        for file in records.chunk_by(|a, b| a.partition == b.partition) {
            let lines: String = file.iter().map(|record| format!("{record}\n")).collect();
            put(&self.world.env(), &format!("{}/{}", self.base.1, self.n_files), lines);
            self.n_files += 1;
        }
        Ok(records)
    }
    fn identify(&self, record: &String) -> RecordId {
        parse(record).expect("a record")
    }
    fn is_ordered(&self) -> bool {
        // The ranges of a file are read side by side.
        false
    }
    fn wait(&mut self, _: &Wakeup) {}
}

fn check_source(configure: fn(FileSource<String>) -> FileSource<String>) {
    for base in [("/in", "/in"), ("s3://bucket/in", "/buckets/bucket/in")] {
        let subject = || Ok(FileSourceSubject { world: Simulation::new(1), base, configure, n_files: 0 });
        let report =
            SourceContract::new().run(subject).unwrap_or_else(|failure| panic!("{}: {failure}", base.0));
        assert!(report.cases.len() > 300, "{}", report.cases.len());
    }
}

#[test]
fn the_source_keeps_the_contract_of_sources() {
    check_source(|source| source);
    check_source(|source| source.split_bytes(5));
}

#[test]
fn watching_a_directory_it_keeps_it() {
    check_source(|source| source.monitor_continuously(Duration::from_secs(1)));
    check_source(|source| source.monitor_continuously(Duration::from_secs(1)).split_bytes(5));
}
