//! The directory that the demo writes to.

use super::exactly_once::{ExactlyOnce, Life};
use anyhow::{Context, Result, bail};
use flott::Configuration;
use flott::env::{Env, FileSystem};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FLIGHTS: &[u8] = include_bytes!("../../../../examples/data/flights-2013-01.csv.gz");

/// The subdirectories with results.
const RESULTS: [&str; 3] = ["hourly", "sessions", "late"];

/// The directory of files that file sinks have not completed.
const HIDDEN: &str = ".flott";

/// By this file a later run knows that the results may be replaced.
const MARKER: &str = "README.txt";

const MARKER_TEXT: &str = "\
Results of `flott demo`. The next run into this directory replaces them.

  hourly/    a line per hour and correction; the highest revision of an hour is the final one
  sessions/  a line per period of delays of an airline
  late/      the flights that came too late
  input/     the flights, unless the demo was given others

With --exactly-once also

  flights.db     the same results in an SQLite database
  checkpoints/   what a run that was killed goes on from
  RUNNING.txt    the options of the run, as long as it has not ended
";

/// Where the demo writes.
#[derive(Debug)]
pub(super) struct OutputDirectory {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    life: Life,
    goes_on: bool,
}

/// A file with results.
#[derive(Clone, Debug)]
pub(super) struct ResultFile {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

impl OutputDirectory {
    /// Makes the directory. Removes the results of an earlier run, but goes on with one that was killed if `run` is to be exactly once.
    pub(super) fn prepare(env: &Env, path: &Path, run: Option<&ExactlyOnce>) -> Result<Self> {
        let life = Life::new(env.fs(), path);
        let goes_on = run.map_or(Ok(false), |run| life.goes_on(run))?;
        let output = Self { fs: env.fs(), path: path.to_owned(), life, goes_on };
        if goes_on {
            return Ok(output);
        }
        let marker = path.join(MARKER);
        let earlier = output.files_below_results()?;
        if !earlier.is_empty() && output.fs.metadata(&marker).is_err() {
            bail!(
                "'{}' has results that are not of this demo: choose another directory with --output",
                path.display()
            );
        }
        if output.fs.metadata(&marker).is_ok() {
            output.life.clear()?;
        }
        for file in earlier {
            output
                .fs
                .remove(&file.path)
                .with_context(|| format!("cannot remove '{}'", file.path.display()))?;
        }
        let create = |directory: &Path| {
            output
                .fs
                .create_dir_all(directory)
                .with_context(|| format!("cannot create '{}'", directory.display()))
        };
        create(path)?;
        RESULTS.iter().try_for_each(|name| create(&path.join(name)))?;
        output.write(&marker, MARKER_TEXT.as_bytes())?;
        run.map_or(Ok(()), |run| output.life.begin(run))?;
        Ok(output)
    }

    /// Whether this run goes on with one that was killed.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The database of a run that is exactly once.
    pub(super) fn database(&self) -> PathBuf {
        self.life.database()
    }

    /// Has checkpoints taken into this directory.
    pub(super) fn configure(&self, config: &mut Configuration) {
        self.life.configure(config);
    }

    /// The job has ended: the next run begins anew.
    pub(super) fn ended(&self) -> Result<()> {
        self.life.end()
    }

    /// Writes the flights that are part of this binary into a file.
    pub(super) fn unpack_flights(&self) -> Result<PathBuf> {
        let directory = self.path.join("input");
        self.fs
            .create_dir_all(&directory)
            .with_context(|| format!("cannot create '{}'", directory.display()))?;
        let path = directory.join("flights-2013-01.csv.gz");
        self.write(&path, FLIGHTS)?;
        Ok(path)
    }

    /// The files with results.
    pub(super) fn files(&self) -> Result<Vec<ResultFile>> {
        let is_hidden = |file: &ResultFile| file.path.components().any(|it| it.as_os_str() == HIDDEN);
        Ok(self.files_below_results()?.into_iter().filter(|file| !is_hidden(file)).collect())
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        let written = self.fs.create(path).and_then(|mut file| {
            file.write_all(content)?;
            file.flush()
        });
        written.with_context(|| format!("cannot write '{}'", path.display()))
    }

    /// The parts that file sinks have written, finished or not.
    fn files_below_results(&self) -> Result<Vec<ResultFile>> {
        let mut files = Vec::new();
        let mut directories: Vec<PathBuf> = RESULTS.iter().map(|name| self.path.join(name)).collect();
        while let Some(directory) = directories.pop() {
            if self.fs.metadata(&directory).is_err() {
                continue;
            }
            let entries = self.fs.list(&directory);
            for path in entries.with_context(|| format!("cannot list '{}'", directory.display()))? {
                let metadata = self
                    .fs
                    .metadata(&path)
                    .with_context(|| format!("cannot look at '{}'", path.display()))?;
                if metadata.is_dir {
                    directories.push(path);
                } else if name(&path).starts_with("part-") {
                    files.push(ResultFile { path, bytes: metadata.len });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott::env::sim::Simulation;

    #[test]
    fn results_of_others_are_left_alone_and_our_own_replaced() {
        let env = Simulation::new(1).env();
        let path = Path::new("out");
        let part = path.join("hourly/origin=EWR/part-0-1-0.csv");
        env.fs().create_dir_all(part.parent().unwrap()).unwrap();
        env.fs().create(&part).unwrap().write_all(b"mine").unwrap();
        let error = OutputDirectory::prepare(&env, path, None).unwrap_err().to_string();
        assert_eq!(
            error,
            "'out' has results that are not of this demo: choose another directory with --output"
        );

        env.fs().create(&path.join(MARKER)).unwrap();
        let output = OutputDirectory::prepare(&env, path, None).unwrap();
        assert!(output.files().unwrap().is_empty());
        let input = output.unpack_flights().unwrap();
        assert_eq!(env.fs().metadata(&input).unwrap().len, FLIGHTS.len() as u64);
    }
}
