//! The contracts of sources and sinks, by the kit for connectors.

use super::harness::{BASE, hidden, lines};
use super::put;
use crate::{FileCompactStrategy, FileSink, FileSource, RollingPolicy};
use flott_api::UserResult;
use flott_env::Env;
use flott_env::sim::{Fault, FaultEffect, Simulation};
use flott_testkit::contract::{
    RecordId, SinkContract, SinkFault, SinkLimits, SinkPromise, SinkSubject, SourceContract, SourceSubject,
    Wakeup,
};
use flott_types::CheckpointId;
use std::time::Duration;

fn parse(line: &str) -> UserResult<RecordId> {
    let (partition, number) = line.split_once('/').ok_or("a line that nobody wrote")?;
    Ok(RecordId { partition: partition.parse()?, number: number.parse()? })
}

struct FileSinkSubject {
    world: Simulation,
    configure: fn(FileSink<String>) -> FileSink<String>,
    holds_back: bool,
}

impl SinkSubject for FileSinkSubject {
    type Record = String;
    type Sink = FileSink<String>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn sink(&mut self) -> UserResult<FileSink<String>> {
        Ok((self.configure)(FileSink::lines(BASE)))
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
        lines(self.world.disk()).iter().map(|line| parse(line)).collect()
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        Ok(hidden(self.world.disk()))
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

fn check(configure: fn(FileSink<String>) -> FileSink<String>, holds_back: bool) {
    let subject = || Ok(FileSinkSubject { world: Simulation::new(1), configure, holds_back });
    let report = SinkContract::new().run(subject).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 500, "{}", report.cases.len());
}

#[test]
fn the_sink_keeps_the_contract_of_sinks() {
    check(|sink| sink, false);
}

#[test]
fn with_parts_of_a_size_it_keeps_it() {
    check(|sink| sink.rolling(RollingPolicy::never().max_part_size(3)), false);
}

#[test]
fn with_partitions_and_compaction_it_keeps_it() {
    check(
        |sink| {
            sink.partition_by(|record: &String| record.split('/').next().unwrap_or_default().to_owned())
                .enable_compact(FileCompactStrategy::on_checkpoint(2))
        },
        true,
    );
}

/// Files that come one after the other; each is a partition.
struct FileSourceSubject {
    world: Simulation,
    configure: fn(FileSource<String>) -> FileSource<String>,
    n_files: u32,
}

impl SourceSubject for FileSourceSubject {
    type Source = FileSource<String>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn source(&mut self) -> UserResult<FileSource<String>> {
        Ok((self.configure)(FileSource::lines("/in")))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let records: Vec<RecordId> = (0..n)
            .map(|idx| RecordId { partition: self.n_files + (idx / 3) as u32, number: idx % 3 })
            .collect();
        for file in records.chunk_by(|a, b| a.partition == b.partition) {
            let lines: String = file.iter().map(|record| format!("{record}\n")).collect();
            put(&self.world.env(), &format!("/in/{}", self.n_files), lines);
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
    let subject = || Ok(FileSourceSubject { world: Simulation::new(1), configure, n_files: 0 });
    let report = SourceContract::new().run(subject).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 300, "{}", report.cases.len());
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
