//! The contract of [`ObjectStore`] over a client of `object_store`.

use crate::error::{Place, kind};
use crate::runtime::{IoRuntime, pause, within};
use crate::settings::Limits;
use crate::upload;
use crate::writer::CloudWriter;
use bytes::{Bytes, BytesMut};
use flott_checkpoint::{ObjectStore, ObjectWriter};
use flott_env::Metadata;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error as ClientError, GetOptions, GetRange, ObjectMeta, ObjectStore as Client,
    ObjectStoreExt, PutMode, PutOptions,
};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How an object is created that is too large for one short request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LargePut {
    /// In pieces under a temporary name, which is then copied by a conditional request.
    CopyIfAbsent,
    /// By one conditional request that takes its time, of up to this many bytes.
    #[cfg_attr(not(feature = "azure"), expect(dead_code, reason = "Azure copies later than it answers"))]
    Single(u64),
}

/// The way to one bucket or container.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) place: Place,
    pub(crate) client: Arc<dyn Client>,
    pub(crate) large: LargePut,
    pub(crate) runtime: Arc<IoRuntime>,
    pub(crate) limits: Limits,
}

/// One bucket or container.
pub struct CloudStore {
    connection: Connection,
    /// Distinguishes puts of this store from those of others, at random.
    nonce: u64,
    written: AtomicU64,
}

impl fmt::Debug for CloudStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Clients show their credentials.
        f.debug_struct("CloudStore").field("bucket", &self.connection.place.bucket).finish_non_exhaustive()
    }
}

/// The name of the metadata in which an object has the number of the put that made it. Azure allows letters and digits only.
const PUT_ID: &str = "flottput";

/// A conditional put of which the answer was lost, and which is not there, is tried this often.
const PUT_TRIES: u32 = 3;

/// The pause before the second try; it doubles.
const PUT_PAUSE: Duration = Duration::from_millis(200);

impl CloudStore {
    pub(crate) fn new(
        place: Place,
        client: Arc<dyn Client>,
        large: LargePut,
        runtime: Arc<IoRuntime>,
        limits: Limits,
        nonce: u64,
    ) -> Self {
        let connection = Connection { place, client, large, runtime, limits };
        Self { connection, nonce, written: AtomicU64::new(0) }
    }

    fn call<T: Send + 'static>(
        &self,
        attempted: &'static str,
        path: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.connection.call(attempted, path, request)
    }

    /// What no other put has.
    fn put_id(&self) -> String {
        format!("{:016x}-{}", self.nonce, self.written.fetch_add(1, Ordering::Relaxed))
    }
}

impl Connection {
    /// Runs a request and tells its error.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        attempted: &'static str,
        path: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let (place, path) = (self.place.clone(), path.to_owned());
        self.runtime.wait(async move { request.await.map_err(|error| place.error(attempted, &path, &error)) })
    }

    /// The same without waiting.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        attempted: &'static str,
        path: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<Receiver<io::Result<T>>> {
        let (place, path) = (self.place.clone(), path.to_owned());
        self.runtime
            .start(async move { request.await.map_err(|error| place.error(attempted, &path, &error)) })
    }
}

pub(crate) fn too_large(path: &str, len: u64, max: u64) -> io::Error {
    let message =
        format!("'{path}' has {len} bytes, and the store takes {max} at once: raise the parallelism");
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

pub(crate) fn key(path: &str) -> io::Result<Path> {
    let invalid = |error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("'{path}' is no path of an object: {error}"))
    };
    Path::parse(path).map_err(invalid)
}

