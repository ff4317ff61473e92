//! What a run with `--exactly-once` leaves in its directory so that the next one can go on.
//!
//! The file `RUNNING.txt` is there from before the job starts until after it has ended, and has the options of the run. The engine records in
//! its directory of checkpoints that a job has ended. So a run that finds the file and no such record was killed in the middle. A run that was
//! killed between the record and the removal of the file had written everything; it is begun anew, which gives the same results.

use super::DemoArgs;
use anyhow::{Context, Result, bail};
use flott::env::FileSystem;
use flott::{Configuration, options};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often checkpoints are taken unless the configuration says something.
const INTERVAL: Duration = Duration::from_millis(200);

/// There while the job runs.
const RUNNING: &str = "RUNNING.txt";
const CHECKPOINTS: &str = "checkpoints";
const DATABASE: &str = "flights.db";

/// The options that decide about results: a run goes on only with the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExactlyOnce {
    options: String,
}

impl ExactlyOnce {
    pub(super) fn of(args: &DemoArgs) -> Option<Self> {
        let DemoArgs { input, out_of_orderness, lateness, gap, span, .. } = args;
        let input = input.as_ref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
        let options = format!(
            "input {input}\nout-of-orderness {out_of_orderness:?}\nlateness {lateness:?}\ngap {gap:?}\npaced {}\n",
            args.speed.is_some()
        );
        let span: String = span.settings().iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let options = options + &span;
        args.exactly_once.then_some(Self { options })
    }
}

/// The files of a run with `--exactly-once` that are not results.
#[derive(Clone, Debug)]
pub(super) struct Life {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
}

impl Life {
    pub(super) fn new(fs: Arc<dyn FileSystem>, path: &Path) -> Self {
        Self { fs, path: path.to_owned() }
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    pub(super) fn configure(&self, config: &mut Configuration) {
        if config.get(options::CHECKPOINTING_INTERVAL).is_none() {
            config.set_option(options::CHECKPOINTING_INTERVAL, &Some(INTERVAL));
        }
        config.set_option(options::CHECKPOINTING_DIR, &Some(self.checkpoints().display().to_string()));
    }

    /// Whether an earlier run was killed in the middle.
    pub(super) fn goes_on(&self, run: &ExactlyOnce) -> Result<bool> {
        let path = self.path.join(RUNNING);
        let mut options = String::new();
        match self.fs.open(&path).and_then(|mut file| file.read_to_string(&mut options)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read.with_context(|| format!("cannot read '{}'", path.display()))?,
        };
        let ended = self
            .files(&self.checkpoints())?
            .iter()
            .any(|path| path.extension().is_some_and(|it| it == "end"));
        // Killed before the options were written: nothing had begun.
        if ended || options.is_empty() {
            return Ok(false);
        }
        if options != run.options {
            bail!(
                "'{}' has a run that was killed and had other options:\n{options}Go on with those, or remove '{}' to begin anew.",
                self.path.display(),
                path.display()
            );
        }
        Ok(true)
    }

    /// Removes everything of an earlier run.
    pub(super) fn clear(&self) -> Result<()> {
        let mut paths = self.files(&self.checkpoints())?;
        for suffix in ["", "-wal", "-shm"] {
            paths.push(self.path.join(format!("{DATABASE}{suffix}")));
        }
        // Last: as long as it is there, a run that is killed here is found to have been.
        paths.push(self.path.join(RUNNING));
        for path in paths {
            match self.fs.remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.with_context(|| format!("cannot remove '{}'", path.display()))?,
            }
        }
        Ok(())
    }

    pub(super) fn begin(&self, run: &ExactlyOnce) -> Result<()> {
        let path = self.path.join(RUNNING);
        let write = || {
            let mut file = self.fs.create(&path)?;
            file.write_all(run.options.as_bytes())?;
            file.sync()?;
            self.fs.sync_dir(&self.path)
        };
        write().with_context(|| format!("cannot write '{}'", path.display()))
    }

    pub(super) fn end(&self) -> Result<()> {
        let path = self.path.join(RUNNING);
        match self.fs.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot remove '{}'", path.display())),
        }
    }

    /// All files below a directory that may be missing.
    fn files(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        if !self.fs.metadata(directory).is_ok_and(|it| it.is_dir) {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        for path in
            self.fs.list(directory).with_context(|| format!("cannot list '{}'", directory.display()))?
        {
            let is_dir = self.fs.metadata(&path).is_ok_and(|it| it.is_dir);
            if is_dir { files.extend(self.files(&path)?) } else { files.push(path) }
        }
        Ok(files)
    }
}
