//! What happens to a source in one case.

use super::engine::{Engine, Snapshot};
use super::plan::{Script, SourceCase};
use super::progress::Progress;
use super::wakeup::Wakeup;
use super::{SourceEvent, SourceStart, SourceSubject};
use crate::contract::case::CaseLog;
use crate::contract::record::{RecordId, list};
use flott_api::{Boundedness, Source};
use flott_types::{Result as FlottResult, SplitId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Records before the source is made, and those that come later.
const PUT_FIRST: u64 = 9;
const PUT_LATER: u64 = 5;
/// Turns without anything to read, after which nothing comes any more.
const PATIENCE: u32 = 200;
/// Turns after which what is on its way from a real server has come.
const SILENT: u32 = 20;
/// Turns after which what was not acknowledged is told again by another checkpoint, if that may be.
const LATE: u32 = 10;
/// Turns after which nothing comes that nobody expects.
const QUIET: u32 = 3;
/// Calls without an end, whatever they bring.
const CALLS_MAX: u32 = 200_000;
/// An enumerator that wants more checkpoints than this before it begins never begins.
const FIRST_CHECKPOINTS_MAX: u32 = 5;

/// Until when something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// All that is expected has come, and nothing else.
    Expected,
    /// Nothing comes any more.
    Quiet,
}

pub(super) struct Run<'a, S: SourceSubject> {
    subject: &'a mut S,
    source: S::Source,
    case: &'a SourceCase,
    log: &'a mut CaseLog,
    wakeup: Arc<Wakeup>,
    expected: BTreeSet<RecordId>,
    progress: Progress,
    /// The newest complete checkpoint.
    completed: Option<Snapshot>,
    polls: u64,
    /// Splits that must not give records.
    silenced: BTreeMap<SplitId, &'static str>,
    was_disturbed: bool,
    /// Not all of what is there is read.
    is_partial: bool,
}

impl<'a, S: SourceSubject> Run<'a, S> {
    pub(super) fn new(
        subject: &'a mut S,
        case: &'a SourceCase,
        log: &'a mut CaseLog,
    ) -> Result<Self, String> {
        let put = subject.put(PUT_FIRST).map_err(|error| format!("cannot put records: {error}"))?;
        log.note(format!("outside are {}", list(put.iter().copied())));
        let is_old = subject.start() == SourceStart::NewOnly;
        if case.script == Script::GapAtEnd {
            log.note("and positions without records behind them");
            subject.happen(SourceEvent::GapAtEnd).map_err(|error| format!("cannot make a gap: {error}"))?;
        }
        let source = subject.source().map_err(|error| format!("cannot make the source: {error}"))?;
        let expected = if is_old { BTreeSet::new() } else { put.into_iter().collect() };
        Ok(Self {
            subject,
            source,
            case,
            log,
            wakeup: Arc::default(),
            expected,
            progress: Progress::default(),
            completed: None,
            polls: 0,
            silenced: BTreeMap::new(),
            was_disturbed: false,
            is_partial: false,
        })
    }

    fn is_bounded(&self) -> bool {
        self.source.boundedness() == Boundedness::Bounded
    }

    /// Puts more records outside, if the source reads on.
    fn put_more(&mut self) -> Result<(), String> {
        if self.is_bounded() {
            return Ok(());
        }
        let put = self.subject.put(PUT_LATER).map_err(|error| format!("cannot put records: {error}"))?;
        self.log.note(format!("put {}", list(put.iter().copied())));
        self.expected.extend(put);
        Ok(())
    }

    fn happen(&mut self, event: SourceEvent) -> Result<(), String> {
        self.log.note(format!("{event:?}"));
        self.subject.happen(event).map_err(|error| format!("cannot make {event:?}: {error}"))
    }

