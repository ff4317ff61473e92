//! A random job with random faults from a seed.
//!
//! Job, settings and faults come from streams of random numbers of their own, so that a change to one does not change the others.

use super::plan::{Action, Fault, FaultPlan, Job, Phase, Shape, SinkKind, Unsynced};
use crate::record::mix;
use flott_env::sim::SimRng;

/// Faults of a plan at most.
const FAULTS_MAX: u64 = 7;

/// The time that checkpoints get at least if something is slow.
const SLOW_TIMEOUT_MS: u64 = 2_000;

/// The kind of a stop after which the job goes on from its last checkpoint, with another number of subtasks.
const RESUME: u64 = 13;

/// The plan that `seed` means.
pub fn generate_faults(seed: u64) -> FaultPlan {
    let stream = |name: u64| SimRng::new(mix(seed, name));
    let mut job = job(&mut stream(11), &mut stream(12));
    regions(&mut stream(15), &mut job);
    let job = pushed_back(job, &mut stream(16));
    let job = incremental(job, &mut stream(17));
    let mut rng = stream(13);
    let n_faults = rng.below(FAULTS_MAX + 1);
    // Few kinds at a time reach states that all together never do (swarm testing, Groce et al. 2012).
    let n_kinds = 1 + rng.below(4);
    let kinds: Vec<u64> = (0..n_kinds).map(|_| rng.below(15)).collect();
    let mut faults: Vec<_> = (0..n_faults).map(|_| fault(&mut rng, &kinds, &job)).collect();
    if job.unaligned_ms.is_some() {
        // What is in flight is divided anew.
        let n_resumes = pick(&mut rng, &[0, 1, 1, 2, 3]);
        faults.extend((0..n_resumes).map(|_| fault(&mut rng, &[RESUME], &job)));
    }
    FaultPlan { seed, schedule: mix(seed, 14), job, faults }
}

fn pick<T: Copy>(rng: &mut SimRng, from: &[T]) -> T {
    let idx = rng.below(from.len() as u64) as usize;
    *from.get(idx).expect("there is something to choose from")
}

fn job(program: &mut SimRng, settings: &mut SimRng) -> Job {
    let at_least_once = settings.one_in(10);
    let shape = if at_least_once { Shape::Records } else { shape(program) };
    let parallelism = pick(program, &[1, 1, 2, 2, 2, 3, 4]);
    let min_pause_ms = pick(settings, &[0, 0, 0, 5, 15]);
    let timeout_ms = pick(settings, &[60_000, 60_000, 60_000, 12]);
    let tolerable = pick(settings, &[0, 0, 1, 5]);
    Job {
        splits: 1 + program.below(4) as u32,
        records: 5 + program.below(55),
        second: program.one_in(4).then(|| program.below(25)),
        apart: false,
        chunk: pick(program, &[1, 2, 5, 12]),
        pause_ms: pick(program, &[2, 5, 9, 12]),
        keys: pick(program, &[1, 3, 10]),
        pace_ms: pick(program, &[1, 4, 10]),
        disorder_ms: pick(program, &[0, 2, 10, 40]),
        shape,
        raw: program.one_in(2),
        sink: if !at_least_once && program.one_in(4) { SinkKind::Files } else { SinkKind::Store },
        parallelism,
        max_parallelism: pick(program, &[4, 5, 7, 16, 128]),
        chaining: !program.one_in(4),
        // The order of records that a count depends on does not survive it.
        rebalance: shape != Shape::Counts && program.one_in(3),
        batch_size: pick(settings, &[1, 3, 16, 1_024]),
        gate_bytes: pick(settings, &[1, 200, 1 << 20]),
        interval_ms: pick(settings, &[10, 11, 15, 25, 60]),
        timeout_ms,
        min_pause_ms,
        concurrent: if min_pause_ms == 0 { pick(settings, &[1, 1, 2, 4]) } else { 1 },
        retained: pick(settings, &[1, 1, 2, 4]),
        // Where none is ever done in time, a job that restarts for it has no end.
        tolerable: if timeout_ms < 60_000 { 1_000 } else { tolerable },
        snapshot_places: pick(settings, &[1, 1, 2, 5, 8192]),
        claims: settings.one_in(2),
        section_bytes: pick(settings, &[1, 16, 200, 1 << 20]),
        disk_memory: pick(settings, &[None, None, Some(0), Some(0), Some(4_000)]),
        at_least_once,
        unaligned_ms: None,
        incremental: false,
        slow_ms: None,
    }
}

/// Makes some jobs into such that fail in part: straight pipelines, and two that have nothing to do with each other.
fn regions(rng: &mut SimRng, job: &mut Job) {
    if rng.one_in(4) {
        (job.shape, job.rebalance) = (Shape::Records, false);
        job.parallelism = job.parallelism.max(2);
    }
    if rng.one_in(5) {
        job.second = job.second.or(Some(1 + rng.below(25)));
    }
    job.apart = job.second.is_some() && !rng.one_in(3);
}

