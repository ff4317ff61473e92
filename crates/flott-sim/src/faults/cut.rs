//! What a checkpoint holds: how far every split was read, how far event time was, and what sinks had prepared.

use super::expected::{Due, Numbered, Row, SECOND};
use super::flight::Flight;
use super::held::KeyedDump;
use super::plan::Job;
use super::program::{FaultSplit, SECOND_SINK, SINK, SOURCES};
use super::replay::{compare_state, split_watermark};
use super::store::{TransactionId, transaction_id};
use super::world::{CHECKPOINTS, SAVEPOINTS, World};
use flott_api::Committable;
use flott_checkpoint::{
    CheckpointPlan, CheckpointStorage, Manifest, OpenSnapshot, PlannedOperator, RestoreOptions,
    RestoredState, open_snapshot,
};
use flott_env::Env;
use flott_env::sim::{CrashMode, MemoryFs, Simulation};
use flott_graph::VertexId;
use flott_types::{CheckpointId, Error, JobId, OperatorUid, Result, SubtaskIndex, Watermark};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The identity of all simulated jobs.
pub(crate) const JOB_ID: JobId = JobId(0x5117);

/// What a checkpoint holds.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) id: CheckpointId,
    /// The numbers of the first records not yet read.
    positions: BTreeMap<u32, u64>,
    /// The watermark is no less, and no more, than this.
    watermark: (i64, i64),
    /// What it promises to commit.
    pub(crate) listed: BTreeSet<TransactionId>,
    /// What has not come to the sinks.
    pub(crate) flight: Flight,
    /// What the keyed operator has.
    keyed: KeyedDump,
    /// What is wrong with the splits.
    wrong: Option<String>,
    /// Whether it has only what has changed since an earlier one.
    pub(crate) goes_on: bool,
    /// Whether each subtask of a source has one, or has ended.
    has_splits: bool,
}

impl Cut {
    /// Whether something must be done by the checkpoint, and whether it may.
    pub(crate) fn covers(&self, due: Due) -> (bool, bool) {
        let (must, may) = match due {
            Due::Read(record) => (self.has_read(&record), self.has_read(&record)),
            Due::At(time) => (time <= self.watermark.0, time <= self.watermark.1),
        };
        (must && !self.flight.is_open(), may)
    }

    /// Whether the sinks must have a row, and whether they may: of rows it is known whether they are on their way.
    pub(crate) fn covers_row(&self, row: &Row, due: Due) -> (bool, bool) {
        if self.flight.rows.contains(row) {
            return (false, false);
        }
        let is_done = match (row, due) {
            (Row::Record(record), _) => self.has_read(record) && !self.flight.to_rows.contains(record),
            (Row::Group(key, ..), Due::At(time)) => match self.keyed.reached(*key) {
                Some(reached) => time <= reached.0,
                None => return self.covers(due),
            },
            (Row::Group(..) | Row::Count(..), Due::Read(record)) => {
                self.has_read(&record) && !self.flight.to_state.contains(&record)
            }
            (Row::Count(..), Due::At(_)) => return self.covers(due),
        };
        (is_done, is_done)
    }

    fn has_read(&self, (split, number): &Numbered) -> bool {
        self.positions.get(split).is_some_and(|next| number < next)
    }

    /// Compares splits, event time and keyed state with a replay of what their operators have seen.
    ///
    /// # Errors
    /// What is wrong. Otherwise how many entries were compared.
    pub(crate) fn compare_state(&self, job: &Job) -> std::result::Result<u64, String> {
        if let Some(wrong) = &self.wrong {
            return Err(format!("{wrong}; {}", self.positions()));
        }
        let compared = self.compare_event_time().and_then(|()| {
            let splits = self.positions.iter();
            let read = splits.flat_map(|(split, next)| (0..*next).map(|number| (*split, number)));
            compare_state(job, &self.keyed, read.filter(|record| !self.flight.to_state.contains(record)))
        });
        let n_splits = self.positions.len() as u64;
        compared.map(|n| n + n_splits).map_err(|what| format!("{what}; {}", self.positions()))
    }

