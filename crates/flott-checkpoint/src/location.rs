//! Where checkpoints, savepoints and snapshots to start from are: a local directory, or a prefix in an object store.
//!
//! The stores behind other schemes than `file:` are not known here. Who has some gives them to the environment
//! ([`ObjectStores`]), and everything that opens a [`Location`] in that environment finds them: as Flink's factories of file systems.

use crate::store::{LocalStore, ObjectStore, PrefixedStore};
use flott_env::Env;
use flott_types::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens object stores by the scheme of a URI.
pub trait ObjectStoreFactory: Send + Sync + fmt::Debug {
    /// The bucket or container that `location` is in, whole: paths begin at its root. Called again for the same one, it gives the same.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) for a scheme that it does not know, or settings that cannot be.
    fn open(&self, location: &RemoteLocation) -> Result<Arc<dyn ObjectStore>>;
}

/// The object stores of an environment: a setting of it ([`Env::with_settings`]).
#[derive(Clone, Debug)]
pub struct ObjectStores(pub Arc<dyn ObjectStoreFactory>);

/// A directory, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine.
    Local(PathBuf),
    /// A prefix in an object store.
    Remote(RemoteLocation),
}

/// A prefix in an object store: `scheme://authority/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteLocation {
    /// The scheme, in lower case: `s3`, `gs`, `abfs`, ….
    pub scheme: String,
    /// The bucket; for Azure `container@account.host`.
    pub authority: String,
    /// The way from there, without slashes at its ends; empty for the whole bucket.
    pub path: String,
}

impl fmt::Display for RemoteLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Local(path.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        Self::Local(path.clone())
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Local(path)
    }
}

impl From<&Self> for Location {
    fn from(location: &Self) -> Self {
        location.clone()
    }
}

impl Location {
    /// Reads a path or a URI. Paths and `file:` URIs become absolute: they are recorded, and read by later processes.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if it is no path, or a URI without a bucket, or with a password in it.
    pub fn parse(text: &str) -> Result<Self> {
        let path = match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
                rest.strip_prefix("//").unwrap_or(rest)
            }
            Some((scheme, rest)) if is_scheme(scheme) && rest.starts_with("//") => {
                return RemoteLocation::parse(scheme, rest.trim_start_matches('/')).map(Self::Remote);
            }
            Some(_) | None => text,
        };
        let absolute = std::path::absolute(path);
        absolute
            .map(Self::Local)
            .map_err(|error| Error::user(format!("'{text}' is no path")).with_source(error))
    }

    /// Opens what is here; relative paths of the store begin here. Nothing is read or created yet.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if the environment has no store for the scheme.
    pub fn open(&self, env: &Env) -> Result<Arc<dyn ObjectStore>> {
        let remote = match self {
            Self::Local(path) => return Ok(Arc::new(LocalStore::new(env.fs(), path, env.random_u64()))),
            Self::Remote(remote) => remote,
        };
        let Some(ObjectStores(factory)) = env.settings() else { return Err(unsupported(&remote.scheme)) };
        let bucket = factory.open(remote)?;
        Ok(if remote.path.is_empty() {
            bucket
        } else {
            Arc::new(PrefixedStore::new(bucket, remote.path.clone()))
        })
    }

    /// The last part of the path; none for a root.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Local(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Self::Remote(remote) => {
                remote.path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
            }
        }
    }

    /// The directory that this one is in; none for a root.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Local(path) => path.parent().map(Self::from),
            Self::Remote(remote) if remote.path.is_empty() => None,
            Self::Remote(remote) => {
                let path = remote.path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
                Some(Self::Remote(RemoteLocation { path, ..remote.clone() }))
            }
        }
    }

    /// What is `relative` to here, with components separated by `/`.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        let parts = relative.split('/').filter(|part| !part.is_empty());
        match self {
            Self::Local(path) => Self::Local(parts.fold(path.clone(), |path, part| path.join(part))),
            Self::Remote(remote) => {
                let above = remote.path.split('/').filter(|part| !part.is_empty());
                let path = above.chain(parts).collect::<Vec<_>>().join("/");
                Self::Remote(RemoteLocation { path, ..remote.clone() })
            }
        }
    }
}

