//! Files of the file source and sink in an object store.

use crate::contract::{env_with, limits, open};
use crate::proxy::{Act, Proxy};
use crate::server::Server;
use flott::UserResult;
use flott::connectors::file::{CsvFormat, FileSink, FileSource, RollingPolicy};
use flott::connectors::parquet::ParquetFormat;
use flott::prelude::*;
use flott_checkpoint::ObjectStore;
use flott_env::Env;
use flott_testkit::contract::{
    Budget, RecordId, SinkContract, SinkFault, SinkLimits, SinkPromise, SinkSubject, SourceContract,
    SourceSubject, Wakeup,
};
use flott_types::CheckpointId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn parse(line: &str) -> UserResult<RecordId> {
    let (partition, number) = line.split_once('/').ok_or("a line that nobody wrote")?;
    Ok(RecordId { partition: partition.parse()?, number: number.parse()? })
}

struct SinkInBucket {
    env: Env,
    uri: String,
    store: Arc<dyn ObjectStore>,
    proxy: Arc<Proxy>,
    /// Objects never change.
    known: BTreeMap<String, Vec<RecordId>>,
}

impl SinkSubject for SinkInBucket {
    type Record = String;
    type Sink = FileSink<String>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn sink(&mut self) -> UserResult<FileSink<String>> {
        Ok(FileSink::lines(&self.uri).rolling(RollingPolicy::never().max_part_size(3)))
    }
    fn promise(&self) -> SinkPromise {
        SinkPromise::Transactional
    }
    fn limits(&self) -> SinkLimits {
        SinkLimits { zombies_leave_something: true, ..SinkLimits::default() }
    }
    fn record(&self, id: RecordId) -> String {
        id.to_string()
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let mut records = Vec::new();
        for (name, metadata) in self.store.list_with_metadata("")? {
            if metadata.is_dir || name.starts_with('.') {
                continue;
            }
            if !self.known.contains_key(&name) {
                let text = String::from_utf8(self.store.get(&name, 1 << 20)?)?;
                self.known.insert(name.clone(), text.lines().map(parse).collect::<UserResult<_>>()?);
            }
            records.extend(self.known[&name].iter().copied());
        }
        Ok(records)
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        Ok(self.store.list(".flott")?)
    }
    fn faults(&self) -> Vec<SinkFault> {
        vec![SinkFault::FailRequest, SinkFault::LoseReply]
    }
    fn inject(&mut self, fault: SinkFault, nth: u64) -> UserResult {
        let act = if fault == SinkFault::LoseReply { Act::LoseAnswer } else { Act::LoseRequest };
        let mut n_changes = 0;
        self.proxy.set(Box::new(move |line| {
            let changes = !line.starts_with("GET ") && !line.starts_with("HEAD ");
            n_changes += u64::from(changes);
            if changes && n_changes == nth + 1 { act } else { Act::Pass }
        }));
        Ok(())
    }
}

pub(crate) fn the_file_sink_keeps_the_contract_of_sinks(server: &Server) {
    let proxy = Arc::new(Proxy::start(server.address(), Box::new(|_| Act::Pass)));
    let env = env_with(&server.config_at(&proxy.address), limits());
    let reader = env_with(&server.config(), limits());
    let subject = || {
        proxy.set(Box::new(|_| Act::Pass));
        let uri = format!("{}/out", server.bucket());
        let (env, store, proxy) = (env.clone(), open(&reader, &uri), Arc::clone(&proxy));
        Ok(SinkInBucket { env, uri, store, proxy, known: BTreeMap::new() })
    };
    let budget = Budget::Sample { cases: 4, seed: 1 };
    let report = SinkContract::new().budget(budget).run(subject);
    assert_eq!(report.unwrap_or_else(|failure| panic!("{failure}")).cases.len(), 5);
}

struct SourceInBucket {
    env: Env,
    uri: String,
    store: Arc<dyn ObjectStore>,
    n_files: u32,
}

impl SourceSubject for SourceInBucket {
    type Source = FileSource<String>;

