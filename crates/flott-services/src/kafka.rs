//! Apache Kafka: one process that is broker and controller.

use crate::certificates::{authority, certify, certify_client};
use crate::process::{Signal, free_port, run, services_dir, wait_until};
use crate::proxy::Proxy;
use std::fmt;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What is installed.
const VERSION: &str = "4.1.1";
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Any will do: the data is thrown away.
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// Of the user `flott`, and of the client's key.
pub const KAFKA_PASSWORD: &str = "correct-horse-battery-staple";
/// Who knows it, by all ways to prove that.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// A listener that is not for everybody, at `localhost`: of [`Kafka::start_secured`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// For clients with a certificate that is signed by [`Kafka::authority`].
    Ssl,
    /// For the user `flott`, who knows [`KAFKA_PASSWORD`].
    SaslPlaintext,
    /// The same, encrypted.
    SaslSsl,
}

/// An Apache Kafka broker, which runs until it is dropped.
pub struct Kafka {
    process: Option<Child>,
    jars: PathBuf,
    dir: TempDir,
    port: u16,
    /// In the order of [`Listener`].
    secured: Vec<u16>,
    /// In front of a listener of its own, whose address the broker tells to who comes that way.
    proxy: Proxy,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Kafka {
    /// Installs it if need be and starts it, with these settings of `server.properties` beside those that it needs.
    ///
    /// # Errors
    /// Why it cannot be had: there is no Java or no Maven, the package index is out of reach, ….
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_with(free_port()?, settings, false)
    }

