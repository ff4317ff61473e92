//! What readers of the output see.

use super::victim::DATABASE;
use crate::faults::world::OUT;
use flott_env::Env;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for somebody who writes to the database.
const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// Somewhere that rows are committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Files,
    Transactional,
    /// The view of committed rows.
    Eager,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Files, Self::Transactional, Self::Eager];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Transactional => "table",
            Self::Eager => "view of the eager table",
        }
    }
}

/// Reads the output of a job, as any other program would.
pub(crate) struct Output {
    env: Env,
    dir: String,
    /// Files that were read: their rows. A file with a name never changes.
    files: BTreeMap<PathBuf, Vec<String>>,
    connection: Option<Connection>,
}

impl Output {
    pub(crate) fn new(env: &Env, dir: &str) -> Self {
        Self { env: env.clone(), dir: dir.to_owned(), files: BTreeMap::new(), connection: None }
    }

    /// Forgets what was read.
    pub(crate) fn forget(&mut self) {
        self.files.clear();
        self.connection = None;
    }

    /// The rows that are committed to a place.
    pub(crate) fn rows(&mut self, place: Place) -> Result<Vec<String>, String> {
        match place {
            Place::Files => self.of_files().map_err(|error| format!("cannot read the files: {error}")),
            Place::Transactional => self.of_table("SELECT row FROM transactional"),
            Place::Eager => self.of_table("SELECT row FROM eager_committed"),
        }
    }

    /// All rows of the eager table, also those that may go away again.
    pub(crate) fn eager_rows(&mut self) -> Result<Vec<String>, String> {
        self.of_table("SELECT row FROM eager")
    }

    /// The values by key.
    pub(crate) fn upserted(&mut self) -> Result<Vec<(String, String)>, String> {
        self.query("SELECT key, value FROM upsert", |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// How much the sinks keep in the database that belongs to no committed row.
    pub(crate) fn left_over(&mut self) -> Result<u64, String> {
        let count =
            "SELECT (SELECT count(*) FROM flott_staged_transactional) + (SELECT count(*) FROM flott_batches)";
        let counts = self.query(count, |row| row.get::<_, i64>(0))?;
        Ok(counts.first().copied().unwrap_or_default().unsigned_abs())
    }

    /// The hidden files of the sink of files.
    pub(crate) fn hidden_files(&self) -> Vec<PathBuf> {
        self.env.fs().list(&Path::new(&(self.dir.clone() + OUT)).join(".flott")).unwrap_or_default()
    }

    fn of_files(&mut self) -> io::Result<Vec<String>> {
        let fs = self.env.fs();
        let listed = match fs.list(Path::new(&(self.dir.clone() + OUT))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let is_hidden =
            |path: &PathBuf| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let mut known = std::mem::take(&mut self.files);
        for path in listed.into_iter().filter(|path| !is_hidden(path)) {
            let rows = match known.remove(&path) {
                Some(rows) => rows,
                None => {
                    let mut text = String::new();
                    fs.open(&path)?.read_to_string(&mut text)?;
                    if !text.ends_with('\n') {
                        return Err(io::Error::other(format!("'{}' is torn", path.display())));
                    }
                    text.lines().map(str::to_owned).collect()
                }
            };
            self.files.insert(path, rows);
        }
        Ok(self.files.values().flatten().cloned().collect())
    }

    fn of_table(&mut self, sql: &str) -> Result<Vec<String>, String> {
        self.query(sql, |row| row.get(0))
    }

    fn query<R>(
        &mut self,
        sql: &str,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<R>,
    ) -> Result<Vec<R>, String> {
        match self.try_query(sql, read) {
            // Nobody has made it yet.
            Err(error) if error.to_string().contains("no such table") => Ok(Vec::new()),
            Err(error) => {
                self.connection = None;
                Err(format!("[{sql}]: {error}"))
            }
            Ok(rows) => Ok(rows),
        }
    }

    fn try_query<R>(
        &mut self,
        sql: &str,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<Vec<R>> {
        let path = self.dir.clone() + DATABASE;
        if self.connection.is_none() {
            if self.env.fs().metadata(Path::new(&path)).is_err() {
                return Ok(Vec::new());
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            self.connection = Some(connection);
        }
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        connection.prepare_cached(sql)?.query_map([], read)?.collect()
    }
}