/// The job with barriers that overtake, and with something for them to overtake: somebody slow behind them.
fn pushed_back(job: Job, rng: &mut SimRng) -> Job {
    let slow_ms = rng.one_in(3).then(|| pick(rng, &[1, 3, 8]));
    let (is_unaligned, after) = (rng.one_in(2), pick(rng, &[0, 0, 0, 3, 12, 40]));
    let is_unaligned = is_unaligned && !job.at_least_once;
    let slow_ms = slow_ms.or_else(|| (is_unaligned && !rng.one_in(4)).then(|| pick(rng, &[3, 8, 20, 50])));
    // Where barriers wait behind what is slow, or state is on disk, a checkpoint that has hardly any time never is complete, and the job does not
    // end.
    let timeout_ms = if slow_ms.is_some() || job.disk_memory.is_some() {
        job.timeout_ms.max(SLOW_TIMEOUT_MS)
    } else {
        job.timeout_ms
    };
    // On forward edges nothing is overtaken.
    let rebalance = job.rebalance || (is_unaligned && job.shape == Shape::Records && !rng.one_in(4));
    let job = Job { slow_ms, timeout_ms, rebalance, ..job };
    if is_unaligned { Job { unaligned_ms: Some(after), concurrent: 1, ..job } } else { job }
}

/// Lets some jobs take incremental checkpoints, and of these many have state of which there is a part that does not change: some of all keys, or
/// windows that are open for long.
fn incremental(job: Job, rng: &mut SimRng) -> Job {
    let job = Job { incremental: rng.one_in(2), ..job };
    if !job.incremental || job.at_least_once || rng.one_in(3) {
        return job;
    }
    if !job.rebalance && rng.one_in(3) {
        let shape = match rng.below(3) {
            0 => Shape::Tumbling { size_ms: pick(rng, &[50, 200]) },
            1 => Shape::Sliding { size_ms: pick(rng, &[60, 210]), slide_ms: 30 },
            _ => Shape::Session { gap_ms: pick(rng, &[11, 31, 60]) },
        };
        return Job { shape, keys: pick(rng, &[3, 10, 40]), records: job.records.max(30), ..job };
    }
    let delay_ms = pick(rng, &[5, 50, 200]);
    let shape = if job.rebalance || rng.one_in(2) { Shape::Timers { delay_ms } } else { Shape::Counts };
    Job { shape, keys: pick(rng, &[3, 10, 40]), records: job.records.max(30), ..job }
}

fn shape(rng: &mut SimRng) -> Shape {
    match rng.below(7) {
        0 => Shape::Records,
        1 | 2 => Shape::Tumbling { size_ms: pick(rng, &[6, 20, 100]) },
        3 => {
            let (size_ms, slide_ms) = pick(rng, &[(20, 10), (30, 20), (10, 14), (50, 7)]);
            Shape::Sliding { size_ms, slide_ms }
        }
        4 => Shape::Session { gap_ms: pick(rng, &[3, 11, 31]) },
        5 => Shape::Timers { delay_ms: pick(rng, &[0, 5, 50]) },
        _ => Shape::Counts,
    }
}

fn fault(rng: &mut SimRng, kinds: &[u64], job: &Job) -> Fault {
    let action = match pick(rng, kinds) {
        0 => crash(rng, Unsynced::Lost),
        1 => crash(rng, Unsynced::Kept),
        2 => {
            let unsynced = Unsynced::Mixed(rng.below(1_000));
            crash(rng, unsynced)
        }
        3 => Action::Fail,
        4 => Action::FailAfter,
        5 => Action::Panic,
        6 => Action::Full(1 + rng.below(12)),
        7 => Action::Slow(pick(rng, &[1, 8, 20, 100])),
        8 => Action::Clock(pick(rng, &[-3_600_000, -7, 5, 60_000, 86_400_000])),
        9 => Action::Cancel,
        10 => Action::Older,
        11 => Action::Rescale(1 + rng.below(u64::from(job.max_parallelism.min(4))) as u32),
        12 => Action::Savepoint,
        RESUME => Action::Resume(1 + rng.below(u64::from(job.max_parallelism.min(4))) as u32),
        _ => Action::Successor,
    };
    // Every phase as often as the others, though some have many more events.
    let fitting: Vec<Phase> =
        Phase::ALL.into_iter().filter(|phase| action.fits(*phase) && occurs(*phase, job)).collect();
    let phase = pick(rng, &fitting);
    let often = match phase {
        Phase::Upload => 90,
        Phase::Manifest | Phase::Cleanup | Phase::Ownership => 25,
        Phase::Read | Phase::Process | Phase::Fire | Phase::Write => 60,
        Phase::SinkFile => 40,
        Phase::LocalState => 400,
        Phase::Prepare | Phase::Commit | Phase::Restore => 10,
    };
    // The first events of a phase are worth more: they come in every run.
    let bound = if rng.one_in(2) { often } else { often / 4 };
    Fault { phase: Some(phase), nth: rng.below(bound), action }
}

fn crash(rng: &mut SimRng, unsynced: Unsynced) -> Action {
    if rng.one_in(2) { Action::CrashBefore(unsynced) } else { Action::CrashAfter(unsynced) }
}

/// Whether a job has events of a phase.
fn occurs(phase: Phase, job: &Job) -> bool {
    match phase {
        Phase::SinkFile => job.sink == SinkKind::Files,
        Phase::LocalState => job.disk_memory.is_some(),
        Phase::Write | Phase::Prepare | Phase::Restore | Phase::Commit => job.sink == SinkKind::Store,
        Phase::Ownership
        | Phase::Upload
        | Phase::Manifest
        | Phase::Cleanup
        | Phase::Read
        | Phase::Process
        | Phase::Fire => true,
    }
}
