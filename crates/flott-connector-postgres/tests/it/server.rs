//! A PostgreSQL server: Debian's binaries, data in a temporary directory, a free port; never the cluster of the machine.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(60);
pub(crate) const PASSWORD: &str = "hunter2-secret";

/// Runs until it is dropped.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    binaries: PathBuf,
    settings: Vec<String>,
    process: Mutex<Option<Child>>,
    pub(crate) port: u16,
    databases: AtomicU64,
}

impl Server {
    /// Installs it if need be and starts it; else says why not.
    pub(crate) fn start(settings: &[&str]) -> Result<Self, String> {
        let binaries = binaries()?;
        let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
        if settings.contains(&"ssl=on") {
            certify(directory.path())?;
        }
        let password = directory.path().join("password");
        std::fs::write(&password, PASSWORD).map_err(|error| format!("no password file: {error}"))?;
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
        let server = Self {
            directory,
            binaries,
            settings,
            process: Mutex::new(None),
            port: free_port(),
            databases: AtomicU64::new(0),
        };
        server.launch()?;
        Ok(server)
    }

    fn launch(&self) -> Result<(), String> {
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
        *self.process.lock().unwrap() =
            Some(spawned.map_err(|error| format!("postgres does not start: {error}"))?);
        let started = Instant::now();
        while !self.try_sql("postgres", "SELECT 1").is_ok_and(|answer| answer == "1") {
            let ended = self
                .process
                .lock()
                .unwrap()
                .as_mut()
                .is_none_or(|it| it.try_wait().is_ok_and(|it| it.is_some()));
            if ended || started.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                return Err(format!(
                    "postgres does not take connections: {}",
                    log.lines().last().unwrap_or_default()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// How users prove who they are from now on.
    pub(crate) fn authenticate_by(&self, method: &str) {
        let file = self.directory.path().join("data").join("pg_hba.conf");
        std::fs::write(file, format!("host all all 127.0.0.1/32 {method}\n")).unwrap();
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// As if the power had failed, and come back.
    pub(crate) fn crash_and_restart(&self) {
        self.stop();
        self.launch().unwrap();
    }

    /// What `pg_ctl stop -m immediate` does.
    fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            run(Command::new("kill").args(["-QUIT", &process.id().to_string()]), "kill").ok();
            process.wait().ok();
        }
    }

    /// Who vouches for the server, a PEM file: as `localhost`, if `settings` have turned encryption on.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The settings for encryption, with paths in the directory of data.
    pub(crate) const SSL: [&str; 3] = ["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"];

    /// A new database; its name.
    pub(crate) fn database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(&format!("127.0.0.1:{}", self.port), database)
    }

    /// What `psql` prints: a line for each row, columns divided by `|`.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(self.binaries.join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", sql]);
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn url(address: &str, database: &str) -> String {
    format!("postgres://flott:{PASSWORD}@{address}/{database}?sslmode=disable")
}

/// A certificate for `localhost`, and one of who signed it.
fn certify(directory: &Path) -> Result<(), String> {
    let write = std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost");
    write.map_err(|error| format!("no file: {error}"))?;
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem -extfile names",
    ] {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(directory), "openssl")?;
    }
    Ok(())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what} fails: {}", said.lines().last().unwrap_or("it says nothing")))
}
