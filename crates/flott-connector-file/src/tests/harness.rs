//! A job of a file sink that dies where it is told to, on a disk in memory. Its own storage never fails: only the sink's disk does.

use crate::{FileSink, FileWriter};
use flott_api::UserResult;
use flott_env::sim::{MemoryFs, Simulation};
use flott_testkit::sink_steps::{SinkAttempt, SinkCheckpoint, SinkJob, numbers};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const BASE: &str = "/data/out";

/// The text of a record begins with a word that depends on its number.
pub(super) fn record(partition: u64, number: u64) -> String {
    format!("{}-{partition}-{number}", if number.is_multiple_of(2) { "even" } else { "odd" })
}

/// The records of the first chunks, sorted.
pub(super) fn records(chunks: u64) -> Vec<String> {
    let mut records: Vec<String> =
        numbers(chunks).map(|(partition, number)| record(partition, number)).collect();
    records.sort();
    records
}

/// The names of the files that a reader sees, with their content.
pub(super) fn visible(disk: &MemoryFs) -> BTreeMap<String, Vec<u8>> {
    let relative = |(path, content): (std::path::PathBuf, Vec<u8>)| {
        let name = path.strip_prefix(BASE).ok()?.to_str()?.to_owned();
        (!name.starts_with('.')).then_some((name, content))
    };
    disk.files().into_iter().filter_map(relative).collect()
}

/// The hidden files.
pub(super) fn hidden(disk: &MemoryFs) -> Vec<String> {
    let below = Path::new(BASE).join(".flott");
    disk.files()
        .keys()
        .filter_map(|path| Some(path.strip_prefix(&below).ok()?.to_str()?.to_owned()))
        .collect()
}

/// What a reader of lines sees, sorted. Each line is whole.
pub(super) fn lines(disk: &MemoryFs) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, content) in visible(disk) {
        if name.ends_with("_SUCCESS") {
            continue;
        }
        let text = String::from_utf8(content).expect("UTF-8");
        assert!(text.ends_with('\n'), "{name} is torn: {text:?}");
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

pub(super) type Attempt = SinkAttempt<String, FileWriter<String>>;

/// Starts `parallelism` subtasks from a checkpoint and commits what that holds.
pub(super) fn start(
    sink: &FileSink<String>,
    disk: &MemoryFs,
    parallelism: u32,
    run: u64,
    from: Option<&SinkCheckpoint>,
) -> UserResult<Attempt> {
    let env = Simulation::new(run).with_disk(disk.clone()).env();
    SinkAttempt::start(sink, &env, (parallelism, run), from, record)
}

/// A job, its sink and its disk.
pub(super) struct Job {
    pub(super) sink: FileSink<String>,
    pub(super) disk: MemoryFs,
    pub(super) steps: SinkJob,
    /// Not everything that is committed is seen at once.
    pub(super) holds_back: bool,
}

impl Job {
    /// It writes `total` chunks and dies between these steps.
    pub(super) fn new(sink: FileSink<String>, disk: MemoryFs, total: u64, deaths: &[u64]) -> Self {
        Self { sink, disk, steps: SinkJob::new(total, deaths), holds_back: false }
    }

    /// One attempt, until the end or its death. After every commit, committed output is exactly what the checkpoint covers.
    pub(super) fn attempt(&mut self, parallelism: u32) -> UserResult {
        let Self { sink, disk, steps, holds_back } = self;
        steps.runs += 1;
        let mut attempt = start(sink, disk, parallelism, steps.runs, steps.completed.as_ref())?;
        steps.run(&mut attempt, |steps| {
            let (lines, expected) = (lines(disk), records(steps.covered()));
            if *holds_back {
                assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "twice: {steps:?}");
                assert!(lines.iter().all(|line| expected.contains(line)), "early: {steps:?}");
            } else {
                assert_eq!(lines, expected, "{steps:?}");
            }
        })
    }
}
