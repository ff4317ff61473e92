//! Restore equality (S10 of the catalogue): a process that begins with a snapshot and reads nothing leaves a snapshot with the same state,
//! whatever its number of subtasks (S11).
//!
//! It runs in a world of its own, that is a copy of the disk and of the destination, so that the job itself does not notice.

use super::cut::{Cut, fits, read_cut_at};
use super::plan::Job;
use super::program::{Launch, build};
use super::store::Store;
use super::world::World;
use crate::record::mix;
use flott_datastream::JobClient;
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::Result;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// One in so many processes is tried.
const ONE_IN: u64 = 4;
/// How often a savepoint is asked for: before the job runs there is none.
const ATTEMPTS_MAX: u32 = 50;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(7);

/// A process that is about to begin.
pub(crate) struct Still<'a> {
    pub(crate) job: &'a Arc<Job>,
    pub(crate) world: &'a World,
    pub(crate) store: &'a Store,
    pub(crate) launch: &'a Launch,
}

impl Still<'_> {
    /// Begins with `from`, reads nothing, takes a savepoint, and compares. Whether there was one.
    ///
    /// # Errors
    /// What is not the same.
    pub(crate) fn check(&self, from: &Cut, path: &str, seed: u64) -> std::result::Result<bool, String> {
        if !seed.is_multiple_of(ONE_IN) {
            return Ok(false);
        }
        let world = self.world.in_peace();
        let store = self.store.in_world(&world);
        let simulation = Simulation::new(seed);
        let env = world.env(&simulation);
        let launch = self.rescaled(path, mix(seed, 1));
        let Ok(client) = build(self.job, &world, &store, env.clone(), &launch).execute_async("faults") else {
            // It has ended, and says so another way.
            return Ok(false);
        };
        let what = || format!("{launch:?}, which reads nothing, from checkpoint {}", from.id);
        let taken = simulation.run(savepoint(client, env)).map_err(|stuck| format!("{}: {stuck}", what()))?;
        let taken = taken.map_err(|error| format!("{}: {}", what(), error.report()))?;
        if let Some(seen) = world.violations().first() {
            return Err(format!("{}: {seen}", what()));
        }
        let Some(path) = taken else { return Ok(false) };
        let cut = read_cut_at(&world.disk, &path, self.job).map_err(|error| error.report())?;
        let compared = cut.compare_state(self.job).and_then(|_| from.compare_restored(&cut));
        compared.map(|()| true).map_err(|wrong| format!("{}: {wrong}", what()))
    }

    /// With another number of subtasks, if that is possible.
    fn rescaled(&self, path: &str, seed: u64) -> Launch {
        let parallelism = 1 + (seed % u64::from(self.job.max_parallelism.min(4))) as u32;
        let fits = fits(&self.world.disk, path, parallelism);
        let parallelism = if fits { parallelism } else { self.launch.parallelism };
        Launch { parallelism, ..self.launch.clone() }
    }
}

/// Takes a savepoint and cancels the job. None if it has ended before.
async fn savepoint(client: JobClient, env: Env) -> Result<Option<String>> {
    let (handle, canceler) = (client.savepoints(), client.canceler());
    let mut result = pin!(client.result());
    let mut taking = pin!(async {
        for _ in 0..ATTEMPTS_MAX {
            env.sleep(ATTEMPT_INTERVAL).await;
            if let Ok(path) = handle.trigger_savepoint(None).await {
                return Some(path);
            }
        }
        None
    });
    let taken = poll_fn(|cx| {
        if let Poll::Ready(ended) = result.as_mut().poll(cx) {
            return Poll::Ready(ended.map(|_| (None, true)));
        }
        taking.as_mut().poll(cx).map(|path| Ok((path, false)))
    });
    let (path, has_ended) = taken.await?;
    if !has_ended {
        canceler.try_cancel();
        result.await?;
    }
    Ok(path)
}