    /// Compares it with a snapshot of a process that has begun with this one and has read nothing.
    ///
    /// # Errors
    /// What is not the same.
    pub(crate) fn compare_restored(&self, later: &Self) -> std::result::Result<(), String> {
        if self.positions != later.positions {
            return Err(format!("{} before, and behind {}", self.positions(), later.positions()));
        }
        // What was in flight has come to the state; and who has nothing to read says so, which is event time.
        if self.flight.is_open() || !self.has_splits || self.keyed.same(&later.keyed) {
            return Ok(());
        }
        Err(format!("the state was {:?}, and is {:?}", self.keyed, later.keyed))
    }

    /// The event time of key groups is that of the sources, or not yet if something is on its way.
    fn compare_event_time(&self) -> std::result::Result<(), String> {
        let (least, most) = self.watermark;
        let least = if self.flight.is_open() { i64::MIN } else { least };
        for (start, end, reached) in &self.keyed.reached {
            let has_ended = *reached == Watermark::MAX;
            if !has_ended && !(least..=most).contains(&reached.0) {
                return Err(format!(
                    "key groups {start} to {end} are at {reached}, and its sources between {} and {}",
                    Watermark(least),
                    Watermark(most)
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn positions(&self) -> String {
        format!("positions are {:?}, watermark {:?}", self.positions, self.watermark)
    }
}

fn storage(env: &Env, base: &str) -> CheckpointStorage {
    let (checkpoints, savepoints) = (base.to_owned() + CHECKPOINTS, base.to_owned() + SAVEPOINTS);
    CheckpointStorage::local(env, Path::new(&checkpoints), Path::new(&savepoints), JOB_ID)
}

/// The newest complete checkpoint below `base`, in any world.
///
/// # Errors
/// If it is damaged, or was deleted while it was read.
pub(crate) fn latest_cut(env: &Env, base: &str, job: &Job) -> Result<Option<Cut>> {
    storage(env, base).latest()?.map(|snapshot| cut(&snapshot, job)).transpose()
}

/// The newest checkpoint that a power failure at this moment would leave.
///
/// # Errors
/// If it is damaged.
pub(crate) fn read_cut(disk: &MemoryFs, job: &Job) -> Result<Option<Cut>> {
    let disk = disk.fork();
    disk.crash(CrashMode::LoseUnsynced);
    latest_cut(&Simulation::new(0).with_disk(disk).env(), "", job)
}

/// A checkpoint that a power failure at this moment would leave of a job that was cancelled and has retained it: who was replaced when it had
/// completed it, and wakes up behind the end of its successor, commits it still.
///
/// # Errors
/// If it is damaged, or cannot be looked for.
pub(crate) fn read_retained_cut(disk: &MemoryFs, id: CheckpointId, job: &Job) -> Result<Option<Cut>> {
    let disk = disk.fork();
    disk.crash(CrashMode::LoseUnsynced);
    if !matches!(ended(&disk)?, Some((_, true))) {
        return Ok(None);
    }
    let found = checkpoints(&disk).into_iter().find(|(found, _)| *found == id);
    found.map(|(_, path)| read_cut_at(&disk, &path, job)).transpose()
}

/// The checkpoint or savepoint at `path`.
///
/// # Errors
/// If there is none.
pub(crate) fn read_cut_at(disk: &MemoryFs, path: &str, job: &Job) -> Result<Cut> {
    cut_at(&Simulation::new(0).with_disk(disk.fork()).env(), path, job)
}

/// The checkpoint or savepoint at `path`, in any world.
///
/// # Errors
/// If there is none, or it is damaged.
pub(crate) fn cut_at(env: &Env, path: &str, job: &Job) -> Result<Cut> {
    cut(&open_snapshot(env, Path::new(path))?, job)
}

/// Whether the checkpoint at `path` can be restored with so many subtasks: not if a part of them has finished with state.
pub(crate) fn fits(disk: &MemoryFs, path: &str, parallelism: u32) -> bool {
    let env = Simulation::new(0).with_disk(disk.fork()).env();
    open_snapshot(&env, Path::new(path)).is_ok_and(|snapshot| {
        let plan = plan_of(snapshot.manifest(), Some(parallelism));
        RestoredState::open(&snapshot, &plan, RestoreOptions::default()).is_ok()
    })
}

fn cut(snapshot: &OpenSnapshot, job: &Job) -> Result<Cut> {
    let manifest = snapshot.manifest();
    let state = RestoredState::open(snapshot, &plan_of(manifest, None), RestoreOptions::default())?;
    let mut splits = Splits::new(job);
    let mut listed = BTreeSet::new();
    for operator in &manifest.operators {
        let is_source = SOURCES.contains(&operator.uid.0.as_str());
        // Only records behind the first source have event time to wait for then.
        let has_time = !(job.apart && operator.uid.0 == SOURCES[1]);
        if let (true, Some(unassigned)) = (is_source, &operator.enumerator) {
            splits.add_unassigned(&flott_state::decode::<Vec<FaultSplit>>("splits", unassigned)?, has_time);
        }
        for subtask in (0..operator.parallelism).map(SubtaskIndex) {
            let Some(restored) = state.subtask(&operator.uid, subtask)? else { continue };
            let list = |name: &str| restored.snapshot.list.get(name).cloned().unwrap_or_default();
            if is_source {
                splits.add_held(job, &list("_splits"), restored.finished, has_time)?;
            } else if [SINK, SECOND_SINK].contains(&operator.uid.0.as_str()) {
                for entry in list("_sink_committables") {
                    let committable: Committable = flott_state::decode("a committable", &entry)?;
                    // Those of other sinks are none of ours.
                    if let Ok(id) = transaction_id(&committable.payload) {
                        listed.insert(id);
                    }
                }
            }
        }
    }
    let Splits { mut positions, watermark, wrong, has_splits, .. } = splits;
    if job.second.is_none() {
        positions.remove(&SECOND);
    }
    let flight = Flight::read(manifest, &state)?;
    let keyed = KeyedDump::read(manifest, &state)?;
    let goes_on = manifest.parts().values().any(|bases| !bases.is_empty());
    let id = manifest.checkpoint_id;
    Ok(Cut { id, positions, watermark, listed, keyed, flight, wrong, has_splits, goes_on })
}

/// How far splits were read, and event time with them.
struct Splits {
    positions: BTreeMap<u32, u64>,
    watermark: (i64, i64),
    /// Who has each split.
    holders: BTreeSet<u32>,
    wrong: Option<String>,
    /// Whether each subtask has one, or has ended.
    has_splits: bool,
}

impl Splits {
    /// Nobody has any: all were read.
    fn new(job: &Job) -> Self {
        let positions = job.splits().collect();
        let watermark = (i64::MAX, i64::MAX);
        Self { positions, watermark, holders: BTreeSet::new(), wrong: None, has_splits: true }
    }

    fn add(&mut self, split: &FaultSplit) {
        self.positions.insert(split.split, split.next);
        if !self.holders.insert(split.split) {
            self.wrong = Some(format!("split {} is held twice", split.split));
        }
    }

    fn add_unassigned(&mut self, unassigned: &[FaultSplit], has_time: bool) {
        for split in unassigned {
            self.add(split);
            if has_time {
                self.watermark.0 = i64::MIN;
            }
        }
    }

    /// What one subtask holds.
    fn add_held(&mut self, job: &Job, held: &[Vec<u8>], has_finished: bool, has_time: bool) -> Result<()> {
        let mut least = None;
        for entry in held {
            let (bytes, of_split): (Vec<u8>, Watermark) = flott_state::decode("a held split", entry)?;
            let split: FaultSplit = flott_state::decode("a split", &bytes)?;
            self.add(&split);
            let replayed = split_watermark(job, split.split, split.next);
            if of_split != replayed {
                let FaultSplit { split, next } = split;
                let what = format!(
                    "split {split} at record {next} has watermark {of_split}, and a replay {replayed}"
                );
                self.wrong = Some(what);
            }
            least = Some(least.unwrap_or(i64::MAX).min(of_split.0));
        }
        self.has_splits &= has_finished || least.is_some();
        // Without splits it has ended, or is about to: then nobody can tell what it has said last.
        let unknown = if has_finished { i64::MAX } else { i64::MIN };
        if has_time {
            self.watermark.0 = self.watermark.0.min(least.unwrap_or(unknown));
            self.watermark.1 = self.watermark.1.min(least.unwrap_or(i64::MAX));
        }
        Ok(())
    }
}

/// A plan that fits the snapshot, at its parallelism or another.
fn plan_of(manifest: &Manifest, parallelism: Option<u32>) -> CheckpointPlan {
    let operator = |(idx, operator): (usize, &flott_checkpoint::OperatorManifest)| PlannedOperator {
        uid: OperatorUid(operator.uid.0.clone()),
        name: operator.name.clone(),
        vertex: VertexId(idx),
        parallelism: parallelism.unwrap_or(operator.parallelism),
        max_parallelism: operator.max_parallelism,
        states: None,
    };
    CheckpointPlan {
        subtasks: Vec::new(),
        operators: manifest.operators.iter().enumerate().map(operator).collect(),
    }
}

/// The complete checkpoints that are on the disk, oldest first.
pub(crate) fn checkpoints(disk: &MemoryFs) -> Vec<(CheckpointId, String)> {
    let mut found: Vec<(CheckpointId, String)> = manifests(disk, CHECKPOINTS)
        .filter_map(|dir| {
            let number = dir.rsplit_once("/chk-")?.1.parse().ok()?;
            Some((CheckpointId(number), dir))
        })
        .collect();
    found.sort();
    found
}

/// The newest complete savepoint on the disk.
pub(crate) fn newest_savepoint(disk: &MemoryFs, job: &Job) -> Option<String> {
    let readable =
        manifests(disk, SAVEPOINTS).filter_map(|dir| Some((read_cut_at(disk, &dir, job).ok()?.id, dir)));
    readable.max().map(|(_, dir)| dir)
}

fn manifests(disk: &MemoryFs, below: &str) -> impl Iterator<Item = String> + use<> {
    let below = below.to_owned();
    let paths = disk.files().into_keys().filter(move |path| path.starts_with(&below));
    paths.filter_map(|path| {
        let is_manifest = path.file_name().is_some_and(|name| name == "_metadata");
        is_manifest.then(|| path.parent().map(|dir| dir.display().to_string())).flatten()
    })
}

/// Whether the end of a start of the job counts as told.
pub(crate) fn is_reported(disk: &MemoryFs, generation: u64) -> bool {
    let name = format!("owner-{generation}.reported");
    disk.files().keys().any(|path| path.file_name().is_some_and(|it| it == name.as_str()))
}

/// Whether a process has started the job once more though another had said how it ended, and nobody has heard of that yet: it does what the
/// user tells it to, from the first snapshot on.
pub(crate) fn begins_anew(world: &World) -> bool {
    let records = owner_records(world.disk.files().keys().map(PathBuf::as_path));
    let started = records.iter().filter(|(_, what)| what == "start").map(|(number, _)| *number).max();
    let is_unheard = |(number, what): &(u64, String)| what == "reported" && Some(*number) > world.known_end();
    records.iter().any(|record| is_unheard(record) && Some(record.0) < started)
}

/// The newest start of the job, if it has recorded its end; and whether that was because somebody had cancelled it.
///
/// # Errors
/// If that cannot be told.
pub(crate) fn ended(disk: &MemoryFs) -> Result<Option<(u64, bool)>> {
    let files = disk.files();
    let Some(started) = ended_by(files.keys().map(PathBuf::as_path))? else { return Ok(None) };
    let name = format!("owner-{started}.end");
    let mut end = files.iter().filter(|(path, _)| path.file_name().is_some_and(|it| it == name.as_str()));
    // Simulated jobs retain their checkpoints when they are cancelled, and only then.
    let retains = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("\"retains\": true");
    Ok(end.next().map(|(_, bytes)| (started, retains(bytes))))
}

/// The newest start of the job, if it has recorded its end, by the names of its records.
///
/// # Errors
/// If that cannot be told.
pub(crate) fn ended_by<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Option<u64>> {
    let records = owner_records(paths);
    let started = records.iter().filter(|(_, what)| what == "start").map(|(number, _)| *number).max();
    let Some(started) = started else { return Ok(None) };
    if records.iter().any(|(number, what)| what == "end" && *number > started) {
        return Err(Error::subtask("a generation has ended that has not started"));
    }
    Ok(records.iter().any(|(number, what)| what == "end" && *number == started).then_some(started))
}

/// What starts of the job have recorded, by their numbers.
fn owner_records<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<(u64, String)> {
    let record = |path: &Path| -> Option<(u64, String)> {
        let rest = path.file_name()?.to_str()?.strip_prefix("owner-")?;
        let (number, what) = rest.split_once('.').unwrap_or((rest, ""));
        Some((number.parse().ok()?, what.to_owned()))
    };
    paths.filter_map(record).collect()
}