    /// As [`Kafka::start`], on a port that the caller has chosen.
    ///
    /// # Errors
    /// Also if somebody else listens there.
    pub fn start_at(port: u16, settings: &[(&str, &str)]) -> Result<Self, String> {
        // Else the other one would be taken for the broker that is up.
        std::net::TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| format!("port {port} cannot be listened at: {error}"))?;
        Self::start_with(port, settings, false)
    }

    /// As [`Kafka::start`], and with each [`Listener`] beside.
    ///
    /// # Errors
    /// Also if there is no command `openssl`.
    pub fn start_secured(settings: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_with(free_port()?, settings, true)
    }

    fn start_with(port: u16, settings: &[(&str, &str)], is_secured: bool) -> Result<Self, String> {
        let jars = install()?;
        let dir = TempDir::new().map_err(|error| format!("no temporary directory: {error}"))?;
        let secured =
            if is_secured { [free_port()?, free_port()?, free_port()?].to_vec() } else { Vec::new() };
        let (more_listeners, more_protocols, more_settings) = match secured.as_slice() {
            [ssl, sasl, sasl_ssl] => (
                format!(",SSL://localhost:{ssl},SASL://localhost:{sasl},BOTH://localhost:{sasl_ssl}"),
                ",SSL:SSL,SASL:SASL_PLAINTEXT,BOTH:SASL_SSL",
                secure(dir.path())?,
            ),
            _ => Default::default(),
        };
        let (controller, behind) = (free_port()?, free_port()?);
        let proxy = Proxy::start(format!("127.0.0.1:{behind}"))?;
        let proxied = proxy.port();
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}{more_listeners}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxied}{more_listeners}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT{more_protocols}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\n\
             auto.create.topics.enable=false\nlog.cleaner.dedupe.buffer.size=2097152\n{more_settings}",
            dir.path().join("data").display()
        );
        for (name, value) in settings {
            text.push_str(&format!("{name}={value}\n"));
        }
        let properties = dir.path().join("server.properties");
        fs::write(&properties, text).map_err(|error| format!("cannot write its settings: {error}"))?;
        let mut format = java(&jars);
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&properties);
        for mechanism in MECHANISMS.iter().filter(|it| is_secured && it.starts_with("SCRAM")) {
            format.arg("--add-scram").arg(format!("{mechanism}=[name=flott,password={KAFKA_PASSWORD}]"));
        }
        run(&mut format, "formatting the broker's storage")?;
        let mut broker = Self { process: None, jars, dir, port, secured, proxy };
        broker.start_process()?;
        Ok(broker)
    }

    /// `host:port` of the broker.
    pub fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of a listener that is not for everybody; nothing listens there if the broker was not started with it.
    pub fn secured_servers(&self, listener: Listener) -> String {
        format!("localhost:{}", self.secured.get(listener as usize).copied().unwrap_or_default())
    }

    /// Who vouches for the broker and its clients, a PEM file: as `localhost`.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Somebody else who could, a PEM file.
    pub fn other_authority(&self) -> PathBuf {
        self.dir.path().join("other.pem")
    }

    /// The certificate of a client and its key, PEM files. The key's password is [`KAFKA_PASSWORD`].
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("client.pem"), self.dir.path().join("client.key"))
    }

    /// `host:port` of the broker behind its proxy.
    pub fn proxied_servers(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.port())
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Ends the broker in order, or by `kill -9`; its data stays.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&mut self, signal: Signal) -> Result<(), String> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        signal.send(&process)?;
        let ended = wait_until(STOP_LIMIT, || matches!(process.try_wait(), Ok(Some(_))));
        if !ended {
            process.kill().map_err(|error| format!("the broker does not end: {error}"))?;
            process.wait().map_err(|error| format!("the broker does not end: {error}"))?;
        }
        Ok(())
    }

    /// Starts the broker again with its data.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_again(&mut self) -> Result<(), String> {
        if self.process.is_some() { Ok(()) } else { self.start_process() }
    }

    /// Has the process stand still, or go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        self.process
            .as_ref()
            .map_or_else(|| Err("the broker does not run".to_owned()), |process| signal.send(process))
    }

    fn start_process(&mut self) -> Result<(), String> {
        let log_path = self.dir.path().join("broker.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|error| format!("cannot write '{}': {error}", log_path.display()))?;
        let errors = log.try_clone().map_err(|error| format!("cannot write its log: {error}"))?;
        let mut command = java(&self.jars);
        command.arg("kafka.Kafka").arg(self.dir.path().join("server.properties"));
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let mut process = spawned.map_err(|error| format!("java does not start: {error}"))?;
        let address = self.bootstrap_servers();
        let mut has_ended = false;
        let is_up = wait_until(START_LIMIT, || {
            has_ended = matches!(process.try_wait(), Ok(Some(_)));
            has_ended || TcpStream::connect(&address).is_ok()
        });
        self.process = Some(process);
        if has_ended || !is_up {
            let said = fs::read_to_string(&log_path).unwrap_or_default();
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
            return Err(format!("the broker does not come up: {last}"));
        }
        Ok(())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// Makes certificates, and returns the settings for them and for users.
fn secure(dir: &Path) -> Result<String, String> {
    certify(dir)?;
    certify_client(dir, KAFKA_PASSWORD)?;
    authority(dir, "other")?;
    let read = |name: &str| fs::read_to_string(dir.join(name)).map_err(|error| format!("no {name}: {error}"));
    let written = fs::write(dir.join("broker.pem"), read("server.key")? + &read("server.pem")?);
    written.map_err(|error| format!("cannot write its certificate: {error}"))?;
    let at = dir.display();
    let mut text = format!(
        "ssl.keystore.type=PEM\nssl.keystore.location={at}/broker.pem\nssl.truststore.type=PEM\nssl.truststore.location={at}/ca.pem\n\
         listener.name.ssl.ssl.client.auth=required\nsasl.enabled.mechanisms={}\n",
        MECHANISMS.join(",")
    );
    for mechanism in MECHANISMS {
        let module = match mechanism {
            "PLAIN" => format!("plain.PlainLoginModule required user_flott=\"{KAFKA_PASSWORD}\""),
            _ => "scram.ScramLoginModule required".to_owned(),
        };
        for listener in ["sasl", "both"] {
            let option = format!("listener.name.{listener}.{}.sasl.jaas.config", mechanism.to_lowercase());
            text.push_str(&format!("{option}=org.apache.kafka.common.security.{module};\n"));
        }
    }
    Ok(text)
}

/// A small Java machine: it starts in a second, and has little to do.
fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(jars.join("*"));
    command
}

/// The broker's jars, from Maven Central.
fn install() -> Result<PathBuf, String> {
    let dir = services_dir()?.join(format!("kafka-{VERSION}"));
    let done = dir.join("installed");
    if done.exists() {
        return Ok(dir);
    }
    run(Command::new("java").arg("-version"), "java -version")?;
    fs::create_dir_all(&dir).map_err(|error| format!("cannot make '{}': {error}", dir.display()))?;
    let project = dir.join("pom.xml");
    let text = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion><groupId>flott</groupId>\
         <artifactId>broker</artifactId><version>1</version><packaging>pom</packaging><dependencies><dependency>\
         <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency></dependencies></project>"
    );
    fs::write(&project, text).map_err(|error| format!("cannot write '{}': {error}", project.display()))?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(&project).arg("dependency:copy-dependencies");
    maven.arg(format!("-DoutputDirectory={}", dir.display())).arg("-DincludeScope=runtime");
    run(&mut maven, "mvn dependency:copy-dependencies")?;
    fs::write(&done, VERSION).map_err(|error| format!("cannot write '{}': {error}", done.display()))?;
    Ok(dir)
}
