//! The servers, and how they are used.

use flott_services::{Azure, Gcs, S3};
use flott_types::Configuration;

/// One of those that the tests are run with.
pub(crate) enum Server {
    S3(S3),
    Gcs(Gcs),
    Azure(Azure),
}

/// Who may not do anything, and where.
pub(crate) struct Denied {
    pub(crate) config: Configuration,
    pub(crate) place: String,
    /// What is said of the settings.
    pub(crate) remedy: &'static str,
    /// That does not let everybody in.
    _strict: Option<S3>,
}

pub(crate) const SERVERS: [&str; 3] = ["S3", "Google Cloud Storage", "Azure"];

impl Server {
    /// Starts the one of that name.
    pub(crate) fn start(name: &str) -> Result<Self, String> {
        match name {
            "S3" => S3::start(&[]).map(Self::S3),
            "Azure" => Azure::start().map(Self::Azure),
            _ => Gcs::start().map(Self::Gcs),
        }
    }

    pub(crate) fn address(&self) -> &str {
        match self {
            Self::S3(server) => server.address(),
            Self::Gcs(server) => server.address(),
            Self::Azure(server) => server.address(),
        }
    }

    /// A new bucket or container: `s3://bucket`.
    pub(crate) fn bucket(&self) -> String {
        match self {
            Self::S3(server) => format!("s3://{}", server.bucket()),
            Self::Gcs(server) => format!("gs://{}", server.bucket()),
            Self::Azure(server) => azure(server, &server.container()),
        }
    }

    /// One that is not there.
    pub(crate) fn missing_bucket(&self) -> String {
        match self {
            Self::S3(_) => "s3://no-such-bucket".to_owned(),
            Self::Gcs(_) => "gs://no-such-bucket".to_owned(),
            Self::Azure(server) => azure(server, "no-such-bucket"),
        }
    }

    /// The configuration of who uses it.
    pub(crate) fn config(&self) -> Configuration {
        self.config_at(self.address())
    }

    /// The same by way of another address.
    pub(crate) fn config_at(&self, address: &str) -> Configuration {
        let endpoint = format!("http://{address}");
        match self {
            Self::S3(_) => configuration([
                ("s3.endpoint", endpoint),
                ("s3.access-key", "flott-access".to_owned()),
                ("s3.secret-key", "flott-secret-hunter2".to_owned()),
                ("s3.region", "us-east-1".to_owned()),
            ]),
            Self::Gcs(server) => configuration([
                ("gs.storage.root.url", endpoint),
                ("gs.auth.service.account.json.keyfile", server.key_file().display().to_string()),
            ]),
            Self::Azure(server) => configuration([
                ("fs.azure.abfs.endpoint", endpoint),
                (azure_key(server).as_str(), server.key().to_owned()),
            ]),
        }
    }

    /// Somebody who may not do anything.
    pub(crate) fn denied(&self) -> Denied {
        let mut config = self.config();
        let mut strict = None;
        let remedy = match self {
            Self::S3(_) => {
                // From the first request on, this one wants to know the key.
                let server = S3::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]).unwrap();
                config = self.config_at(server.address());
                strict = Some(server);
                "check 's3.access-key'"
            }
            Self::Gcs(server) => {
                let file = server.unknown_key_file().display().to_string();
                config.set("gs.auth.service.account.json.keyfile", &file).unwrap();
                "check 'gs.auth.service.account.json.keyfile'"
            }
            Self::Azure(server) => {
                // "hunter2hunter2", as keys are written.
                config.set(&azure_key(server), "aHVudGVyMmh1bnRlcjI=").unwrap();
                "check 'fs.azure.account.key."
            }
        };
        let place = if strict.is_some() { "s3://bucket".to_owned() } else { self.bucket() };
        Denied { config, place, remedy, _strict: strict }
    }

    /// Whether pieces of an object that was never completed are in a bucket.
    pub(crate) fn has_uploads(&self, bucket: &str) -> bool {
        let name = bucket.split_once("://").map_or(bucket, |(_, name)| name);
        match self {
            Self::S3(server) => server.has_uploads(name),
            Self::Gcs(server) => server.has_uploads(name),
            // Everything is put at once.
            Self::Azure(_) => false,
        }
    }
}

fn azure(server: &Azure, container: &str) -> String {
    format!("abfs://{container}@{}.dfs.core.windows.net", server.account())
}

fn azure_key(server: &Azure) -> String {
    format!("fs.azure.account.key.{}.dfs.core.windows.net", server.account())
}

fn configuration<const N: usize>(settings: [(&str, String); N]) -> Configuration {
    let mut config = Configuration::default();
    for (key, value) in settings {
        config.set(key, &value).unwrap();
    }
    config
}

/// Whether a text has a secret of one of these servers.
pub(crate) fn tells_a_secret(text: &str) -> bool {
    ["hunter2", "aHVudGVyMm", "PRIVATE KEY", "Bearer ", "eyJ"].iter().any(|secret| text.contains(secret))
}
