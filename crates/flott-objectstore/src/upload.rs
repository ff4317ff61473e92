//! Objects that take more than one request: uploaded in pieces under a temporary name, then put in place by a conditional copy.
//!
//! Services know conditions for requests that create an object, but the client library does not pass one with the request that ends an
//! upload in pieces. The copy is done by the server, and seen whole or not at all.

use crate::runtime::within;
use crate::settings::Limits;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, MultipartUpload, ObjectStore as Client, ObjectStoreExt, PutMultipartOptions,
};
use std::sync::Arc;
use std::time::Duration;

/// Names of objects that are being made; the clean-up of checkpoints knows them.
const TEMP_PREFIX: &str = ".tmp-";

/// What a server copies, or a slow line carries, in a second at least.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// What a request about `len` bytes may take.
pub(crate) fn time_for(len: usize, limits: Limits) -> Duration {
    limits.call() + Duration::from_secs(len as u64 / BYTES_PER_SECOND_MIN)
}

/// Creates an object if there is none. `id` is a number that no other put has.
pub(crate) async fn put_in_pieces(
    client: Arc<dyn Client>,
    key: Path,
    payload: Bytes,
    id: String,
    limits: Limits,
) -> object_store::Result<()> {
    let temp = temporary(&key, &id)?;
    let len = payload.len();
    let created = within(limits.call(), client.put_multipart_opts(&temp, PutMultipartOptions::default()));
    let mut upload = created.await?;
    if let Err(error) = send_pieces(upload.as_mut(), payload, limits).await {
        // Pieces that nobody removes are paid for; should this fail, a rule of the bucket can.
        drop(within(limits.call(), upload.abort()).await);
        return Err(error);
    }
    put_in_place(client, &temp, &key, len, limits).await
}

/// The temporary name of an object.
pub(crate) fn temporary(key: &Path, id: &str) -> Result<Path, object_store::path::Error> {
    let (dir, name) = key.as_ref().rsplit_once('/').unwrap_or(("", key.as_ref()));
    Path::parse(format!("{dir}/{TEMP_PREFIX}{id}-{name}"))
}

/// Makes the object `key` of the `len` bytes of `temp`, if there is none, and removes that.
pub(crate) async fn put_in_place(
    client: Arc<dyn Client>,
    temp: &Path,
    key: &Path,
    len: usize,
    limits: Limits,
) -> object_store::Result<()> {
    let copied = copy(client.as_ref(), temp, key, len as u64, limits).await;
    // Whether or not it worked, the temporary name has served; should it stay, garbage collection removes it.
    drop(within(limits.call(), client.delete(temp)).await);
    copied
}

/// Makes the object `to` of the `len` bytes of `from`, if there is none.
pub(crate) async fn copy(
    client: &dyn Client,
    from: &Path,
    to: &Path,
    len: u64,
    limits: Limits,
) -> object_store::Result<()> {
    let options = CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() };
    let time = time_for(usize::try_from(len).unwrap_or(usize::MAX), limits);
    within(time, client.copy_opts(from, to, options)).await
}

async fn send_pieces(
    upload: &mut dyn MultipartUpload,
    payload: Bytes,
    limits: Limits,
) -> object_store::Result<()> {
    let starts = (0..payload.len()).step_by(limits.piece_bytes);
    let pieces: Vec<_> = starts
        .map(|start| payload.slice(start..(start + limits.piece_bytes).min(payload.len())))
        .map(|piece| within(limits.call(), upload.put_part(piece.into())))
        .collect();
    let sent = futures_util::stream::iter(pieces);
    sent.buffer_unordered(limits.pieces_at_once).try_collect::<Vec<()>>().await?;
    within(limits.call(), upload.complete()).await.map(|_| ())
}
