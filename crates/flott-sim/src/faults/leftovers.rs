//! No orphans (S18 of the catalogue): what nothing needs is gone when a process has run to the end of the job, and nothing has gone wrong in it.
//!
//! Whatever processes before it have left behind it has to clean up. Savepoints are the user's, also those that were not completed. What a
//! process that was replaced goes on writing may stay, and so may what could not be written or deleted beside a checkpoint that the user has then taken
//! over: only jobs whose processes died, and nothing else, are looked at.

use super::cut::checkpoints;
use super::world::{CHECKPOINTS, LOCAL_STATE, OUT, World};
use flott_checkpoint::open_snapshot;
use flott_env::sim::Simulation;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Looks for files that nothing needs.
///
/// # Errors
/// Which there are.
pub(crate) fn check_leftovers(world: &World) -> Result<(), String> {
    let files = world.disk.files();
    let env = Simulation::new(0).with_disk(world.disk.fork()).env();
    if !world.fired().iter().all(|(_, kind)| kind.starts_with("crash/")) {
        return Ok(());
    }
    let mut needed = BTreeSet::new();
    for (_, path) in checkpoints(&world.disk) {
        let snapshot = open_snapshot(&env, Path::new(&path)).map_err(|error| error.report())?;
        let of_manifest = snapshot.manifest().files().into_iter();
        let of_manifest = of_manifest.map(|file| Path::new(CHECKPOINTS).join(&file.path));
        needed.extend(of_manifest);
        needed.insert(Path::new(&path).join("_metadata"));
    }
    let is_needed = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_hidden = path.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'));
        if path.starts_with(CHECKPOINTS) {
            // Records of who has had the job stay as long as the directory.
            return needed.contains(path) || name.starts_with("owner-");
        }
        (!path.starts_with(OUT) || !is_hidden) && !path.starts_with(LOCAL_STATE)
    };
    let left: Vec<&PathBuf> = files.keys().filter(|path| !is_needed(path)).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("nobody needs {left:?}")) }
}
