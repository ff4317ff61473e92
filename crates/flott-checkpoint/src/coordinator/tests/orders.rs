//! Any order of events, also of impossible ones: what the coordinator says stays true to its rules.

use super::*;
use proptest::prelude::*;

/// An event; numbers of checkpoints are relative to the newest that was triggered.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Acknowledge { back: u64, subtask: usize, at_end: bool },
    AcknowledgeAll { back: u64 },
    Decline { back: u64, subtask: usize },
    EndOfData(usize),
    Finish(usize),
    Written { back: u64 },
    Failed { back: u64, fenced: bool },
    Savepoint(CheckpointKind),
    TriggerNow,
    RegionFail(usize),
    RegionRestart,
    Restart,
    Stop,
}

fn event() -> impl Strategy<Value = Event> {
    use CheckpointKind::{Savepoint, SavepointSuspend, SavepointTerminate};
    let (back, who) = (|| 0..4_u64, || 0..3_usize);
    prop_oneof![
        6 => (0..300_u64).prop_map(Event::Pass),
        8 => (back(), who(), any::<bool>())
            .prop_map(|(back, subtask, at_end)| Event::Acknowledge { back, subtask, at_end }),
        6 => back().prop_map(|back| Event::AcknowledgeAll { back }),
        1 => (back(), who()).prop_map(|(back, subtask)| Event::Decline { back, subtask }),
        1 => who().prop_map(Event::EndOfData),
        1 => who().prop_map(Event::Finish),
        6 => back().prop_map(|back| Event::Written { back }),
        1 => (back(), prop::bool::weighted(0.1)).prop_map(|(back, fenced)| Event::Failed { back, fenced }),
        1 => prop_oneof![Just(Savepoint), Just(SavepointSuspend), Just(SavepointTerminate)]
            .prop_map(Event::Savepoint),
        1 => Just(Event::TriggerNow),
        1 => who().prop_map(Event::RegionFail),
        3 => Just(Event::RegionRestart),
        1 => Just(Event::Restart),
        1 => Just(Event::Stop),
    ]
}

/// What the rules are checked against, made from inputs and actions only.
#[derive(Default)]
struct Model {
    newest: u64,
    triggered: BTreeMap<CheckpointId, CheckpointKind>,
    /// What the data plane has said, for the present attempt.
    acknowledged: BTreeMap<CheckpointId, BTreeSet<SubtaskId>>,
    finished: BTreeSet<SubtaskId>,
    /// A region does not run.
    is_down: bool,
    asked: BTreeSet<CheckpointId>,
    writing: Option<CheckpointId>,
    written: BTreeSet<CheckpointId>,
    ended: BTreeSet<CheckpointId>,
    complete: BTreeSet<CheckpointId>,
    deleted: BTreeSet<CheckpointId>,
    requests: BTreeSet<SavepointRequest>,
    /// What each goes on from.
    bases: BTreeMap<CheckpointId, CheckpointId>,
    /// The first number since the last start.
    first: u64,
}

impl Model {
    /// Those that are or may become complete, and what they go on from.
    fn open_bases(&self) -> BTreeSet<CheckpointId> {
        let newest = self.complete.last();
        let is_open = |id: &CheckpointId| !self.ended.contains(id) && !self.complete.contains(id);
        let is_unresolved =
            |id: &CheckpointId| self.asked.contains(id) && self.ended.contains(id) && Some(id) > newest;
        let open =
            self.bases.iter().filter(|(id, _)| id.0 >= self.first && (is_open(id) || is_unresolved(id)));
        open.map(|(_, base)| *base).collect()
    }

