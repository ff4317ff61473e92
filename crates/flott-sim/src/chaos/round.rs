//! One job from its start to its end, with what is done to it.

use super::campaign::Chaos;
use super::counts::{Counts, Strike};
use super::disk::SmallDisk;
use super::point::Point;
use super::process::{Process, Said};
use super::victim::Victim;
use super::watch::{Seen, Watcher};
use crate::faults::cut::{JOB_ID, ended_by};
use crate::faults::world::{CHECKPOINTS, SAVEPOINTS};
use crate::faults::{Job, Shape, SinkKind};
use flott_checkpoint::open_snapshot;
use flott_env::sim::SimRng;
use flott_env::{Env, Instant};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A job that is left alone has ended after this time.
pub(crate) const HEAL_LIMIT: Duration = Duration::from_secs(90);
/// How long the harness listens before it looks at what readers have seen.
const LISTEN: Duration = Duration::from_millis(20);
/// Faults of one round.
const FAULTS_MIN: u64 = 6;
const FAULTS_MORE: u64 = 22;
/// Processes of one round: more than faults explain.
const STARTS_MAX: u64 = 2_000;

/// What the harness has asked of the job, that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Stop,
    Cancel,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    GoesOn,
    /// The job has ended.
    Ended,
}

pub(crate) type Done<T = Turn> = Result<T, String>;

/// A running job, and what is done to it.
pub(crate) struct Round<'a> {
    pub(crate) chaos: &'a Chaos,
    pub(crate) env: Env,
    pub(crate) rng: SimRng,
    pub(crate) job: Job,
    pub(crate) counts: Counts,
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) is_full: bool,
    pub(crate) asked: Option<Asked>,
    pub(crate) current: Option<Process>,
    /// The point at which the current process is halted when it comes there.
    pub(crate) armed: Option<Point>,
    dir: PathBuf,
    log: PathBuf,
    watcher: Option<Watcher>,
    parallelism: u32,
    on_disk: bool,
    recovery_path: Option<String>,
    /// The generation whose end is known.
    known_end: Option<u64>,
    /// The savepoint that the job says it stops with.
    stopped_with: Option<String>,
    /// What has happened.
    story: Vec<String>,
}

/// A random job; it takes some seconds when it is left alone.
fn random_job(rng: &mut SimRng) -> Job {
    let pick = |rng: &mut SimRng, from: &[u64]| {
        let idx = rng.below(from.len() as u64) as usize;
        from.get(idx).copied().expect("there is something to choose from")
    };
    let shape = match rng.below(6) {
        0 => Shape::Tumbling { size_ms: 100 },
        1 => Shape::Sliding { size_ms: 90, slide_ms: 40 },
        2 => Shape::Session { gap_ms: 11 },
        3 => Shape::Timers { delay_ms: 50 },
        4 => Shape::Records,
        _ => Shape::Counts,
    };
    let records = 100 + rng.below(900);
    let unaligned_ms = rng.one_in(3).then(|| pick(rng, &[0, 0, 20]));
    let concurrent = pick(rng, &[1, 1, 2]) as u32;
    Job {
        splits: 1 + rng.below(3) as u32,
        records,
        second: rng.one_in(2).then_some(records / 4),
        apart: false,
        chunk: pick(rng, &[1, 2, 3]),
        pause_ms: pick(rng, &[6, 12, 20]),
        keys: pick(rng, &[1, 7, 40]) as u32,
        pace_ms: pick(rng, &[2, 4]) as i64,
        disorder_ms: pick(rng, &[0, 20, 60]) as i64,
        shape,
        raw: !rng.one_in(4),
        sink: SinkKind::Files,
        parallelism: 1,
        max_parallelism: pick(rng, &[4, 7, 128]) as u32,
        chaining: !rng.one_in(4),
        // The order of records that a count depends on does not survive it.
        rebalance: shape != Shape::Counts && rng.one_in(3),
        batch_size: pick(rng, &[1, 16, 1_024]) as u32,
        gate_bytes: pick(rng, &[200, 1 << 20]),
        interval_ms: pick(rng, &[15, 30, 60]),
        timeout_ms: pick(rng, &[60_000, 60_000, 400]),
        min_pause_ms: 0,
        // Barriers that overtake are of one checkpoint at a time.
        concurrent: if unaligned_ms.is_some() { 1 } else { concurrent },
        retained: pick(rng, &[1, 2, 3]) as u32,
        tolerable: pick(rng, &[0, 5]) as u32,
        at_least_once: false,
        unaligned_ms,
        incremental: rng.one_in(2),
        slow_ms: None,
        snapshot_places: pick(rng, &[1, 3, 8_192]) as u32,
        claims: rng.one_in(2),
        section_bytes: pick(rng, &[16, 1 << 20]),
        // Each process decides for itself.
        disk_memory: None,
    }
}

