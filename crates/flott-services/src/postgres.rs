//! A PostgreSQL server: Debian's binaries, data in a temporary directory, a free port; never the cluster of the machine.

use crate::certificates::certify;
use crate::process::{Signal, free_port, run};
use crate::proxy::Proxy;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(60);
/// The password of the user `flott`.
pub const POSTGRES_PASSWORD: &str = "hunter2-secret";

/// A PostgreSQL server, which runs until it is dropped.
pub struct Postgres {
    directory: tempfile::TempDir,
    binaries: PathBuf,
    settings: Vec<String>,
    process: Mutex<Option<Child>>,
    port: u16,
    proxy: Proxy,
    databases: AtomicU64,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Installs it if need be and starts it, with these settings beside those that it needs.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn start(settings: &[&str]) -> Result<Self, String> {
        let binaries = binaries()?;
        let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
        if settings.contains(&"ssl=on") {
            certify(directory.path())?;
        }
        let password = directory.path().join("password");
        std::fs::write(&password, POSTGRES_PASSWORD).map_err(|error| format!("no password file: {error}"))?;
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres"]).arg(directory.path()), "chown")?;
        }
        let mut initdb = as_postgres(&binaries.join("initdb"));
        initdb.args([
            "-U",
            "flott",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--auth-host=scram-sha-256",
            "--no-sync",
        ]);
        initdb.arg("-D").arg(directory.path().join("data")).arg(format!("--pwfile={}", password.display()));
        run(&mut initdb, "initdb")?;
        let settings = settings.iter().map(|it| (*it).to_owned()).collect();
        let port = free_port()?;
        let server = Self {
            directory,
            binaries,
            settings,
            process: Mutex::new(None),
            port,
            proxy: Proxy::start(format!("127.0.0.1:{port}"))?,
            databases: AtomicU64::new(0),
        };
        server.launch()?;
        Ok(server)
    }

    /// Starts the process and waits until it takes connections. Behind a crash the memory that the old one has shared may be in use for a while, and then the
    /// new one ends at once.
    fn launch(&self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            self.spawn()?;
            while !self.has_ended() && started.elapsed() < START_LIMIT {
                if self.try_sql("postgres", "SELECT 1").is_ok_and(|answer| answer == "1") {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if started.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                let last: Vec<&str> =
                    log.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
                return Err(format!("postgres does not take connections: {}", last.join("; before that: ")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn has_ended(&self) -> bool {
        let has_ended = |it: &mut Child| it.try_wait().is_ok_and(|status| status.is_some());
        self.process().as_mut().is_none_or(has_ended)
    }

    fn spawn(&self) -> Result<(), String> {
        let mut command = as_postgres(&self.binaries.join("postgres"));
        command.arg("-D").arg(self.directory.path().join("data")).arg("-k").arg(self.directory.path());
        command.args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "wal_level=logical", "max_prepared_transactions=64"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log"));
        let log = log.map_err(|error| format!("no log: {error}"))?;
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let process = spawned.map_err(|error| format!("postgres does not start: {error}"))?;
        *self.process() = Some(process);
        Ok(())
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How users prove who they are from now on.
    ///
    /// # Errors
    /// If the server cannot be told.
    pub fn authenticate_by(&self, method: &str) -> Result<(), String> {
        let file = self.directory.path().join("data").join("pg_hba.conf");
        let written = std::fs::write(file, format!("host all all 127.0.0.1/32 {method}\n"));
        written.map_err(|error| format!("cannot write pg_hba.conf: {error}"))?;
        self.try_sql("postgres", "SELECT pg_reload_conf()").map(|_| ())
    }

    /// As if the power had failed, and come back.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn crash_and_restart(&self) -> Result<(), String> {
        self.stop();
        self.launch()
    }

    /// Has the server and its sessions stand still, or go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let process = self.process();
        let Some(process) = process.as_ref() else { return Err("the server does not run".to_owned()) };
        let children = Command::new("pgrep").args(["-P", &process.id().to_string()]).output();
        let children = children.map_err(|error| format!("pgrep: {error}"))?;
        let name = if signal == Signal::Stop { "-STOP" } else { "-CONT" };
        for child in String::from_utf8_lossy(&children.stdout).split_whitespace() {
            // It may have ended since.
            run(Command::new("kill").args([name, child]), "kill").ok();
        }
        signal.send(process)
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `pg_ctl stop -m immediate` does.
    fn stop(&self) {
        let process = self.process().take();
        if let Some(mut process) = process {
            run(Command::new("kill").args(["-QUIT", &process.id().to_string()]), "kill").ok();
            process.wait().ok();
        }
    }

    /// Who vouches for the server, a PEM file: as `localhost`, if `settings` have turned encryption on.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The settings for encryption, with paths in the directory of data.
    pub const SSL: [&str; 3] = ["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"];

    /// A new database; its name.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Where a database is.
    pub fn url(&self, database: &str) -> String {
        url_at(&format!("127.0.0.1:{}", self.port), database)
    }

    /// Where a database is, behind the proxy.
    pub fn proxied_url(&self, database: &str) -> String {
        url_at(&format!("127.0.0.1:{}", self.proxy.port()), database)
    }

    /// What `psql` prints: a line for each row, columns divided by `|`.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`Postgres::sql`].
    ///
    /// # Errors
    /// What the server says.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(self.binaries.join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", sql]);
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where a database is, of the server or a proxy at `host:port`.
pub fn url_at(address: &str, database: &str) -> String {
    format!("postgres://flott:{POSTGRES_PASSWORD}@{address}/{database}?sslmode=disable")
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// The server refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"])
        .arg(program)
        .current_dir("/");
    command
}

fn binaries() -> Result<PathBuf, String> {
    if let Some(found) = find() {
        return Ok(found);
    }
    if !is_root() {
        return Err("no PostgreSQL below /usr/lib/postgresql, and only root may install it".to_owned());
    }
    // It must not start a cluster of the machine.
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "--no-install-recommends", "postgresql"]);
    run(install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1"), "apt-get install postgresql")?;
    find().ok_or_else(|| "the package postgresql has no server below /usr/lib/postgresql".to_owned())
}

/// The newest.
fn find() -> Option<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.filter(|path| path.join("bin").join("postgres").exists()).max_by_key(version)?;
    Some(newest.join("bin"))
}