    fn check(&mut self, config: &CheckpointConfig, action: &Action) {
        match action {
            Action::TriggerSources { barrier, subtasks } => {
                assert!(!self.is_down, "{} is triggered while a region is down", barrier.id);
                assert!(barrier.id.0 > self.newest, "number {} came again", barrier.id);
                assert!(!subtasks.is_empty());
                self.newest = barrier.id.0;
                self.triggered.insert(barrier.id, barrier.kind);
                if let Increment::Since(base) = barrier.increment {
                    assert!(config.incremental && !barrier.kind.is_savepoint());
                    let is_there = self.complete.contains(&base) && !self.deleted.contains(&base);
                    assert!(is_there && base.0 >= self.first, "{} goes on from {base}", barrier.id);
                    self.bases.insert(barrier.id, base);
                }
            }
            Action::WriteManifest(request) => {
                let id = request.barrier.id;
                assert!(self.asked.insert(id), "a second manifest for {id}");
                assert_eq!(self.writing.replace(id), None, "two manifests at a time");
                assert!(!self.ended.contains(&id), "a manifest for an aborted checkpoint");
                assert_eq!(request.parts.len(), 3);
                let answered = self.acknowledged.get(&id).cloned().unwrap_or_default();
                for (subtask, part) in &request.parts {
                    assert!(
                        answered.contains(subtask) || self.finished.contains(subtask),
                        "{subtask} is missing"
                    );
                    assert_eq!(part.file.is_some(), answered.contains(subtask));
                }
            }
            Action::NotifyComplete { id, .. } => {
                assert!(self.written.contains(id), "{id} is complete without a manifest");
                assert!(self.complete.last().is_none_or(|last| last < id), "{id} is complete out of order");
                assert!(self.complete.insert(*id) && !self.ended.contains(id));
                assert!(self.triggered[id].commits());
            }
            Action::NotifyAborted { id, .. } => {
                assert!(self.ended.insert(*id), "{id} ended twice");
                assert!(!self.complete.contains(id), "{id} is complete and aborted");
            }
            Action::Discard { id, .. } => {
                assert!(!self.complete.contains(id) && self.deleted.insert(*id), "{id} is needed");
            }
            Action::Subsume { replaced, kept } => {
                for id in replaced {
                    assert!(self.complete.last().is_some_and(|last| id < last), "{id} is the newest");
                    self.deleted.insert(*id);
                }
                let bases = self.open_bases();
                assert!(bases.is_disjoint(&self.deleted), "{replaced:?} go, {bases:?} are needed");
                let left: Vec<_> = self.complete.difference(&self.deleted).copied().collect();
                assert_eq!(left, *kept);
                let n_free = kept.iter().rev().skip(config.num_retained as usize);
                assert!(n_free.copied().all(|id| bases.contains(&id)) && !kept.is_empty());
            }
            Action::DeleteFiles(files) => {
                for id in self.complete.difference(&self.deleted) {
                    for subtask in all_subtasks() {
                        assert!(!files.contains(&part(id.0, subtask)), "a file of complete {id}");
                    }
                }
            }
            Action::FailJob(_) => {}
            Action::SavepointDone { request, result } => {
                assert!(self.requests.remove(request), "a second answer to {request:?}");
                if let Ok(id) = result {
                    assert!(self.written.contains(id) && self.triggered[id].is_savepoint());
                }
            }
        }
    }
}

