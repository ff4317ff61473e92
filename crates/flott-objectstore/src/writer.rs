//! An object that is written while its bytes come: by one request if it stays small, in pieces otherwise.

use crate::runtime::within;
use crate::store::{Connection, LargePut, key, put_once, too_large};
use crate::upload;
use bytes::Bytes;
use flott_checkpoint::ObjectWriter;
use object_store::path::Path;
use object_store::{MultipartUpload, PutMultipartOptions};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Pieces under way at a time, beside the one that is filled: what is written waits for them, and each takes memory.
const PIECES_UNDER_WAY: usize = 2;

pub(crate) struct CloudWriter {
    connection: Connection,
    path: String,
    key: Path,
    /// What no other put has.
    id: String,
    /// What was not sent.
    buffer: Vec<u8>,
    upload: Option<Upload>,
    has_failed: bool,
}

/// An object under a temporary name.
struct Upload {
    parts: Box<dyn MultipartUpload>,
    temp: Path,
    /// Bytes that were sent.
    len: usize,
    under_way: VecDeque<Receiver<io::Result<()>>>,
}

impl fmt::Debug for CloudWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl CloudWriter {
    pub(crate) fn new(connection: Connection, path: &str, id: String) -> io::Result<Self> {
        let (path, key) = (path.to_owned(), key(path)?);
        Ok(Self { connection, path, key, id, buffer: Vec::new(), upload: None, has_failed: false })
    }

    /// Sends what makes a piece, or, at the end, everything.
    fn send(&mut self, at_end: bool) -> io::Result<()> {
        let limits = self.connection.limits;
        while self.buffer.len() >= limits.piece_bytes || at_end && !self.buffer.is_empty() {
            if self.upload.is_none() {
                self.upload = Some(self.begin()?);
            }
            let Some(upload) = &mut self.upload else { break };
            let rest = self.buffer.split_off(limits.piece_bytes.min(self.buffer.len()));
            let piece = Bytes::from(std::mem::replace(&mut self.buffer, rest));
            if upload.under_way.len() >= PIECES_UNDER_WAY {
                upload.wait_for_one()?;
            }
            upload.len += piece.len();
            let sent = upload.parts.put_part(piece.into());
            let sent = async move { within(limits.call(), sent).await };
            upload.under_way.push_back(self.connection.start("write", &self.path, sent)?);
        }
        Ok(())
    }

    fn begin(&self) -> io::Result<Upload> {
        let Connection { client, limits, .. } = &self.connection;
        let temp = upload::temporary(&self.key, &self.id).map_err(io::Error::other)?;
        let (client, limits, to) = (Arc::clone(client), *limits, temp.clone());
        let created = self.connection.call("write", &self.path, async move {
            within(limits.call(), client.put_multipart_opts(&to, PutMultipartOptions::default())).await
        });
        Ok(Upload { parts: created?, temp, len: 0, under_way: VecDeque::new() })
    }

    fn put_at_once(&mut self) -> io::Result<()> {
        let Connection { client, limits, .. } = &self.connection;
        let payload = Bytes::from(std::mem::take(&mut self.buffer));
        let time = upload::time_for(payload.len(), *limits);
        let put = put_once(Arc::clone(client), self.key.clone(), payload, self.id.clone(), time);
        self.connection.call("create", &self.path, put)
    }

    fn put_pieces_in_place(&mut self) -> io::Result<()> {
        self.send(true)?;
        while self.upload.as_ref().is_some_and(|upload| !upload.under_way.is_empty()) {
            self.upload.as_mut().map_or(Ok(()), Upload::wait_for_one)?;
        }
        let Some(Upload { mut parts, temp, len, .. }) = self.upload.take() else { return Ok(()) };
        let Connection { client, limits, .. } = &self.connection;
        let (client, limits, key) = (Arc::clone(client), *limits, self.key.clone());
        self.connection.call("create", &self.path, async move {
            if let Err(error) = within(limits.call(), parts.complete()).await {
                drop(within(limits.call(), parts.abort()).await);
                return Err(error);
            }
            upload::put_in_place(client, &temp, &key, len, limits).await
        })
    }
}

impl Upload {
    fn wait_for_one(&mut self) -> io::Result<()> {
        let Some(oldest) = self.under_way.pop_front() else { return Ok(()) };
        oldest.recv().unwrap_or_else(|_| Err(io::Error::other("the client of the object store panicked")))
    }
}

impl ObjectWriter for CloudWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        let sent = match self.connection.large {
            LargePut::Single(max) if self.buffer.len() as u64 > max => {
                Err(too_large(&self.path, self.buffer.len() as u64, max))
            }
            // Only as a whole, when all of it is there.
            LargePut::Single(_) => Ok(()),
            LargePut::CopyIfAbsent
                if self.upload.is_none()
                    && self.buffer.len() <= self.connection.limits.single_put_bytes_max =>
            {
                Ok(())
            }
            LargePut::CopyIfAbsent => self.send(false),
        };
        self.has_failed |= sent.is_err();
        sent
    }

    fn publish(mut self: Box<Self>) -> io::Result<()> {
        if self.has_failed {
            let message = format!("'{}' was not written whole", self.path);
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, message));
        }
        if self.upload.is_none() { self.put_at_once() } else { self.put_pieces_in_place() }
    }
}

impl Drop for CloudWriter {
    fn drop(&mut self) {
        if let Some(Upload { mut parts, .. }) = self.upload.take() {
            let limit = self.connection.limits.call();
            // Pieces that nobody removes are paid for; should this fail, a rule of the bucket can.
            drop(self.connection.call(
                "abort",
                &self.path,
                async move { within(limit, parts.abort()).await },
            ));
        }
    }
}
