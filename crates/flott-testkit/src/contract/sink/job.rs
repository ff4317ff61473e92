//! A job in small around one sink: it writes, takes checkpoints, dies where the case says, and goes on.

use super::attempt::{Attempt, Checkpoint, Part, Stage, Subtask, next_chunk, partitions_of};
use super::oracle::{Oracle, Strictness};
use super::plan::{Commits, Remains, Resume, SinkCase};
use super::zombie::Zombie;
use super::{SinkFault, SinkPromise, SinkSubject};
use crate::contract::case::CaseLog;
use crate::contract::record::list;
use flott_api::{
    BoxError, Committable, CommittableId, OnError, Sink, SinkContext, SinkGeneration, SinkWriter, UserResult,
};
use flott_env::sim::SimRng;
use flott_types::{CheckpointId, JobId, OperatorUid, RecordBatch, SubtaskIndex, Watermark};
use std::collections::BTreeSet;

/// The parallelism of one start after the other; one of them has subtasks without input.
const PARALLELISMS: [usize; 4] = [2, 3, 1, 4];
/// A job that does not end after so many starts never does.
const STARTS_MAX: u64 = 12;
/// How often a commit is tried before the attempt fails.
const COMMIT_TRIES: u32 = 3;
/// Which barrier is one of a checkpoint that is aborted, and a savepoint.
const SAVEPOINT_BARRIER: u64 = 2;

/// Why an attempt does not go on.
pub(super) enum Stop {
    /// The case wants it so.
    Died,
    /// The sink returned an error.
    Failed(String, BoxError),
    /// The contract is broken.
    Broken(String),
}

pub(super) type WriterOf<S> = <<S as SinkSubject>::Sink as Sink<<S as SinkSubject>::Record>>::Writer;
type AttemptOf<S> = Attempt<WriterOf<S>>;

pub(super) struct Job<'a, S: SinkSubject> {
    pub(super) subject: &'a mut S,
    sink: S::Sink,
    case: &'a SinkCase,
    pub(super) log: &'a mut CaseLog,
    pub(super) oracle: Oracle,
    completed: Option<Checkpoint>,
    savepoint: Option<Checkpoint>,
    pub(super) next_id: u64,
    runs: u64,
    steps: u64,
    n_barriers: u64,
    n_last_aborted: u64,
    n_deaths: u64,
    was_disturbed: bool,
    zombies: Vec<Zombie<WriterOf<S>>>,
    has_woken: bool,
    /// Not all subtasks have committed what is complete.
    is_committing: bool,
    committed: Vec<Committable>,
    rng: SimRng,
}

