//! A schema registry that speaks the protocol of Confluent's: Apicurio Registry, from Maven Central. Its schemas are in memory.

use crate::http::Message;
use crate::process::{Listening, installed, run};
use crate::proxy::Proxy;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The newest of those that run with Java 17 and are on Maven Central as a whole.
const VERSION: &str = "2.6.13.Final";

/// The protocol of Confluent's registry, of version 7.
const PATH: &str = "/apis/ccompat/v7";

/// A schema registry, which runs until it is dropped.
pub struct SchemaRegistryServer {
    server: Listening,
    proxy: Proxy,
}

impl fmt::Debug for SchemaRegistryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaRegistryServer").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl SchemaRegistryServer {
    /// Installs it if need be and starts it. As with Confluent's, readers of a new version of a schema must be able to read what was written with
    /// the last one.
    ///
    /// # Errors
    /// Why it cannot be had: there is no Java or no Maven, the package index is out of reach, ….
    pub fn start() -> Result<Self, String> {
        let dir = install()?;
        let mut command = Command::new("java");
        command.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.args(["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.http.port=0", "-jar"]);
        command.arg(dir.join(format!("apicurio-registry-app-{VERSION}-runner.jar")));
        let server = Listening::start(&mut command, "the schema registry", "Listening on: http://")?;
        let proxy = Proxy::start(server.address())?;
        let registry = Self { server, proxy };
        registry.request("PUT", "/config", br#"{"compatibility":"BACKWARD"}"#)?;
        Ok(registry)
    }

    /// Where clients ask.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.server.address())
    }

    /// The same behind its proxy.
    pub fn proxied_url(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.proxy.port())
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<(), String> {
        let address = self.server.address();
        let mut request = Message::new(format!("{method} {PATH}{path} HTTP/1.1"));
        request.set("Host", address);
        request.set("Content-Type", "application/vnd.schemaregistry.v1+json");
        request.set("Content-Length", body.len().to_string());
        request.body = body.to_vec();
        let answer = request.exchange(address).map_err(|error| format!("the schema registry: {error}"))?;
        let is_good = answer.start.contains(" 200");
        is_good.then_some(()).ok_or_else(|| format!("the schema registry answers {}", answer.start))
    }
}

/// The whole of it is one archive.
fn install() -> Result<PathBuf, String> {
    installed(&format!("apicurio-{VERSION}"), |dir| {
        run(Command::new("java").arg("-version"), "java -version")?;
        fs::create_dir_all(dir).map_err(|error| format!("cannot make '{}': {error}", dir.display()))?;
        let mut maven = Command::new("mvn");
        // It leaves marks of what it has unpacked where it runs.
        maven.args(["-q", "-B", "dependency:unpack"]).current_dir(dir);
        maven.arg(format!("-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"));
        maven.arg(format!("-DoutputDirectory={}", dir.display()));
        run(&mut maven, "mvn dependency:unpack")
    })
}