/// What has become of a round.
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) failure: Option<String>,
}

/// Runs the round `number`, which has the directory `dir` and a file for what processes print beside it.
pub(crate) fn run(chaos: &Chaos, env: &Env, seed: u64, dir: &Path) -> Outcome {
    let mut rng = SimRng::new(seed);
    let job = random_job(&mut rng);
    let made =
        env.fs().create_dir_all(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()));
    let disk = if chaos.may_mount && !rng.one_in(3) { SmallDisk::mount(dir) } else { None };
    let log = dir.with_extension("log");
    let watcher = Some(Watcher::start(env, &dir.display().to_string(), &job));
    let mut round = Round {
        chaos,
        env: env.clone(),
        rng,
        job,
        counts: Counts::default(),
        disk,
        is_full: false,
        asked: None,
        current: None,
        armed: None,
        dir: dir.to_owned(),
        log,
        watcher,
        parallelism: 1,
        on_disk: false,
        recovery_path: None,
        known_end: None,
        stopped_with: None,
        story: Vec::new(),
    };
    let ended = made.and_then(|()| round.torment());
    round.current = None;
    let seen = round.watcher.take().map(|watcher| watcher.finish(ended.is_ok())).unwrap_or_default();
    let failure = ended.err().or_else(|| (!seen.wrong.is_empty()).then(|| "the output is wrong".to_owned()));
    let failure = failure.map(|what| {
        keep(dir);
        round.report(seed, &what, &seen)
    });
    round.counts.n_rounds = 1;
    round.counts.add_seen(&seen);
    Outcome { counts: round.counts, failure }
}

/// Copies the files of a round that has failed to where they stay: a small disk goes with the process.
fn keep(dir: &Path) {
    let copied = Command::new("cp").arg("-a").arg(dir).arg(dir.with_extension("failed")).status();
    drop(copied);
}