impl ObjectStore for CloudStore {
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (Connection { client, limits, large, .. }, id) = (self.connection.clone(), self.put_id());
        let (key, payload) = (key(path)?, Bytes::copy_from_slice(bytes));
        if payload.len() <= limits.single_put_bytes_max {
            return self.call("create", path, put_once(client, key, payload, id, limits.call()));
        }
        match large {
            LargePut::Single(max) if payload.len() as u64 > max => {
                Err(too_large(path, payload.len() as u64, max))
            }
            LargePut::Single(_) => {
                let limit = upload::time_for(payload.len(), limits);
                self.call("create", path, put_once(client, key, payload, id, limit))
            }
            LargePut::CopyIfAbsent => {
                self.call("create", path, upload::put_in_pieces(client, key, payload, id, limits))
            }
        }
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(CloudWriter::new(self.connection.clone(), path, self.put_id())?))
    }

    fn get_range(&self, path: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let Connection { client, limits, .. } = self.connection.clone();
        let (key, range) = (key(path)?, offset..offset.saturating_add(len));
        let found = self.call("read", path, get_range(client, key, range, limits))?;
        if found.len() as u64 == len {
            return Ok(found);
        }
        let message = format!("'{path}' has {} of {len} bytes from {offset} on", found.len());
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }

    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>> {
        let (Connection { client, limits, .. }, key) = (self.connection.clone(), key(path)?);
        let found = self.call("read", path, get_at_most(client, key, len_max, limits))?;
        found.map_err(|len| {
            let message = format!("'{path}' has {len} bytes, {len_max} are expected at most");
            io::Error::new(io::ErrorKind::FileTooLarge, message)
        })
    }

    fn metadata(&self, path: &str) -> io::Result<Metadata> {
        let (Connection { client, limits, .. }, key) = (self.connection.clone(), key(path)?);
        let limit = limits.call();
        let found = self.call("look at", path, async move { within(limit, client.head(&key)).await })?;
        Ok(Metadata { len: found.size, is_dir: false, modified_ms: found.last_modified.timestamp_millis() })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let (Connection { client, limits, .. }, prefix) = (self.connection.clone(), key(dir)?);
        let limit = limits.call();
        let listed = self.call("list", dir, {
            let prefix = prefix.clone();
            async move {
                let prefix = Some(&prefix).filter(|prefix| !prefix.is_root());
                // A directory of a job has few hundred names, which is one page; more take more time.
                within(limit * 4, client.list_with_delimiter(prefix)).await
            }
        })?;
        let objects = listed.objects.into_iter().map(|object| object.location);
        // Some tools make an object of the name of a directory: it is not in it.
        let found = objects.chain(listed.common_prefixes).filter(|found| *found != prefix);
        let mut names: Vec<_> = found.filter_map(|found| found.filename().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn list_with_metadata(&self, dir: &str) -> io::Result<Vec<(String, Metadata)>> {
        let (Connection { client, limits, .. }, prefix) = (self.connection.clone(), key(dir)?);
        let limit = limits.call();
        let listed = self.call("list", dir, {
            let prefix = prefix.clone();
            async move {
                let prefix = Some(&prefix).filter(|prefix| !prefix.is_root());
                within(limit * 4, client.list_with_delimiter(prefix)).await
            }
        })?;
        let objects = listed.objects.into_iter().map(|object| {
            let modified_ms = object.last_modified.timestamp_millis();
            (object.location, Metadata { len: object.size, is_dir: false, modified_ms })
        });
        let dirs = listed.common_prefixes.into_iter();
        let dirs = dirs.map(|path| (path, Metadata { len: 0, is_dir: true, modified_ms: 0 }));
        let found = objects.chain(dirs).filter(|(path, _)| *path != prefix);
        let mut found: Vec<_> =
            found.filter_map(|(path, it)| Some((path.filename()?.to_owned(), it))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.dedup_by(|a, b| a.0 == b.0);
        Ok(found)
    }

    fn copy_if_absent(&self, from: &str, to: &str) -> io::Result<()> {
        let Connection { client, limits, large, .. } = self.connection.clone();
        let (source, target) = (key(from)?, key(to)?);
        match large {
            LargePut::CopyIfAbsent => self.call("copy", from, async move {
                let len = within(limits.call(), client.head(&source)).await?.size;
                upload::copy(client.as_ref(), &source, &target, len, limits).await
            }),
            // Its copies may go on after the answer.
            LargePut::Single(max) => self.put_if_absent(to, &self.get(from, max)?),
        }
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        let (Connection { client, limits, .. }, key) = (self.connection.clone(), key(path)?);
        let limit = limits.call();
        match self.call("delete", path, async move { within(limit, client.delete(&key)).await }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    fn sync(&self, _: &str) -> io::Result<()> {
        // A deletion that was answered is durable.
        Ok(())
    }

    fn remove_empty_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn location(&self) -> String {
        self.connection.place.bucket.clone()
    }
}

/// Creates an object by one conditional request. One whose answer was lost, or that the client tried again after the server had
/// done it, is told by `id`: so of any number of puts one succeeds, and it knows.
pub(crate) async fn put_once(
    client: Arc<dyn Client>,
    key: Path,
    payload: Bytes,
    id: String,
    limit: Duration,
) -> object_store::Result<()> {
    let mut backoff = PUT_PAUSE;
    let mut tries = 1;
    loop {
        let attributes = Attributes::from_iter([(Attribute::Metadata(PUT_ID.into()), id.clone())]);
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        let put = client.put_opts(&key, payload.clone().into(), options);
        let Err(error) = within(limit, put).await else { return Ok(()) };
        if !may_have_worked(&error) {
            return Err(error);
        }
        match put_id_of(client.as_ref(), &key, limit).await {
            Ok(found) if found.as_deref() == Some(id.as_str()) => return Ok(()),
            Ok(_) => {
                return Err(ClientError::AlreadyExists { path: key.to_string(), source: Box::new(error) });
            }
            // Nothing is there: the request did not arrive, or met another of which nothing is left. If it arrives yet, it makes
            // the same object.
            Err(ClientError::NotFound { .. }) if tries < PUT_TRIES => {}
            // Whether it exists is not known, so it must not be told that it does.
            Err(_) if kind(&error) == io::ErrorKind::AlreadyExists => {
                return Err(ClientError::Generic { store: "client", source: Box::new(error) });
            }
            Err(_) => return Err(error),
        }
        pause(backoff).await;
        backoff *= 2;
        tries += 1;
    }
}

/// Whether the server may have done what it was asked for, although this is the answer.
fn may_have_worked(error: &ClientError) -> bool {
    !matches!(
        kind(error),
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
    ) && !matches!(error, ClientError::NotSupported { .. } | ClientError::NotImplemented { .. })
}

/// The put that made an object, if one of ours did.
async fn put_id_of(client: &dyn Client, key: &Path, limit: Duration) -> object_store::Result<Option<String>> {
    let options = GetOptions { head: true, ..GetOptions::default() };
    let found = within(limit, client.get_opts(key, options)).await?;
    Ok(found.attributes.get(&Attribute::Metadata(PUT_ID.into())).map(|id| id.as_ref().to_owned()))
}

/// The content of an object, or its length if that is more than `len_max`.
async fn get_at_most(
    client: Arc<dyn Client>,
    key: Path,
    len_max: u64,
    limits: Limits,
) -> object_store::Result<Result<Vec<u8>, u64>> {
    let first = within(limits.call(), client.get_opts(&key, GetOptions::default())).await?;
    let meta = first.meta.clone();
    if meta.size > len_max {
        return Ok(Err(meta.size));
    }
    let bytes: Vec<u8> = if meta.size <= limits.piece_bytes as u64 {
        within(limits.call(), first.bytes()).await?.into()
    } else {
        // The rest of this answer is not read: each piece has a time limit of its own.
        drop(first);
        get_in_pieces(client, &key, &meta, limits).await?.into()
    };
    if bytes.len() as u64 != meta.size {
        let message = format!("{} of {} bytes came", bytes.len(), meta.size);
        return Err(ClientError::Generic { store: "client", source: message.into() });
    }
    Ok(Ok(bytes))
}

/// These bytes, or none if the object ends before.
async fn get_range(
    client: Arc<dyn Client>,
    key: Path,
    range: Range<u64>,
    limits: Limits,
) -> object_store::Result<Vec<u8>> {
    let len = range.end - range.start;
    let found = if len == 0 {
        None
    } else {
        let time = upload::time_for(usize::try_from(len).unwrap_or(usize::MAX), limits);
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let asked = async { client.get_opts(&key, options).await?.bytes().await };
        Some(within(time, asked).await)
    };
    match found {
        Some(Ok(bytes)) => Ok(bytes.into()),
        // Behind the end each service has an error of its own, and an empty range is an error to some.
        other => {
            let size = within(limits.call(), client.head(&key)).await?.size;
            match other {
                Some(Err(error)) if size >= range.end => Err(error),
                _ => Ok(Vec::new()),
            }
        }
    }
}

async fn get_in_pieces(
    client: Arc<dyn Client>,
    key: &Path,
    meta: &ObjectMeta,
    limits: Limits,
) -> object_store::Result<Bytes> {
    let piece_bytes = limits.piece_bytes as u64;
    let starts = (0..meta.size.div_ceil(piece_bytes)).map(|piece| piece * piece_bytes);
    let pieces = starts.map(|start| {
        let range = start..(start + piece_bytes).min(meta.size);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let (client, key) = (Arc::clone(&client), key.clone());
        async move {
            let piece = within(limits.call(), client.get_opts(&key, options)).await?;
            within(limits.call(), piece.bytes()).await
        }
    });
    let pieces = futures_util::stream::iter(pieces).buffered(limits.pieces_at_once);
    let whole = BytesMut::new();
    let whole = pieces.try_fold(whole, |mut whole, piece| async move {
        whole.extend_from_slice(&piece);
        Ok(whole)
    });
    Ok(whole.await?.freeze())
}

#[cfg(test)]
mod tests;