    fn env(&self) -> Env {
        self.env.clone()
    }
    fn source(&mut self) -> UserResult<FileSource<String>> {
        let source = FileSource::lines(&self.uri).recursive().split_bytes(6);
        Ok(source.monitor_continuously(Duration::from_secs(1)))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let records: Vec<RecordId> = (0..n)
            .map(|idx| RecordId { partition: self.n_files + (idx / 3) as u32, number: idx % 3 })
            .collect();
        for file in records.chunk_by(|a, b| a.partition == b.partition) {
            let lines: String = file.iter().map(|record| format!("{record}\n")).collect();
            let path = format!("day-{}/{}", self.n_files % 2, self.n_files);
            self.store.put_if_absent(&path, lines.as_bytes())?;
            self.n_files += 1;
        }
        Ok(records)
    }
    fn identify(&self, record: &String) -> RecordId {
        parse(record).unwrap()
    }
    fn is_ordered(&self) -> bool {
        false
    }
    fn wait(&mut self, _: &Wakeup) {}
}

pub(crate) fn the_file_source_keeps_the_contract_of_sources(server: &Server) {
    let env = env_with(&server.config(), limits());
    let subject = || {
        let uri = format!("{}/in", server.bucket());
        Ok(SourceInBucket { env: env.clone(), store: open(&env, &uri), uri, n_files: 0 })
    };
    let budget = Budget::Sample { cases: 25, seed: 1 };
    let report = SourceContract::new().budget(budget).run(subject);
    assert_eq!(report.unwrap_or_else(|failure| panic!("{failure}")).cases.len(), 26);
}

const N_RECORDS: u64 = 3_000;

fn job(server: &Server, checkpoints: &str) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::with_configuration(server.config()).unwrap();
    env.set_parallelism(2).enable_checkpointing(Duration::from_millis(50));
    env.set(options::CHECKPOINTING_DIR, Some(checkpoints.to_owned()));
    env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 10);
    env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(10));
    env.set(options::RESTART_STRATEGY, Some(flott_types::RestartStrategyType::FixedDelay));
    env
}

type Row = (u64, String);

/// From text to Parquet in an object store, with a failure in between; and from there to people.
pub(crate) fn a_job_reads_and_writes_objects_exactly_once(server: &Server) {
    let place = server.bucket();
    let store = open(&env_with(&server.config(), limits()), &place);
    for file in 0..6 {
        let numbers = (0..N_RECORDS).filter(|number| number % 6 == file);
        let lines: String = numbers.map(|number| format!("{number},name {number}\n")).collect();
        store.put_if_absent(&format!("in/{file}.csv"), lines.as_bytes()).unwrap();
    }
    let checkpoints = tempfile::tempdir().unwrap();
    let env = job(server, checkpoints.path().to_str().unwrap());
    let format = CsvFormat::new().one_line_records().without_header();
    let rows = FileSource::<Row>::format(format!("{place}/in"), format).split_bytes(4_000);
    let passed = Arc::new(AtomicU64::new(0));
    env.from_source(rows, WatermarkStrategy::no_watermarks(), "rows")
        .stream()
        .map(move |row: Row| {
            let n = passed.fetch_add(1, Ordering::Relaxed);
            assert!(n != N_RECORDS / 2, "killed at record {n}");
            row
        })
        .sink_to(FileSink::format(format!("{place}/out"), ParquetFormat::new()));
    assert_eq!(env.execute("write").unwrap().restarts, 1);
    assert_eq!(store.list("out/.flott").unwrap(), [""; 0], "nothing is left");

    let mut env = StreamExecutionEnvironment::with_configuration(server.config()).unwrap();
    env.set_parallelism(2);
    let rows = FileSource::<Row>::format(format!("{place}/out"), ParquetFormat::new());
    let (sink, handle) = collect_sink();
    env.from_source(rows, WatermarkStrategy::no_watermarks(), "rows").sink_to(sink);
    env.execute("read").unwrap();
    let read = handle.take();
    assert_eq!(read.len() as u64, N_RECORDS, "each once");
    let distinct: BTreeSet<Row> = read.into_iter().collect();
    assert_eq!(distinct, (0..N_RECORDS).map(|number| (number, format!("name {number}"))).collect());
}

/// A path without a bucket of that name, or without any objects.
pub(crate) fn a_place_that_is_not_there_is_named(server: &Server) {
    let bucket = server.bucket();
    for (place, said) in [
        (format!("{bucket}/nothing"), format!("there is no file or directory '{bucket}/nothing'")),
        (format!("{}/x", server.missing_bucket()), "no-such-bucket".to_owned()),
    ] {
        let env = StreamExecutionEnvironment::with_configuration(server.config()).unwrap();
        let (sink, _handle) = collect_sink();
        let lines = FileSource::lines(&place);
        env.from_source(lines, WatermarkStrategy::no_watermarks(), "lines").sink_to(sink);
        let error = env.execute("read").expect_err("there is nothing").report();
        assert!(error.contains(&said), "{error}");
    }
}