impl Round<'_> {
    fn report(&self, seed: u64, what: &str, seen: &Seen) -> String {
        let job = serde_json::to_string(&self.job).unwrap_or_default();
        format!(
            "{what}\n  {}\n  seed {seed}, job {job}\n  {}\n  what processes have printed: {}\n  unreadable: {:?}",
            seen.wrong.join("\n  "),
            self.story.join("\n  "),
            self.log.display(),
            seen.unreadable
        )
    }

    pub(crate) fn tell(&mut self, what: impl Into<String>) {
        let at = (self.env.now().0.as_millis()) % 10_000_000;
        self.story.push(format!("{at:>8} {}", what.into()));
    }

    /// Until the job has ended.
    fn torment(&mut self) -> Done<()> {
        self.start()?;
        let budget = FAULTS_MIN + self.rng.below(FAULTS_MORE);
        while self.counts.n_faults() < budget && self.chaos.wants_more(&self.counts) {
            if self.strike()? == Turn::Ended {
                return Ok(());
            }
        }
        self.heal()
    }

    /// Nothing goes wrong any more: the job must end.
    fn heal(&mut self) -> Done<()> {
        self.refill(false)?;
        self.tell("heals");
        self.go();
        let until = self.env.now() + HEAL_LIMIT;
        while self.env.now() < until {
            if self.pass(LISTEN)? == Turn::Ended {
                return Ok(());
            }
        }
        Err(format!("no end {HEAL_LIMIT:?} after the last fault"))
    }

    /// Fills the disk, or gives the room back.
    pub(crate) fn refill(&mut self, is_full: bool) -> Done<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        if is_full {
            disk.fill().map_err(|error| format!("cannot fill the disk: {error}"))?;
        } else {
            disk.empty();
        }
        self.is_full = is_full;
        Ok(())
    }

    /// Starts a process, perhaps with a point at which it is halted.
    pub(crate) fn start(&mut self) -> Done<()> {
        self.armed = if self.rng.one_in(2) { None } else { Some(Point::any(&mut self.rng)) };
        if self.rng.one_in(2) {
            self.parallelism = 1 + self.rng.below(4) as u32;
        }
        self.on_disk = self.rng.one_in(2);
        self.start_as_it_is()
    }

    fn start_as_it_is(&mut self) -> Done<()> {
        self.counts.n_starts += 1;
        if self.counts.n_starts > STARTS_MAX {
            return Err(format!("no end after {STARTS_MAX} processes"));
        }
        let victim = Victim {
            dir: self.dir.display().to_string(),
            job: self.job.clone(),
            parallelism: self.parallelism,
            on_disk: self.on_disk,
            recovery_path: self.recovery_path.clone(),
            halt: self.armed.map(|point| point.to_string()),
        };
        let Victim { parallelism, on_disk, recovery_path, halt, .. } = &victim;
        self.tell(format!(
            "start at {parallelism}, on disk {on_disk}, from {recovery_path:?}, halts at {halt:?}"
        ));
        let owner_before = self.newest_owner();
        let mut process = Process::start(&self.env, &self.chaos.binary, &victim, &self.log)?;
        process.has_suffered = self.is_full;
        process.owner_before = owner_before;
        self.current = Some(process);
        Ok(())
    }

    /// Lets the job run for a while, and deals with what it says; also with its end.
    pub(crate) fn pass(&mut self, time: Duration) -> Done {
        let until = self.env.now() + time;
        loop {
            match self.hear(until)? {
                None => return Ok(Turn::GoesOn),
                // Nobody waits for it there any more.
                Some(Said::At) => self.go(),
                Some(said) if said.is_end() => {
                    if self.on_end(said)? == Turn::Ended {
                        return Ok(Turn::Ended);
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// What the current process says next; `None` if it says nothing until then.
    pub(crate) fn hear(&mut self, until: Instant) -> Done<Option<Said>> {
        loop {
            self.check_output()?;
            let left = (until - self.env.now()).min(LISTEN);
            let Some(current) = &mut self.current else { return Err("nobody runs".to_owned()) };
            let Some(said) = current.hear(left) else {
                if self.env.now() >= until {
                    return Ok(None);
                }
                continue;
            };
            match &said {
                Said::Checkpoint => self.counts.n_checkpoints += 1,
                Said::Savepoint(path) => {
                    let path = path.clone();
                    self.verify(&path)?;
                }
                Said::Stopped(path) => self.stopped_with = Some(path.clone()),
                Said::Refused(what) => {
                    // Not of a savepoint that stops nothing.
                    if what.starts_with("stop") {
                        self.asked = None;
                    }
                    let what = format!("refused: {what}");
                    self.tell(what);
                }
                Said::Started
                | Said::At
                | Said::Finished
                | Said::Canceled
                | Said::Failed(..)
                | Said::Gone => {}
            }
            return Ok(Some(said));
        }
    }

    pub(crate) fn check_output(&self) -> Done<()> {
        match &self.watcher {
            Some(watcher) if !watcher.seen().wrong.is_empty() => {
                Err("a reader has seen something".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// A savepoint that was taken can be read.
    fn verify(&mut self, path: &str) -> Done<()> {
        self.tell(format!("savepoint {path}"));
        let read = crate::faults::cut::cut_at(&self.env, path, &self.job);
        read.map(|_| ()).map_err(|error| format!("savepoint {path}: {}", error.report()))
    }

    /// The process has ended by itself.
    pub(crate) fn on_end(&mut self, said: Said) -> Done {
        let has_suffered = self.current.as_ref().is_some_and(|current| current.has_suffered);
        self.tell(format!("{said:?}"));
        self.current = None;
        match said {
            Said::Finished | Said::Canceled => self.after_end(),
            Said::Failed(_, report) => {
                if let Some((_, parallelism)) = report.split_once("it can only be restored at parallelism ") {
                    let digits = parallelism.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                    self.parallelism = digits.parse().map_err(|_| format!("no parallelism: {report}"))?;
                    self.counts.n_refused += 1;
                    self.armed = None;
                    return self.start_as_it_is().map(|()| Turn::GoesOn);
                }
                if has_suffered {
                    self.counts.n_failed_full += 1;
                    return self.after_death();
                }
                Err(format!("a job that nobody had taken over has failed: {report}"))
            }
            Said::Gone if has_suffered => self.after_death(),
            _ => Err("a process has died that nobody had killed".to_owned()),
        }
    }

    /// The process is gone. A job that has ended begins anew when it is started again: whoever starts it looks first.
    pub(crate) fn after_death(&mut self) -> Done {
        self.current = None;
        if self.has_ended()? {
            self.counts.n_unheard += 1;
            return self.after_end();
        }
        self.asked = None;
        self.stopped_with = None;
        self.start().map(|()| Turn::GoesOn)
    }

    /// Whether the job has recorded an end that is not known yet.
    pub(crate) fn has_ended(&self) -> Done<bool> {
        let ended = self.ended()?;
        Ok(ended > self.known_end)
    }

    fn ended(&self) -> Done<Option<u64>> {
        let records = self.records();
        ended_by(records.iter().map(PathBuf::as_path)).map_err(|error| error.report())
    }

    fn records(&self) -> Vec<PathBuf> {
        let dir = format!("{}{CHECKPOINTS}/{JOB_ID}", self.dir.display());
        self.env.fs().list(Path::new(&dir)).unwrap_or_default()
    }

    /// The newest generation of the job.
    pub(crate) fn newest_owner(&self) -> u64 {
        self.newest("")
    }

    /// The newest generation that has recorded what it goes on from.
    pub(crate) fn newest_start(&self) -> u64 {
        self.newest(".start")
    }

    fn newest(&self, suffix: &str) -> u64 {
        let number = |path: PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("owner-")?.strip_suffix(suffix)?.parse().ok()
        };
        self.records().into_iter().filter_map(number).max().unwrap_or(0)
    }

    /// The job has ended: by itself, or as it was asked.
    fn after_end(&mut self) -> Done {
        let ended = self.ended()?;
        let from = match self.asked.take() {
            None => None,
            Some(Asked::Stop) => self.stopped_with.take().or_else(|| self.savepoint_of(ended)).map(Some),
            // Without a checkpoint it goes on from what it was started from, as the same command does.
            Some(Asked::Cancel) if self.is_canceled(ended)? => {
                Some(self.newest_checkpoint().or_else(|| self.recovery_path.clone()))
            }
            Some(Asked::Cancel) => None,
        };
        self.stopped_with = None;
        let Some(from) = from else { return Ok(Turn::Ended) };
        self.known_end = ended;
        self.recovery_path = from;
        self.start().map(|()| Turn::GoesOn)
    }

    /// Whether a generation has ended because it was cancelled: then its checkpoints are the user's.
    fn is_canceled(&self, generation: Option<u64>) -> Done<bool> {
        let name = format!("owner-{}.end", generation.unwrap_or_default());
        let path =
            self.records().into_iter().find(|path| path.file_name().is_some_and(|it| it == name.as_str()));
        let path = path.ok_or("a job that was cancelled has no record of its end")?;
        let mut bytes = Vec::new();
        let read = self.env.fs().open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| format!("cannot read '{}': {error}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).contains("\"retains\": true"))
    }

    /// The savepoint that a generation has stopped with, if nobody was told.
    fn savepoint_of(&self, generation: Option<u64>) -> Option<String> {
        let dir = self.dir.display().to_string() + SAVEPOINTS;
        let listed = self.env.fs().list(Path::new(&dir)).unwrap_or_default();
        let of_generation = |path: &PathBuf| {
            open_snapshot(&self.env, path).is_ok_and(|snapshot| {
                let manifest = snapshot.manifest();
                Some(manifest.generation.0) == generation && manifest.kind.stops_job()
            })
        };
        listed.into_iter().find(of_generation).map(|path| path.display().to_string())
    }

    fn newest_checkpoint(&self) -> Option<String> {
        let number = |path: &PathBuf| -> Option<u64> {
            self.env.fs().metadata(&path.join("_metadata")).ok()?;
            path.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()
        };
        let numbered = self.records().into_iter().filter_map(|path| Some((number(&path)?, path)));
        numbered.max().map(|(_, path)| path.display().to_string())
    }

    pub(crate) fn count(&mut self, strike: Strike) {
        self.tell(format!("{strike:?}"));
        self.counts.strike(strike);
    }
}