    /// An error of the source, if something was wrong that explains it.
    fn tolerate<T>(&mut self, what: &str, result: FlottResult<T>) -> Result<Option<T>, String> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(error) => {
                let text = format!("{what}: {}", error.report());
                self.log.note(format!("- {text}"));
                if self.was_disturbed {
                    Ok(None)
                } else {
                    Err(format!("an error though nothing was wrong: {text}"))
                }
            }
        }
    }

    /// Runs the case, and says how often readers were polled.
    pub(super) fn run(mut self) -> Result<u64, String> {
        let case = self.case;
        match case.script {
            Script::DeathBeforeFirstCheckpoint => self.die_before_first_checkpoint()?,
            Script::DeathBehindFirstCheckpoint => self.die_behind_first_checkpoint()?,
            _ => {
                let mut engine = self.start(case.parallelism, None)?;
                if self.subject.start() == SourceStart::NewOnly {
                    self.put_more()?;
                }
                self.poll_times(&mut engine, case.after)?;
                let engine = self.perform(engine)?;
                self.finish(engine)?;
            }
        }
        Ok(self.polls)
    }

    fn start(&mut self, parallelism: u32, from: Option<&Snapshot>) -> Result<Engine<S::Source>, String> {
        let started = self.try_start(parallelism, from)?;
        started.ok_or_else(|| "the source does not start".to_owned())
    }

    /// Starts enumerator and readers; `None` if that fails and may. Readers read nothing before a checkpoint if the enumerator wants one.
    fn try_start(
        &mut self,
        parallelism: u32,
        from: Option<&Snapshot>,
    ) -> Result<Option<Engine<S::Source>>, String> {
        let Some(mut engine) = self.try_create(parallelism, from)? else { return Ok(None) };
        for _ in 0..FIRST_CHECKPOINTS_MAX {
            if !engine.awaits_checkpoint() {
                return Ok(Some(engine));
            }
            self.log.note("the enumerator waits for a checkpoint");
            if from.is_none() && engine.has_assigned() {
                return Err(
                    "the enumerator awaits a checkpoint, and has assigned splits all the same".to_owned()
                );
            }
            if self.checkpoint(&mut engine)?.is_none() {
                return Ok(None);
            }
        }
        Err("the enumerator awaits one checkpoint after the other".to_owned())
    }

    fn try_create(
        &mut self,
        parallelism: u32,
        from: Option<&Snapshot>,
    ) -> Result<Option<Engine<S::Source>>, String> {
        let text = match from {
            Some(from) => format!("a snapshot behind {} records", from.progress.len()),
            None => "nothing".to_owned(),
        };
        self.log.note(format!("start {parallelism} readers from {text}"));
        self.progress = from.map(|from| from.progress.clone()).unwrap_or_default();
        let engine = Engine::start(&self.source, &self.subject.env(), parallelism, from, &self.wakeup);
        let engine = self.tolerate("the start", engine)?;
        self.check_acknowledged()?;
        Ok(engine)
    }

    fn snapshot(&mut self, engine: &mut Engine<S::Source>) -> Result<Option<Snapshot>, String> {
        self.log.note(format!("snapshot behind {} records", self.progress.len()));
        let snapshot = engine.snapshot(&self.progress);
        let snapshot = self.tolerate("the snapshot", snapshot)?;
        self.check_acknowledged()?;
        Ok(snapshot)
    }

    /// A checkpoint that completes.
    fn checkpoint(&mut self, engine: &mut Engine<S::Source>) -> Result<Option<Snapshot>, String> {
        let Some(snapshot) = self.snapshot(engine)? else { return Ok(None) };
        self.log.note("it is complete");
        // Complete is complete, whether the readers hear of it or not.
        self.completed = Some(snapshot.clone());
        let told = engine.complete(&snapshot);
        let told = self.tolerate("checkpoint_complete", told)?;
        self.check_acknowledged()?;
        Ok(told.map(|()| snapshot))
    }

    /// The outside was told of nothing that a restart would read again.
    fn check_acknowledged(&mut self) -> Result<(), String> {
        let acknowledged = self.subject.acknowledged();
        let acknowledged =
            acknowledged.map_err(|error| format!("cannot read what is acknowledged: {error}"))?;
        let Some(acknowledged) = acknowledged else { return Ok(()) };
        let durable = self.completed.as_ref().map(|completed| completed.progress.ends()).unwrap_or_default();
        // What a source that begins with new records has skipped nobody reads again.
        let first = self.expected.iter().fold(BTreeMap::new(), |mut first: BTreeMap<u32, u64>, record| {
            first.entry(record.partition).or_insert(record.number);
            first
        });
        for (partition, end) in acknowledged {
            let first = first.get(&partition).copied();
            let most = durable.get(&partition).copied().or(first).unwrap_or(end);
            if end > most {
                return Err(format!(
                    "the outside is told that partition {partition} is not needed before {end}; the last complete checkpoint covers it before \
                     {most}"
                ));
            }
        }
        Ok(())
    }

    /// Polls one reader; `false` if it has nothing. `None` if it fails and may.
    fn poll(&mut self, engine: &mut Engine<S::Source>, idx: usize) -> Result<Option<bool>, String> {
        self.polls += 1;
        let polled = engine.poll(idx, self.case.batch);
        let Some(polled) = self.tolerate(&format!("reader {idx}"), polled)? else { return Ok(None) };
        let Some(records) = polled else { return Ok(Some(false)) };
        let ids: Vec<(SplitId, RecordId)> =
            records.into_iter().map(|(split, record)| (split, self.subject.identify(&record))).collect();
        if !ids.is_empty() {
            self.log.note(format!("reader {idx} reads {}", list(ids.iter().map(|(_, id)| *id))));
        }
        for (split, id) in ids {
            if let Some(why) = self.silenced.get(&split) {
                return Err(format!("record {id} is read of split {split}, which is {why}"));
            }
            self.progress.add(idx, id, self.subject.is_ordered())?;
        }
        self.check_acknowledged()?;
        Ok(Some(true))
    }

    /// Polls the readers in turn, so many times. Those that have nothing count.
    fn poll_times(&mut self, engine: &mut Engine<S::Source>, n: u64) -> Result<bool, String> {
        for call in 0..n {
            let n_readers = engine.readers.len();
            match self.poll(engine, call as usize % n_readers)? {
                None => return Ok(false),
                Some(true) => {}
                Some(false) => self.subject.wait(&self.wakeup),
            }
        }
        Ok(true)
    }

    /// Reads on; `false` if that fails and may.
    fn read(&mut self, engine: &mut Engine<S::Source>, until: Until) -> Result<bool, String> {
        let mut n_idle = 0;
        for _ in 0..CALLS_MAX {
            let mut has_read = false;
            self.wakeup.take();
            for idx in 0..engine.readers.len() {
                match self.poll(engine, idx)? {
                    None => return Ok(false),
                    Some(read) => has_read |= read,
                }
            }
            if has_read {
                n_idle = 0;
                continue;
            }
            if engine.has_ended() {
                return Ok(true);
            }
            let has_all = self.expected.iter().all(|record| self.progress.has(record));
            let is_quiet = match until {
                Until::Expected => n_idle >= QUIET && has_all && !self.is_bounded(),
                Until::Quiet => n_idle >= SILENT,
            };
            if is_quiet || n_idle >= PATIENCE {
                return Ok(true);
            }
            if engine.discovers() {
                let discovered = engine.discover();
                if self.tolerate("discover", discovered)?.is_none() {
                    return Ok(false);
                }
            }
            self.subject.wait(&self.wakeup);
            n_idle += u32::from(!self.wakeup.take());
        }
        Err(format!("no end after {CALLS_MAX} rounds of calls"))
    }

    fn perform(&mut self, mut engine: Engine<S::Source>) -> Result<Engine<S::Source>, String> {
        let case = self.case;
        match case.script {
            Script::Undisturbed | Script::GapAtEnd => self.put_more()?,
            Script::Restart { lost } => return self.restart(engine, lost),
            Script::ChangeWhileDown | Script::IncompleteMetadata => return self.change_while_down(engine),
            Script::ReaderRestart { since } => self.restart_reader(&mut engine, since, false)?,
            Script::GiveBack { since } => self.restart_reader(&mut engine, since, true)?,
            Script::RestartWithUnassigned => return self.restart_with_unassigned(engine),
            Script::Pause => self.pause(&mut engine)?,
            Script::RestartWhilePaused => return self.restart_while_paused(engine),
            Script::EndSplit => self.end_split(&mut engine)?,
            Script::Discovery => {
                self.happen(SourceEvent::AddPartition)?;
                self.put_more()?;
            }
            Script::Disconnect => return self.disconnect(engine),
            Script::PowerFailure => return self.power_failure(engine),
            Script::DeathBeforeFirstCheckpoint | Script::DeathBehindFirstCheckpoint => {}
        }
        Ok(engine)
    }

    fn needed_snapshot(&mut self, engine: &mut Engine<S::Source>) -> Result<Snapshot, String> {
        self.snapshot(engine)?.ok_or_else(|| "there is no snapshot".to_owned())
    }

    fn needed_checkpoint(&mut self, engine: &mut Engine<S::Source>) -> Result<Snapshot, String> {
        self.checkpoint(engine)?.ok_or_else(|| "there is no checkpoint".to_owned())
    }

    /// From each position the rest is read, each record once; a checkpoint that was aborted, and one that was complete, in turn.
    fn restart(&mut self, mut engine: Engine<S::Source>, lost: u64) -> Result<Engine<S::Source>, String> {
        let snapshot = if self.case.after.is_multiple_of(2) {
            self.needed_checkpoint(&mut engine)?
        } else {
            self.needed_snapshot(&mut engine)?
        };
        self.poll_times(&mut engine, lost)?;
        self.log.note("-- the job dies");
        drop(engine);
        // It is complete even if nobody was told.
        self.completed = Some(snapshot.clone());
        let mut engine = self.start(self.case.parallelism_then, Some(&snapshot))?;
        let again = self.needed_snapshot(&mut engine)?;
        self.log.note("-- the job dies before it has read anything");
        drop(engine);
        self.put_more()?;
        self.start(self.case.parallelism, Some(&again))
    }

    fn change_while_down(&mut self, mut engine: Engine<S::Source>) -> Result<Engine<S::Source>, String> {
        let events = self.subject.events();
        let snapshot = self.needed_checkpoint(&mut engine)?;
        self.log.note("-- the job dies");
        drop(engine);
        let is_known = self.case.script == Script::IncompleteMetadata;
        if !is_known && events.contains(&SourceEvent::AddPartition) {
            self.happen(SourceEvent::AddPartition)?;
        }
        self.put_more()?;
        if self.case.script == Script::ChangeWhileDown {
            return self.start(self.case.parallelism_then, Some(&snapshot));
        }
        self.happen(SourceEvent::HideMetadata)?;
        self.was_disturbed = true;
        let engine = self.try_start(self.case.parallelism_then, Some(&snapshot))?;
        let mut last = snapshot;
        let engine = match engine {
            Some(mut engine) => self.read(&mut engine, Until::Quiet)?.then_some(engine),
            None => None,
        };
        let engine = match engine {
            Some(mut engine) => {
                if let Some(snapshot) = self.checkpoint(&mut engine)? {
                    last = snapshot;
                }
                Some(engine)
            }
            None => None,
        };
        self.happen(SourceEvent::ShowMetadata)?;
        self.was_disturbed = false;
        match engine {
            Some(mut engine) if self.case.after.is_multiple_of(2) => {
                // It goes on, unless that is too much for it.
                self.was_disturbed = true;
                let goes_on = self.read(&mut engine, Until::Expected)?;
                self.was_disturbed = false;
                if goes_on { Ok(engine) } else { self.start(self.case.parallelism, Some(&last)) }
            }
            _ => {
                self.log.note("-- the job dies");
                self.start(self.case.parallelism, Some(&last))
            }
        }
    }

    fn restart_reader(
        &mut self,
        engine: &mut Engine<S::Source>,
        since: u64,
        gives_back: bool,
    ) -> Result<(), String> {
        let checkpoint =
            if since > 0 { Some(self.needed_checkpoint(engine)?) } else { self.completed.clone() };
        self.poll_times(engine, since)?;
        let idx = self.polls as usize % engine.readers.len();
        let earlier = checkpoint.as_ref().map(|checkpoint| checkpoint.progress.clone()).unwrap_or_default();
        self.progress = self.progress.without(idx, &earlier);
        self.log.note(format!(
            "-- reader {idx} dies, and goes back to where it was {} records before",
            earlier.len()
        ));
        let done = if gives_back {
            self.log.note("its splits go back to the enumerator");
            engine.give_back(&self.source, idx, checkpoint.as_ref())
        } else {
            engine.restart_reader(&self.source, idx, checkpoint.as_ref())
        };
        self.tolerate("the restart of a reader", done)?;
        self.put_more()
    }

    fn restart_with_unassigned(
        &mut self,
        mut engine: Engine<S::Source>,
    ) -> Result<Engine<S::Source>, String> {
        let snapshot = self.needed_checkpoint(&mut engine)?;
        self.log.note("-- reader 0 dies; its splits go back to the enumerator, of which a snapshot is taken");
        let snapshot = engine.snapshot_with_unassigned(0, snapshot);
        let snapshot = self.tolerate("the snapshot", snapshot)?.ok_or("there is no snapshot")?;
        self.log.note("-- the job dies");
        drop(engine);
        self.completed = Some(snapshot.clone());
        self.start(self.case.parallelism_then, Some(&snapshot))
    }

    /// Pauses the first `n` splits of each reader, and sees that nothing comes of them.
    fn pause_splits(&mut self, engine: &mut Engine<S::Source>, n: usize) -> Result<(), String> {
        for idx in 0..engine.readers.len() {
            if engine.readers.get(idx).is_none_or(|reader| reader.has_ended) {
                continue;
            }
            let ids = engine.split_ids(idx);
            let ids: BTreeSet<SplitId> =
                self.tolerate("the snapshot", ids)?.unwrap_or_default().into_iter().take(n).collect();
            let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
            self.log.note(format!("reader {idx}: pause {}", texts.join(" ")));
            engine.set_paused(idx, &ids);
            self.silenced.extend(ids.into_iter().map(|id| (id, "paused")));
        }
        self.poll_times(engine, 4 * engine.readers.len() as u64)?;
        Ok(())
    }

    fn pause(&mut self, engine: &mut Engine<S::Source>) -> Result<(), String> {
        self.pause_splits(engine, usize::MAX)?;
        self.needed_snapshot(engine)?;
        self.log.note("all go on");
        self.silenced.clear();
        (0..engine.readers.len()).for_each(|idx| engine.set_paused(idx, &BTreeSet::new()));
        self.put_more()
    }

    fn restart_while_paused(&mut self, mut engine: Engine<S::Source>) -> Result<Engine<S::Source>, String> {
        self.pause_splits(&mut engine, 1)?;
        let snapshot = self.needed_checkpoint(&mut engine)?;
        self.log.note("-- the job dies");
        drop(engine);
        self.silenced.clear();
        self.start(self.case.parallelism_then, Some(&snapshot))
    }

    /// What a split still has is not expected any more.
    fn end_split(&mut self, engine: &mut Engine<S::Source>) -> Result<(), String> {
        for idx in 0..engine.readers.len() {
            let ids = engine.split_ids(idx);
            let Some(id) = self.tolerate("the snapshot", ids)?.unwrap_or_default().into_iter().next() else {
                continue;
            };
            self.log.note(format!("reader {idx}: split {id} is ended"));
            let ended = engine.end_splits(idx, &BTreeSet::from([id.clone()]));
            self.tolerate("end_splits", ended)?;
            let left = engine.split_ids(idx);
            if self.tolerate("the snapshot", left)?.unwrap_or_default().contains(&id) {
                return Err(format!("split {id} was ended, and is in the snapshot all the same"));
            }
            self.silenced.insert(id, "ended");
            self.read(engine, Until::Quiet)?;
            self.expected = self.progress_as_expected();
            self.is_partial = true;
            break;
        }
        Ok(())
    }

    /// The records that were read.
    fn progress_as_expected(&self) -> BTreeSet<RecordId> {
        self.expected.iter().copied().filter(|record| self.progress.has(record)).collect()
    }

    fn disconnect(&mut self, mut engine: Engine<S::Source>) -> Result<Engine<S::Source>, String> {
        let snapshot = self.needed_checkpoint(&mut engine)?;
        self.poll_times(&mut engine, 2)?;
        self.happen(SourceEvent::Disconnect)?;
        self.put_more()?;
        self.was_disturbed = true;
        let goes_on = self.read(&mut engine, Until::Expected)?;
        self.was_disturbed = false;
        if goes_on {
            return Ok(engine);
        }
        self.log.note("-- the job fails");
        drop(engine);
        self.start(self.case.parallelism_then, Some(&snapshot))
    }

    /// Checkpoints are elsewhere, and stay. What was read since is lost with the job, and to be read again from what is durable.
    fn power_failure(&mut self, mut engine: Engine<S::Source>) -> Result<Engine<S::Source>, String> {
        let snapshot = self.needed_checkpoint(&mut engine)?;
        self.put_more()?;
        self.poll_times(&mut engine, 4)?;
        self.log.note("-- the job dies");
        drop(engine);
        self.happen(SourceEvent::PowerFailure)?;
        let engine = self.start(self.case.parallelism_then, Some(&snapshot))?;
        self.put_more()?;
        Ok(engine)
    }

    /// It begins anew: what it had decided is in no checkpoint.
    fn die_before_first_checkpoint(&mut self) -> Result<(), String> {
        let mut engine = self
            .try_create(self.case.parallelism, None)?
            .ok_or_else(|| "the source does not start".to_owned())?;
        if !engine.awaits_checkpoint() {
            self.poll_times(&mut engine, 3)?;
        }
        self.log.note("-- the job dies before a checkpoint is complete");
        drop(engine);
        self.put_more()?;
        if self.subject.start() == SourceStart::NewOnly {
            self.expected.clear();
        }
        let engine = self.start(self.case.parallelism_then, None)?;
        self.put_more()?;
        self.finish(engine)
    }

    /// Where it starts was decided: what has come since belongs to it, and what came before does not.
    fn die_behind_first_checkpoint(&mut self) -> Result<(), String> {
        let mut engine = self.start(self.case.parallelism, None)?;
        let snapshot = match self.completed.clone() {
            Some(snapshot) => snapshot,
            None => self.needed_checkpoint(&mut engine)?,
        };
        self.put_more()?;
        self.log.note("-- the job dies before it has read anything");
        drop(engine);
        self.put_more()?;
        let engine = self.start(self.case.parallelism_then, Some(&snapshot))?;
        self.finish(engine)
    }

    /// Reads the rest: everything has come once, a bounded source has ended, and the outside may forget what was read.
    fn finish(&mut self, mut engine: Engine<S::Source>) -> Result<(), String> {
        self.log.note("the rest is read");
        self.read(&mut engine, Until::Expected)?;
        self.progress.check(&self.expected)?;
        if self.is_bounded() && !engine.has_ended() {
            return Err("a bounded source does not end, though all of it was read".to_owned());
        }
        self.needed_checkpoint(&mut engine)?;
        // A split that has ended is in no checkpoint of which its reader could be told.
        if self.is_partial || self.is_bounded() { Ok(()) } else { self.check_all_acknowledged(&mut engine) }
    }

    fn check_all_acknowledged(&mut self, engine: &mut Engine<S::Source>) -> Result<(), String> {
        let ends = self.progress.ends();
        let mut missing = None;
        for turn in 1..=PATIENCE {
            let acknowledged = self.subject.acknowledged();
            let acknowledged =
                acknowledged.map_err(|error| format!("cannot read what is acknowledged: {error}"))?;
            let Some(acknowledged) = acknowledged else { return Ok(()) };
            let is_missing = |(partition, end): &(&u32, &u64)| acknowledged.get(partition) < Some(end);
            missing = ends.iter().find(is_missing).map(|(partition, _)| *partition);
            if missing.is_none() {
                return Ok(());
            }
            self.subject.wait(&self.wakeup);
            // It may need to be polled to say so.
            self.poll_times(engine, engine.readers.len() as u64)?;
            if self.subject.acknowledges_late() && turn.is_multiple_of(LATE) {
                self.needed_checkpoint(engine)?;
            }
        }
        missing.map_or(Ok(()), |partition| {
            Err(format!(
                "a complete checkpoint covers all of partition {partition}, and the outside is never told"
            ))
        })
    }
}