impl RemoteLocation {
    fn parse(scheme: &str, rest: &str) -> Result<Self> {
        let scheme = scheme.to_ascii_lowercase();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // Not shown: what is before the '@' may be a password.
        if authority.contains('@') && feature_of(&scheme) != Some("azure") {
            return Err(Error::user(format!(
                "a '{scheme}:' path has an '@' in its bucket: keys are no part of a path, set them in the configuration"
            )));
        }
        let path = path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
        if authority.is_empty() {
            return Err(Error::user(format!(
                "'{scheme}://{rest}' names no bucket: expected {scheme}://bucket/path"
            )));
        }
        if let Some(part) = path.iter().find(|part| matches!(**part, "." | "..")) {
            return Err(Error::user(format!(
                "'{scheme}://{rest}' has '{part}' in its path, which object stores do not know"
            )));
        }
        Ok(Self { scheme, authority: authority.to_owned(), path: path.join("/") })
    }
}

/// The cargo feature that brings stores of a scheme.
pub fn feature_of(scheme: &str) -> Option<&'static str> {
    match scheme {
        "s3" | "s3a" => Some("s3"),
        "gs" => Some("gcs"),
        "abfs" | "abfss" | "az" | "wasb" | "wasbs" => Some("azure"),
        _ => None,
    }
}

/// There is no store for paths of this scheme, and what to do about it.
pub fn unsupported(scheme: &str) -> Error {
    Error::user(match feature_of(scheme) {
        Some(feature) => format!(
            "this build cannot use '{scheme}:' paths: turn on the feature '{feature}' of the crate flott (or flott-cli)"
        ),
        None => format!(
            "there is no storage for '{scheme}:' paths, only for local ones (file:), s3:, gs: and abfs:"
        ),
    })
}

/// As RFC 3986 has it, so that a path with a colon in it stays a path.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_env::sim::Simulation;

    fn shown(text: &str) -> String {
        Location::parse(text).map_or_else(|error| error.to_string(), |location| location.to_string())
    }

    #[test]
    fn paths_and_uris_are_told_apart() {
        for (text, expected) in [
            ("/a/b", "/a/b"),
            ("file:///a/b", "/a/b"),
            ("file:/a", "/a"),
            ("/a:b//c", "/a:b/c"),
            ("s3://bucket", "s3://bucket"),
            ("S3://bucket//a//b/", "s3://bucket/a/b"),
            ("abfs://c@account.dfs.core.windows.net/x", "abfs://c@account.dfs.core.windows.net/x"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(matches!(Location::parse("chk-1"), Ok(Location::Local(path)) if path.is_absolute()));
    }

    #[test]
    fn uris_that_cannot_be_meant_are_refused_and_passwords_not_shown() {
        assert_eq!(shown("s3:///a"), "s3://a", "the slashes of a URI without a host are forgiven");
        assert!(shown("s3://").contains("names no bucket"), "{}", shown("s3://"));
        assert!(shown("s3://b/a/../c").contains("'..'"));
        let error = shown("s3://key:hunter2@bucket/a");
        assert!(error.contains("'@'") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_scheme_without_a_store_names_the_feature() {
        let env = Simulation::new(1).env();
        let error = |text| {
            Location::parse(text)
                .expect("a location")
                .open(&env)
                .map(|_| ())
                .expect_err("no store")
                .to_string()
        };
        assert!(error("s3a://b/x").contains("feature 's3'"), "{}", error("s3a://b/x"));
        assert!(error("gs://b/x").contains("feature 'gcs'"));
        assert!(error("abfss://b/x").contains("feature 'azure'"));
        assert!(error("hdfs://b/x").contains("no storage for 'hdfs:'"));
    }

    #[test]
    fn locations_are_walked_as_directories() {
        for root in ["/a", "s3://a"] {
            let root = Location::parse(root).expect("a location");
            let below = root.join("b/chk-1");
            assert_eq!(below.name().as_deref(), Some("chk-1"));
            assert_eq!(below.parent(), Some(root.join("b")));
            assert_eq!(below.parent().and_then(|b| b.parent()), Some(root));
        }
        assert_eq!(Location::parse("s3://a").expect("a location").parent(), None);
    }
}
