//! An engine in small: gives two or more subtasks of a sink records, takes checkpoints, dies where it is told to, and goes on from the last
//! complete checkpoint. Its own storage never fails: only the sink's disk does.

use crate::FileSink;
use flott_api::{
    Committable, CommittableId, Committer, Sink, SinkContext, SinkGeneration, SinkWriter, UserResult,
};
use flott_env::sim::{MemoryFs, SimRng, Simulation};
use flott_types::{CheckpointId, JobId, RecordBatch, SubtaskIndex, Watermark};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const BASE: &str = "/data/out";

/// Records between two checkpoints, per source partition.
pub(super) const CHUNK: u64 = 5;
/// Source partitions; subtask `s` of `p` gets those with the number `o`, `o mod p == s`.
pub(super) const SOURCES: u64 = 3;

/// A complete checkpoint: how many chunks of records came before it, and what the sink's subtasks put in.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) id: CheckpointId,
    pub(super) chunks: u64,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) committables: Vec<Committable>,
}

pub(super) struct Subtask {
    pub(super) writer: <FileSink<String> as Sink<String>>::Writer,
    pub(super) committer: Box<dyn Committer>,
    pub(super) pending: Vec<Committable>,
}

/// One attempt to run the job.
pub(super) struct Attempt {
    pub(super) subtasks: Vec<Subtask>,
    pub(super) chunks: u64,
    rng: SimRng,
}

/// The record `n` of source partition `o`: its text begins with a letter that depends on `n`.
pub(super) fn record(source: u64, n: u64) -> String {
    format!("{}-{source}-{n}", if n.is_multiple_of(2) { "even" } else { "odd" })
}