fn run(config: CheckpointConfig, events: Vec<Event>) {
    let mut coordinator = CheckpointCoordinator::new(config.clone(), plan(), start(1, &[]), at(0));
    let (mut model, mut ms, mut n_requests) = (Model::default(), 0, 0);
    for event in events {
        let id = |back: u64| CheckpointId(model.newest.saturating_sub(back));
        let mut inputs = Vec::new();
        match event {
            Event::Pass(by) => {
                ms += by;
                inputs.push(Input::Tick);
            }
            Event::Acknowledge { back, subtask, at_end } => {
                let who = all_subtasks()[subtask];
                let ack = if at_end { acknowledged_at_end } else { acknowledged };
                inputs.push(ack(id(back).0, who));
            }
            Event::AcknowledgeAll { back } => {
                inputs.extend(all_subtasks().map(|who| acknowledged(id(back).0, who)));
            }
            Event::Decline { back, subtask } => inputs.push(Input::Declined {
                checkpoint: id(back),
                subtask: all_subtasks()[subtask],
                reason: Error::subtask("no"),
            }),
            Event::EndOfData(who) => inputs.push(Input::EndOfData(all_subtasks()[who])),
            Event::Finish(who) => {
                model.finished.insert(all_subtasks()[who]);
                inputs.push(Input::SubtaskFinished(all_subtasks()[who]));
            }
            Event::Written { back } => {
                // Now and then one that nobody has asked for.
                if model.writing == Some(id(back)) {
                    model.written.insert(id(back));
                    model.writing = None;
                    inputs.push(Input::ManifestWritten { checkpoint: id(back) });
                } else if !model.asked.contains(&id(back)) {
                    inputs.push(Input::ManifestWritten { checkpoint: id(back) });
                }
            }
            Event::Failed { back, fenced } => {
                if model.writing == Some(id(back)) {
                    model.writing = None;
                    let kind = if fenced { ErrorKind::Fenced } else { ErrorKind::Retry };
                    let (checkpoint, error) = (id(back), Error::new(kind, "no"));
                    inputs.push(Input::ManifestFailed { checkpoint, error });
                }
            }
            Event::Savepoint(kind) => {
                n_requests += 1;
                model.requests.insert(SavepointRequest(n_requests));
                inputs.push(Input::TriggerSavepoint { request: SavepointRequest(n_requests), kind });
            }
            Event::TriggerNow => inputs.push(Input::TriggerNow),
            Event::RegionFail(who) => {
                let who = all_subtasks()[who];
                if coordinator.can_fail_over() && !model.finished.contains(&who) {
                    model.is_down = true;
                    inputs.push(Input::RegionFailed(BTreeSet::from([who])));
                }
            }
            Event::RegionRestart => {
                if model.is_down && coordinator.can_fail_over() && coordinator.n_pending() == 0 {
                    model.is_down = false;
                    let retained =
                        model.complete.difference(&model.deleted).map(|id| id.0).collect::<Vec<_>>();
                    model.newest += 2;
                    model.first = model.newest + 1;
                    inputs.push(Input::RegionRestarted(start(model.newest + 1, &retained)));
                }
            }
            Event::Restart => {
                model.is_down = false;
                // The storage found what is complete; numbers leave a gap, as after others' aborted ones.
                let retained = model.complete.difference(&model.deleted).map(|id| id.0).collect::<Vec<_>>();
                model.newest += 2;
                model.first = model.newest + 1;
                model.finished.clear();
                // An answer to the earlier start is not passed on.
                model.writing = None;
                inputs.push(Input::JobRestarted(start(model.newest + 1, &retained)));
            }
            Event::Stop => {
                model.is_down = false;
                inputs.push(Input::JobStopped);
            }
        }
        for input in inputs {
            if let Input::Acknowledged { checkpoint, subtask, .. } = &input
                && !model.ended.contains(checkpoint)
                // What has finished does not answer; should it, it does not count.
                && !model.finished.contains(subtask)
            {
                model.acknowledged.entry(*checkpoint).or_default().insert(*subtask);
            }
            let is_stop = matches!(input, Input::JobRestarted(_) | Input::JobStopped);
            let actions = coordinator.handle(at(ms), input);
            for action in &actions {
                model.check(&config, action);
            }
            if is_stop {
                model.writing = None;
            }
            let n_savepoints = model.requests.len();
            let n_pending = coordinator.n_pending();
            assert!(n_pending <= config.max_concurrent as usize + n_savepoints, "{n_pending} are pending");
        }
    }
    // Everybody who waits for a savepoint gets an answer.
    for action in coordinator.handle(at(ms), Input::JobStopped) {
        model.check(&config, &action);
    }
    assert_eq!(model.requests, BTreeSet::new());
    assert_eq!(coordinator.n_pending(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_in_every_order(
        events in prop::collection::vec(event(), 1..120),
        max_concurrent in 1..4_u32,
        num_retained in 1..3_u32,
        tolerable_failed in prop_oneof![Just(0), Just(1_000)],
        after_tasks_finish in any::<bool>(),
        incremental in any::<bool>(),
    ) {
        let of_config = CheckpointConfig { max_concurrent, num_retained, tolerable_failed, ..config() };
        run(CheckpointConfig { after_tasks_finish, incremental, ..of_config }, events);
    }

    /// Whatever has happened: once all answer and the storage works, the next checkpoint becomes complete.
    #[test]
    fn a_job_that_is_well_again_completes_a_checkpoint(events in prop::collection::vec(event(), 1..60)) {
        let config = CheckpointConfig { tolerable_failed: 1_000, ..config() };
        let mut coordinator = CheckpointCoordinator::new(config, plan(), start(1, &[]), at(0));
        let (mut ms, mut newest) = (0, 0);
        for event in events {
            let input = match event {
                Event::Pass(by) => { ms += by; Input::Tick }
                Event::Acknowledge { back, subtask, .. } => acknowledged(newest - back.min(newest), all_subtasks()[subtask]),
                Event::Decline { back, subtask } => Input::Declined {
                    checkpoint: CheckpointId(newest - back.min(newest)),
                    subtask: all_subtasks()[subtask],
                    reason: Error::subtask("no"),
                },
                Event::EndOfData(who) => Input::EndOfData(all_subtasks()[who]),
                Event::TriggerNow => Input::TriggerNow,
                Event::Failed { back, .. } => Input::ManifestFailed {
                    checkpoint: CheckpointId(newest - back.min(newest)),
                    error: Error::new(ErrorKind::Retry, "no"),
                },
                Event::AcknowledgeAll { .. } | Event::Finish(_) | Event::Written { .. } | Event::Savepoint(_)
                | Event::RegionFail(_) | Event::RegionRestart | Event::Restart | Event::Stop => Input::Tick,
            };
            for action in coordinator.handle(at(ms), input) {
                if let Action::TriggerSources { barrier, .. } = action { newest = barrier.id.0; }
            }
        }
        let mut todo = Vec::new();
        // A manifest whose answer has not come yet.
        for id in 1..=newest { todo.push(written(id)); }
        for _ in 0..100 {
            ms += 50;
            todo.push(Input::Tick);
            for input in std::mem::take(&mut todo) {
                for action in coordinator.handle(at(ms), input) {
                    match action {
                        Action::TriggerSources { barrier, .. } =>
                            todo.extend(all_subtasks().map(|who| acknowledged_at_end(barrier.id.0, who))),
                        Action::WriteManifest(request) => todo.push(written(request.barrier.id.0)),
                        Action::NotifyComplete { .. } => return Ok(()),
                        _ => {}
                    }
                }
            }
        }
        prop_assert!(false, "no checkpoint in 5 s");
    }
}