fn refused(what: &str, error: &BoxError) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl<'a, S: SinkSubject> Job<'a, S> {
    pub(super) fn new(subject: &'a mut S, case: &'a SinkCase, log: &'a mut CaseLog) -> Result<Self, String> {
        let sink = subject.sink().map_err(|error| refused("cannot make the sink", &error))?;
        let oracle = Oracle::new(subject.promise(), subject.limits().holds_back);
        Ok(Self {
            subject,
            sink,
            case,
            log,
            oracle,
            completed: None,
            savepoint: None,
            next_id: 1,
            runs: 0,
            steps: 0,
            n_barriers: 0,
            n_last_aborted: 0,
            n_deaths: 0,
            was_disturbed: false,
            zombies: Vec::new(),
            has_woken: false,
            is_committing: false,
            committed: Vec::new(),
            rng: SimRng::new(1),
        })
    }

    /// Runs to the end and says how many steps that took.
    pub(super) fn run(mut self) -> Result<u64, String> {
        if let Some((fault, nth)) = self.case.fault.filter(|(fault, _)| fault.is_of_request()) {
            self.log.note(format!("request {nth} from now on: {fault:?}"));
            self.inject(fault, nth)?;
        }
        for start in 0..STARTS_MAX {
            let parallelism = PARALLELISMS[start as usize % PARALLELISMS.len()];
            let mut attempt = Attempt::new(parallelism, self.runs + 1, self.completed.clone());
            match self.attempt(&mut attempt) {
                Ok(()) => return self.end(attempt).map(|()| self.steps),
                Err(Stop::Broken(message)) => return Err(message),
                Err(Stop::Died) => self.after_death(attempt)?,
                Err(Stop::Failed(what, error)) => {
                    let text = refused(&what, &error);
                    self.log.note(format!("- {text}"));
                    // A sink may refuse to run without checkpoints, before it has taken a record.
                    let is_refusal =
                        !self.case.has_checkpoints && attempt.subtasks.len() < attempt.parallelism;
                    if is_refusal || self.is_expected_loss(&attempt) {
                        return Ok(self.steps);
                    }
                    if !self.was_disturbed {
                        return Err(format!("an error though nothing was wrong: {text}"));
                    }
                    self.log.note("the attempt has failed");
                }
            }
        }
        Err(format!("the job does not end: it was started {STARTS_MAX} times"))
    }

    fn inject(&mut self, fault: SinkFault, nth: u64) -> Result<(), String> {
        self.was_disturbed = true;
        self.subject.inject(fault, nth).map_err(|error| refused("cannot make the fault", &error))
    }

    /// What had expired was not committed, and the sink says so.
    fn is_expected_loss(&self, attempt: &AttemptOf<S>) -> bool {
        let has_expired =
            self.case.fault.is_some_and(|(fault, _)| fault == SinkFault::Expire) && self.was_disturbed;
        has_expired && !attempt.is_started() && !self.oracle.demands_all(attempt.segments())
    }

    fn after_death(&mut self, attempt: AttemptOf<S>) -> Result<(), String> {
        self.log.note("-- the attempt dies");
        self.n_deaths += 1;
        if self.n_deaths == 1 {
            match self.case.remains {
                Remains::Dropped => drop(attempt),
                Remains::Silent => self.zombies.push(Zombie::new(attempt, None)),
                Remains::WakesAfter(nap) => {
                    self.zombies.push(Zombie::new(attempt, Some(self.steps + 1 + nap)))
                }
            }
        } else {
            drop(attempt);
        }
        if let Some((SinkFault::Expire, _)) = self.case.fault {
            self.log.note("much time passes");
            self.inject(SinkFault::Expire, 0)?;
        }
        if self.n_deaths == 1 {
            match self.case.resume {
                Resume::LastCheckpoint | Resume::OneSubtask => {}
                Resume::OlderSavepoint => {
                    if let Some(savepoint) = self.savepoint.clone() {
                        self.next_id = savepoint.id.0 + 1;
                        self.oracle.allow(savepoint.segments());
                        self.completed = Some(savepoint);
                    }
                }
                Resume::Nothing => (self.completed, self.next_id) = (None, 1),
            }
        }
        Ok(())
    }

    /// Between two steps: looks at what readers see, wakes who wakes, and dies.
    pub(super) fn step(&mut self, what: impl Into<String>) -> Result<(), Stop> {
        self.check()?;
        self.wake_zombies()?;
        let at = self.steps;
        self.steps += 1;
        if let Some((fault @ (SinkFault::Disconnect | SinkFault::Restart), due)) = self.case.fault
            && due == at
        {
            self.log.note(format!("{at:>4} {fault:?}"));
            self.inject(fault, 0).map_err(Stop::Broken)?;
        }
        if self.case.deaths.contains(&at) {
            return Err(Stop::Died);
        }
        self.log.note(format!("{at:>4} {}", what.into()));
        Ok(())
    }

    fn wake_zombies(&mut self) -> Result<(), Stop> {
        let steps = self.steps;
        let due = self.zombies.extract_if(.., |zombie| zombie.wakes_at.is_some_and(|at| at <= steps));
        for zombie in due.collect::<Vec<_>>() {
            self.has_woken = true;
            zombie.wake(self)?;
        }
        Ok(())
    }

    pub(super) fn check(&mut self) -> Result<(), Stop> {
        let limits = self.subject.limits();
        let holds_back = limits.holds_back
            || (limits.zombies_hold_back && self.has_woken)
            || (limits.waits_for_neighbours && self.is_committing);
        let strictness = if holds_back { Strictness::MayHoldBack } else { Strictness::Whole };
        self.check_as(strictness)
    }

    fn check_as(&mut self, strictness: Strictness) -> Result<(), Stop> {
        let last = || self.completed.as_ref().map(|checkpoint| checkpoint.id);
        let complete = if self.case.has_checkpoints { last() } else { Some(CheckpointId::END_OF_INPUT) };
        let seen = self.subject.committed(complete);
        let seen = seen.map_err(|error| Stop::Broken(refused("cannot read what is committed", &error)))?;
        self.oracle.check(&seen, strictness).map_err(|message| {
            self.log.note(format!("  a reader sees {}", list(seen)));
            Stop::Broken(message)
        })
    }

    fn context(&mut self, attempt: &AttemptOf<S>, s: usize, restored: Option<CheckpointId>) -> SinkContext {
        let subtask = SubtaskIndex(s as u32);
        let mut ctx = SinkContext::new(self.subject.env(), subtask, attempt.parallelism as u32, self.runs);
        (ctx.job_id, ctx.uid) = (JobId(7), OperatorUid("contract".to_owned()));
        ctx.execution_id = attempt.run;
        ctx.has_checkpoints = self.case.has_checkpoints;
        ctx.restored_checkpoint = restored;
        ctx.attempt = attempt.run.saturating_sub(1) as u32;
        ctx.generation = Some(SinkGeneration { history: 1, job: attempt.run, subtask: self.runs })
            .filter(|_| ctx.has_checkpoints);
        // Records need not be serializable here: that they are rejected is counted, and how often.
        ctx.with_on_error::<()>(if self.case.has_bad_records { OnError::Skip } else { OnError::Fail })
    }

    fn make_subtask(
        &mut self,
        attempt: &AttemptOf<S>,
        s: usize,
        from: Option<&Checkpoint>,
        rotation: usize,
    ) -> Result<Subtask<WriterOf<S>>, Stop> {
        let restored = from.map(|from| from.id);
        let share = from.map(|from| from.share(s, attempt.parallelism, rotation)).unwrap_or_default();
        let ctx = self.context(attempt, s, restored);
        let bad_records = ctx.bad_records.clone();
        let failed = |error: BoxError| Stop::Failed(format!("create_writer of subtask {s}"), error);
        let writer = self.sink.create_writer(ctx.clone()).map_err(|error| failed(error.into()))?;
        let committer = self.sink.create_committer(ctx);
        let committer = committer
            .map_err(|error| Stop::Failed(format!("create_committer of subtask {s}"), error.into()))?;
        if committer.is_none() && self.subject.promise() == SinkPromise::Transactional {
            return Err(Stop::Broken("a transactional sink has a committer; this one has none".to_owned()));
        }
        Ok(Subtask::new(writer, committer, share, restored, bad_records))
    }

    /// One attempt, until the end of the input or its own.
    fn attempt(&mut self, attempt: &mut AttemptOf<S>) -> Result<(), Stop> {
        self.start(attempt)?;
        if !self.case.has_checkpoints {
            return self.run_without_checkpoints(attempt);
        }
        loop {
            match self.round(attempt) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Stop::Died) if self.case.resume == Resume::OneSubtask && self.n_deaths == 0 => {
                    self.restart_subtask(attempt)?;
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    fn start(&mut self, attempt: &mut AttemptOf<S>) -> Result<(), Stop> {
        self.runs += 1;
        let from = attempt.from.clone();
        let text = from.as_ref().map_or("nothing".to_owned(), |from| format!("checkpoint {}", from.id));
        self.log.note(format!("start {} with {} subtasks from {text}", attempt.run, attempt.parallelism));
        self.is_committing = true;
        let lineage = attempt.segments();
        self.oracle.goes_back_to(&lineage);
        for s in 0..attempt.parallelism {
            self.step(format!("subtask {s}: create_writer, create_committer"))?;
            let subtask = self.make_subtask(attempt, s, from.as_ref(), self.runs as usize)?;
            attempt.subtasks.push(subtask);
        }
        self.oracle.allow(lineage.iter().copied());
        for s in 0..attempt.parallelism {
            self.restore(attempt, s)?;
            // Subtasks do not wait for each other.
            if attempt.run.is_multiple_of(2) && s + 1 < attempt.parallelism {
                self.write(attempt, s)?;
            }
        }
        self.oracle.has_gone_back_to(&lineage);
        self.oracle.demand(lineage);
        self.is_committing = false;
        self.check()
    }

    /// Restores the writer, then commits what its checkpoint holds.
    fn restore(&mut self, attempt: &mut AttemptOf<S>, s: usize) -> Result<(), Stop> {
        let restored = attempt.subtasks.get(s).and_then(|subtask| subtask.restored);
        let text = restored.map_or("None".to_owned(), |id| id.to_string());
        self.step(format!("subtask {s}: restore from {text}"))?;
        let Some(subtask) = attempt.subtasks.get_mut(s) else { return Ok(()) };
        let entries = std::mem::take(&mut subtask.entries);
        let done = subtask.writer.restore(entries, restored);
        done.map_err(|error| Stop::Failed(format!("restore of subtask {s}"), error))?;
        subtask.stage = Stage::Restored;
        self.step(format!("subtask {s}: commit what was restored"))?;
        self.commit_due(attempt, s)?;
        if let Some(subtask) = attempt.subtasks.get_mut(s) {
            subtask.stage = Stage::Started;
        }
        Ok(())
    }

    /// Writes the next chunk of each partition of a subtask.
    fn write(&mut self, attempt: &mut AttemptOf<S>, s: usize) -> Result<(), Stop> {
        for partition in partitions_of(s, attempt.parallelism) {
            let Some(position) = attempt.positions.get(partition as usize).copied() else { continue };
            let records = next_chunk(partition, position);
            if records.is_empty() {
                continue;
            }
            self.step(format!("subtask {s}: write {}", list(records.iter().copied())))?;
            let n = records.len() as u64;
            let mut batch: Vec<_> = records.iter().map(|record| self.subject.record(*record)).collect();
            let n_bad = self.put_bad_records(&mut batch);
            let segment = self.oracle.written(records);
            if !self.case.has_checkpoints {
                self.oracle.allow([segment]);
            }
            let Some(subtask) = attempt.subtasks.get_mut(s) else { continue };
            subtask.since_barrier.push(segment);
            subtask.n_bad += n_bad;
            attempt.positions[partition as usize] = position + n;
            attempt.lineage[partition as usize].push(segment);
            let done = subtask.writer.write(RecordBatch::untimed(batch));
            done.map_err(|error| Stop::Failed(format!("write of subtask {s}"), error))?;
            let done = subtask.writer.on_watermark(Watermark((position + n) as i64));
            done.map_err(|error| Stop::Failed(format!("on_watermark of subtask {s}"), error))?;
        }
        Ok(())
    }

    /// Puts records that the sink rejects before and between the others of a batch, if the case wants it so; says how many.
    fn put_bad_records(&self, batch: &mut Vec<S::Record>) -> u64 {
        let bad = || self.subject.bad_record().filter(|_| self.case.has_bad_records);
        let places = (0..batch.len() + 1).step_by(2).rev();
        places.filter_map(|at| bad().map(|bad| batch.insert(at, bad))).count() as u64
    }

    /// Writes a batch of nothing but records that the sink rejects.
    fn write_bad_records(&mut self, attempt: &mut AttemptOf<S>, s: usize) -> Result<(), Stop> {
        let mut batch = Vec::new();
        let n_bad = self.put_bad_records(&mut batch);
        let Some(subtask) = attempt.subtasks.get_mut(s) else { return Ok(()) };
        if n_bad == 0 || subtask.stage == Stage::Finished {
            return Ok(());
        }
        subtask.n_bad += n_bad;
        let done = subtask.writer.write(RecordBatch::untimed(batch));
        done.map_err(|error| Stop::Failed(format!("write of bad records by subtask {s}"), error))
    }

    /// What was rejected is what there was to reject.
    fn check_rejected(&self, subtask: &mut Subtask<WriterOf<S>>, s: usize) -> Result<(), Stop> {
        let (n_bad, rejected) = (std::mem::take(&mut subtask.n_bad), subtask.bad_records.take());
        if rejected.n_records == n_bad {
            return Ok(());
        }
        let n_rejected = rejected.n_records;
        Err(Stop::Broken(format!(
            "subtask {s} was given {n_bad} bad records before the barrier, and has rejected {n_rejected}"
        )))
    }

    fn flush(&mut self, attempt: &mut AttemptOf<S>, s: usize) -> Result<(), Stop> {
        self.step(format!("subtask {s}: flush"))?;
        let Some(subtask) = attempt.subtasks.get_mut(s) else { return Ok(()) };
        subtask.writer.flush().map_err(|error| Stop::Failed(format!("flush of subtask {s}"), error))
    }

    fn finish(&mut self, attempt: &mut AttemptOf<S>, s: usize) -> Result<(), Stop> {
        if attempt.subtasks.get(s).is_none_or(|subtask| subtask.stage == Stage::Finished) {
            return Ok(());
        }
        self.step(format!("subtask {s}: finish"))?;
        let Some(subtask) = attempt.subtasks.get_mut(s) else { return Ok(()) };
        subtask.stage = Stage::Finished;
        subtask.writer.finish().map_err(|error| Stop::Failed(format!("finish of subtask {s}"), error))
    }

    /// Writes what comes before the next barrier, takes a checkpoint, and commits it unless it is aborted. True behind the last.
    fn round(&mut self, attempt: &mut AttemptOf<S>) -> Result<bool, Stop> {
        // The input does not always pause before a barrier.
        let pauses = self.n_barriers % 2 == 1;
        for s in 0..attempt.parallelism {
            self.write_bad_records(attempt, s)?;
            self.write(attempt, s)?;
            if pauses && attempt.subtasks.get(s).is_some_and(|subtask| subtask.stage < Stage::Finished) {
                self.flush(attempt, s)?;
            }
        }
        let is_last = attempt.is_at_end();
        for s in 0..if is_last { attempt.parallelism } else { 0 } {
            self.finish(attempt, s)?;
        }
        let checkpoint = self.barrier(attempt)?;
        if is_last && self.n_last_aborted < self.case.n_last_aborted {
            self.n_last_aborted += 1;
            self.log.note(format!("     checkpoint {} is aborted", checkpoint.id));
            return Ok(false);
        }
        if self.n_barriers == SAVEPOINT_BARRIER {
            self.log.note(format!(
                "     checkpoint {} is a savepoint, of which sinks are not told",
                checkpoint.id
            ));
            self.savepoint = Some(checkpoint);
            return Ok(false);
        }
        let id = checkpoint.id;
        self.complete(attempt, checkpoint)?;
        for s in 0..attempt.parallelism {
            self.step(format!("subtask {s}: commit checkpoint {id}"))?;
            if let Some(subtask) = attempt.subtasks.get_mut(s) {
                subtask.authorized = subtask.authorized.max(Some(id));
            }
            self.commit_due(attempt, s)?;
            if self.case.commits == Commits::Again {
                self.commit_again(attempt, s)?;
            }
        }
        self.is_committing = false;
        self.check()?;
        Ok(is_last)
    }

    fn barrier(&mut self, attempt: &mut AttemptOf<S>) -> Result<Checkpoint, Stop> {
        let id = CheckpointId(self.next_id);
        self.next_id += 1;
        let mut parts = Vec::new();
        for s in 0..attempt.parallelism {
            self.step(format!("subtask {s}: prepare_commit and snapshot for checkpoint {id}"))?;
            parts.push(self.prepare(attempt, s, id)?);
        }
        self.n_barriers += 1;
        let (positions, lineage) = (attempt.positions.clone(), attempt.lineage.clone());
        Ok(Checkpoint { id, positions, lineage, parts })
    }

    fn prepare(&mut self, attempt: &mut AttemptOf<S>, s: usize, id: CheckpointId) -> Result<Part, Stop> {
        let Some(subtask) = attempt.subtasks.get_mut(s) else { return Ok(Part::default()) };
        let is_final = subtask.stage == Stage::Finished;
        let payloads = subtask.writer.prepare_commit(id, is_final);
        let payloads =
            payloads.map_err(|error| Stop::Failed(format!("prepare_commit of subtask {s}"), error))?;
        self.check_rejected(subtask, s)?;
        if subtask.committer.is_none() && !payloads.is_empty() {
            let message = "prepare_commit returned committables, but the sink has no committer";
            return Err(Stop::Broken(message.to_owned()));
        }
        for payload in payloads {
            let random = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
            let of = SubtaskIndex(s as u32);
            subtask.pending.push(Committable {
                id: CommittableId(random),
                checkpoint_id: id,
                subtask: of,
                payload,
            });
        }
        subtask.prepared.extend(subtask.since_barrier.drain(..).map(|segment| (id, segment)));
        let entries = subtask.writer.snapshot();
        let entries = entries.map_err(|error| Stop::Failed(format!("snapshot of subtask {s}"), error))?;
        Ok(Part { entries, committables: subtask.pending.clone() })
    }

    /// From now on a restart goes on from here.
    fn complete(&mut self, attempt: &AttemptOf<S>, checkpoint: Checkpoint) -> Result<(), Stop> {
        self.step(format!("checkpoint {} is complete", checkpoint.id))?;
        self.is_committing = true;
        let segments = checkpoint.segments();
        let commits = attempt.subtasks.iter().any(|subtask| subtask.committer.is_some());
        match (self.subject.promise(), commits) {
            (SinkPromise::Transactional, _) | (SinkPromise::Eager, true) => self.oracle.allow(segments),
            (SinkPromise::Eager, false) | (SinkPromise::InTheEnd | SinkPromise::AtLeastOnce, _) => {
                self.oracle.demand(segments);
            }
        }
        self.completed = Some(checkpoint);
        Ok(())
    }

    /// Commits what a subtask may commit; tries again as the engine does.
    fn commit_due(&mut self, attempt: &mut AttemptOf<S>, s: usize) -> Result<(), Stop> {
        let Some(subtask) = attempt.subtasks.get_mut(s) else { return Ok(()) };
        let due = subtask.pending.get(..subtask.n_due()).unwrap_or_default().to_vec();
        if let (Some(committer), false) = (&mut subtask.committer, due.is_empty()) {
            let mut tries = 1;
            while let Err(error) = committer.commit(&due) {
                if tries >= COMMIT_TRIES {
                    return Err(Stop::Failed(format!("commit of subtask {s}"), error));
                }
                tries += 1;
                self.log.note(format!("- {}; again", refused("commit", &error)));
            }
            self.committed.extend(due);
        }
        let segments = subtask.committed();
        self.oracle.demand(segments);
        Ok(())
    }

    /// Commits what was committed once more, and in other company by another subtask.
    fn commit_again(&mut self, attempt: &mut AttemptOf<S>, s: usize) -> Result<(), Stop> {
        let history = self.committed.clone();
        let last = history.iter().map(|committable| committable.checkpoint_id).max();
        let newest: Vec<_> = history.iter().filter(|it| Some(it.checkpoint_id) == last).cloned().collect();
        let n = attempt.parallelism;
        for (by, committables) in [(s, newest), ((s + 1) % n, history)] {
            let committer = attempt.subtasks.get_mut(by).and_then(|subtask| subtask.committer.as_mut());
            if let (Some(committer), false) = (committer, committables.is_empty()) {
                self.log.note(format!("     subtask {by}: commits {} again", committables.len()));
                let done = committer.commit(&committables);
                done.map_err(|error| Stop::Failed("commit of what is committed".to_owned(), error))?;
            }
        }
        self.check()
    }

    /// One subtask dies alone, and goes back to the last complete checkpoint; the others go on.
    fn restart_subtask(&mut self, attempt: &mut AttemptOf<S>) -> Result<(), Stop> {
        self.n_deaths += 1;
        let s = self.steps as usize % attempt.parallelism;
        let from = self.completed.clone();
        let text = from.as_ref().map_or("nothing".to_owned(), |from| format!("checkpoint {}", from.id));
        self.log.note(format!("-- subtask {s} dies alone, and goes back to {text}"));
        self.runs += 1;
        let is_of_start = attempt.from.as_ref().map(|from| from.id) == from.as_ref().map(|from| from.id);
        let rotation = if is_of_start { attempt.run as usize } else { 0 };
        let mut others: BTreeSet<_> = attempt.segments();
        for partition in partitions_of(s, attempt.parallelism) {
            let at = partition as usize;
            for segment in attempt.lineage.get(at).into_iter().flatten() {
                others.remove(segment);
            }
            attempt.positions[at] = from.as_ref().map_or(0, |from| from.positions[at]);
            attempt.lineage[at] = from.as_ref().map(|from| from.lineage[at].clone()).unwrap_or_default();
        }
        self.replace(attempt, s, from.as_ref(), rotation)?;
        let lineage = attempt.segments();
        self.oracle.goes_back_to(&lineage);
        self.restore(attempt, s)?;
        self.oracle.has_gone_back_to(&lineage);
        self.oracle.demand(lineage.difference(&others).copied());
        self.check()
    }

    fn replace(
        &mut self,
        attempt: &mut AttemptOf<S>,
        s: usize,
        from: Option<&Checkpoint>,
        rotation: usize,
    ) -> Result<(), Stop> {
        // The dead one is there until it is dropped, and not before its successor is made if it is a zombie.
        if self.case.remains == Remains::Dropped {
            drop(attempt.subtasks.remove(s));
            let subtask = self.make_subtask(attempt, s, from, rotation)?;
            attempt.subtasks.insert(s, subtask);
            return Ok(());
        }
        let subtask = self.make_subtask(attempt, s, from, rotation)?;
        attempt.subtasks.insert(s, subtask);
        let old = attempt.subtasks.remove(s + 1);
        let wakes_at = match self.case.remains {
            Remains::WakesAfter(nap) => Some(self.steps + nap),
            Remains::Dropped | Remains::Silent => None,
        };
        self.zombies.push(Zombie::of_subtask(attempt, s, old, wakes_at));
        Ok(())
    }

    fn run_without_checkpoints(&mut self, attempt: &mut AttemptOf<S>) -> Result<(), Stop> {
        while !attempt.is_at_end() {
            for s in 0..attempt.parallelism {
                self.write(attempt, s)?;
                self.flush(attempt, s)?;
            }
        }
        self.is_committing = true;
        for s in 0..attempt.parallelism {
            self.finish(attempt, s)?;
            self.step(format!("subtask {s}: prepare_commit at the end of input, commit"))?;
            self.prepare(attempt, s, CheckpointId::END_OF_INPUT)?;
            if let Some(subtask) = attempt.subtasks.get_mut(s) {
                subtask.authorized = Some(CheckpointId::END_OF_INPUT);
            }
            self.commit_due(attempt, s)?;
        }
        self.oracle.demand(attempt.segments());
        Ok(())
    }

    /// The job has ended: everything is seen, and nothing is left.
    fn end(&mut self, attempt: AttemptOf<S>) -> Result<(), String> {
        let to_text = |stop| match stop {
            Stop::Broken(message) => message,
            Stop::Died => "died".to_owned(),
            Stop::Failed(what, error) => refused(&what, &error),
        };
        self.log.note("the job has ended");
        let settled: UserResult = if self.has_woken { self.subject.settle() } else { Ok(()) };
        settled.map_err(|error| refused("the outside does not settle", &error))?;
        self.check_as(Strictness::Whole).map_err(to_text)?;
        drop(attempt);
        self.zombies.clear();
        self.log.note("what was kept is dropped");
        self.check_as(Strictness::Whole).map_err(to_text)?;
        let lingering =
            self.subject.lingering().map_err(|error| refused("cannot look for what lingers", &error))?;
        let may_linger = self.has_woken && self.subject.limits().zombies_leave_something;
        if lingering.is_empty() || may_linger {
            return Ok(());
        }
        Err(format!("the job has ended, and something is left outside: {}", lingering.join(", ")))
    }
}