/// The records of the first chunks, sorted.
pub(super) fn records(chunks: u64) -> Vec<String> {
    let mut records: Vec<String> =
        (0..SOURCES).flat_map(|source| (0..chunks * CHUNK).map(move |n| record(source, n))).collect();
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

impl Attempt {
    /// Starts `parallelism` subtasks from a checkpoint and commits what that holds.
    pub(super) fn start(
        sink: &FileSink<String>,
        disk: &MemoryFs,
        parallelism: u32,
        run: u64,
        from: Option<&Checkpoint>,
    ) -> UserResult<Self> {
        let env = Simulation::new(run).with_disk(disk.clone()).env();
        let mut subtasks = Vec::new();
        for subtask in 0..parallelism {
            let mut ctx = SinkContext::new(env.clone(), SubtaskIndex(subtask), parallelism, run);
            (ctx.job_id, ctx.has_checkpoints) = (JobId(7), true);
            ctx.generation = Some(SinkGeneration { history: 1, job: run, subtask: run });
            ctx.restored_checkpoint = from.map(|checkpoint| checkpoint.id);
            let writer = sink.create_writer(ctx.clone())?;
            let committer = sink.create_committer(ctx)?.expect("file sinks commit");
            subtasks.push(Subtask { writer, committer, pending: Vec::new() });
        }
        let n = subtasks.len();
        if let Some(checkpoint) = from {
            for (idx, committable) in checkpoint.committables.iter().enumerate() {
                // To any of them.
                subtasks[(idx + run as usize) % n].pending.push(committable.clone());
            }
        }
        for (idx, subtask) in subtasks.iter_mut().enumerate() {
            let entries = from.map_or(&[][..], |checkpoint| &checkpoint.entries);
            let mine = entries.iter().skip(idx).step_by(n).cloned().collect();
            SinkWriter::<String>::restore(&mut subtask.writer, mine, from.map(|checkpoint| checkpoint.id))?;
        }
        let chunks = from.map_or(0, |checkpoint| checkpoint.chunks);
        let mut attempt = Self { subtasks, chunks, rng: SimRng::new(run) };
        attempt.commit()?;
        Ok(attempt)
    }

    /// Writes the next chunk of each source partition.
    pub(super) fn write(&mut self) -> UserResult {
        for source in 0..SOURCES {
            let idx = source as usize % self.subtasks.len();
            let range = self.chunks * CHUNK..(self.chunks + 1) * CHUNK;
            let batch = range.map(|n| record(source, n)).collect();
            self.subtasks[idx].writer.write(RecordBatch::untimed(batch))?;
        }
        self.chunks += 1;
        Ok(())
    }

    pub(super) fn watermark(&mut self, subtask: usize, watermark: i64) -> UserResult {
        SinkWriter::<String>::on_watermark(&mut self.subtasks[subtask].writer, Watermark(watermark))
    }

    /// A barrier goes through all subtasks. What is returned is a checkpoint that is complete as soon as the caller says so.
    pub(super) fn barrier(&mut self, id: u64, is_final: bool) -> UserResult<Checkpoint> {
        let id = CheckpointId(id);
        let mut checkpoint =
            Checkpoint { id, chunks: self.chunks, entries: Vec::new(), committables: Vec::new() };
        for (idx, subtask) in self.subtasks.iter_mut().enumerate() {
            for payload in SinkWriter::<String>::prepare_commit(&mut subtask.writer, id, is_final)? {
                let random = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
                let subtask_index = SubtaskIndex(idx as u32);
                subtask.pending.push(Committable {
                    id: CommittableId(random),
                    checkpoint_id: id,
                    subtask: subtask_index,
                    payload,
                });
            }
            checkpoint.entries.extend(SinkWriter::<String>::snapshot(&mut subtask.writer)?);
            checkpoint.committables.extend(subtask.pending.iter().cloned());
        }
        Ok(checkpoint)
    }

    pub(super) fn finish(&mut self) -> UserResult {
        self.subtasks.iter_mut().try_for_each(|subtask| SinkWriter::<String>::finish(&mut subtask.writer))
    }

    /// Commits what is pending in each subtask; each tries twice, as the engine does.
    pub(super) fn commit(&mut self) -> UserResult {
        (0..self.subtasks.len()).try_for_each(|idx| self.commit_one(idx))
    }

    pub(super) fn commit_one(&mut self, idx: usize) -> UserResult {
        let subtask = &mut self.subtasks[idx];
        if !subtask.pending.is_empty() {
            subtask
                .committer
                .commit(&subtask.pending)
                .or_else(|_| subtask.committer.commit(&subtask.pending))?;
            subtask.pending.clear();
        }
        Ok(())
    }
}

/// Where a job dies without its disk: between two steps of the protocol, counted over its life.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths(pub(super) Vec<u64>, u64);

impl Deaths {
    pub(super) fn at(steps: &[u64]) -> Self {
        Self(steps.to_vec(), 0)
    }

    /// The steps so far.
    pub(super) fn n_steps(&self) -> u64 {
        self.1
    }

    fn step(&mut self) -> UserResult {
        self.1 += 1;
        if self.0.contains(&(self.1 - 1)) { Err("died between two steps".into()) } else { Ok(()) }
    }
}

/// A job that writes `total` chunks with a checkpoint after each and dies now and then.
pub(super) struct Job {
    pub(super) sink: FileSink<String>,
    pub(super) disk: MemoryFs,
    pub(super) total: u64,
    pub(super) deaths: Deaths,
    pub(super) completed: Option<Checkpoint>,
    /// Not everything that is committed is seen at once.
    pub(super) holds_back: bool,
    next_id: u64,
    runs: u64,
}

impl Job {
    pub(super) fn new(sink: FileSink<String>, disk: MemoryFs, total: u64, deaths: Deaths) -> Self {
        Self { sink, disk, total, deaths, completed: None, holds_back: false, next_id: 1, runs: 0 }
    }

    /// One attempt, until the end or its death. After every commit, committed output is exactly what the checkpoint covers.
    pub(super) fn attempt(&mut self, parallelism: u32) -> UserResult {
        self.runs += 1;
        let mut attempt =
            Attempt::start(&self.sink, &self.disk, parallelism, self.runs, self.completed.as_ref())?;
        self.check();
        loop {
            self.deaths.step()?;
            let is_final = attempt.chunks >= self.total;
            if is_final {
                attempt.finish()?
            } else {
                attempt.write()?
            }
            self.deaths.step()?;
            let checkpoint = attempt.barrier(self.next_id, is_final)?;
            self.next_id += 1;
            self.deaths.step()?;
            // Every third is aborted.
            if self.next_id.is_multiple_of(3) && !is_final {
                continue;
            }
            self.completed = Some(checkpoint);
            for idx in 0..attempt.subtasks.len() {
                self.deaths.step()?;
                attempt.commit_one(idx)?;
            }
            self.check();
            if is_final {
                return Ok(());
            }
        }
    }

    fn check(&self) {
        let chunks = self.completed.as_ref().map_or(0, |checkpoint| checkpoint.chunks);
        if self.holds_back {
            let (lines, expected) = (lines(&self.disk), records(chunks));
            assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "twice after {:?}", self.completed);
            assert!(lines.iter().all(|line| expected.contains(line)), "early after {:?}", self.completed);
            return;
        }
        assert_eq!(lines(&self.disk), records(chunks), "after checkpoint {:?}", self.completed);
    }
}
