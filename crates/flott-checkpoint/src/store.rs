//! Whole objects by path: the little that checkpoints need from a file system or an object store.

mod contract;
mod local;
mod prefixed;

pub use contract::check_store_contract;
pub use local::LocalStore;
pub use prefixed::PrefixedStore;

use flott_env::Metadata;
use std::fmt;
use std::io;

/// Where objects are. Paths are relative, with components separated by `/`; calls block.
///
/// What implementations promise, and the protocol of docs/design/0003-checkpoints.md rests on:
/// * of any number of [`put_if_absent`](Self::put_if_absent) calls for one path at most one succeeds, and an object is seen whole or not at all;
/// * an object whose put has returned survives any failure that the store survives;
/// * [`list`](Self::list) shows every object whose put had returned, or was visible to anybody, before the call began.
///
/// Local disks and the object stores of today (S3 since 2020, GCS, Azure) can do this. [`check_store_contract`] checks it.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Creates an object and makes it durable.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one. After any other error it may exist or not.
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Begins an object that is written in pieces, and is made by [`ObjectWriter::publish`] as by [`put_if_absent`](Self::put_if_absent).
    ///
    /// # Errors
    /// Whatever the store says; there is no object then.
    fn create(&self, path: &str) -> io::Result<Box<dyn ObjectWriter>>;

    /// Some bytes of an object, exactly `len` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, [`io::ErrorKind::UnexpectedEof`] if it ends before.
    fn get_range(&self, path: &str, offset: u64, len: u64) -> io::Result<Vec<u8>>;

    /// The content of an object.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, [`io::ErrorKind::FileTooLarge`] if it has more than `len_max` bytes.
    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>>;

    /// Length of an object, and when it was made.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none.
    fn metadata(&self, path: &str) -> io::Result<Metadata>;

    /// The names (not paths) of objects and directories directly in a directory, sorted; none if the directory does not exist. The root is `""`.
    ///
    /// # Errors
    /// If the store does not answer: that is never "empty".
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// The names in a directory as [`list`](Self::list) gives them, with what is known of each. Directories have no length.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    fn list_with_metadata(&self, dir: &str) -> io::Result<Vec<(String, Metadata)>> {
        let mut found = Vec::new();
        for name in self.list(dir)? {
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            match self.metadata(&path) {
                Ok(metadata) => found.push((name, metadata)),
                // Not an object, or not any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !self.list(&path)?.is_empty() {
                        found.push((name, Metadata { len: 0, is_dir: true, modified_ms: 0 }));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Makes an object of the content of another one, durably and whole, if there is none.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one, [`io::ErrorKind::NotFound`] if there is nothing to copy. After any other error it may exist
    /// or not.
    fn copy_if_absent(&self, from: &str, to: &str) -> io::Result<()> {
        let _unused = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Deletes an object; one that does not exist is deleted already. It may come back after a power failure: who needs
    /// it gone calls [`sync`](Self::sync).
    ///
    /// # Errors
    /// Whatever the store says.
    fn delete(&self, path: &str) -> io::Result<()>;

    /// Makes deletions in a directory durable.
    ///
    /// # Errors
    /// Whatever the store says.
    fn sync(&self, dir: &str) -> io::Result<()>;

    /// Removes a directory if it is empty; does nothing else, and nothing where directories are only prefixes.
    ///
    /// # Errors
    /// Whatever the store says, but not that it is not empty.
    fn remove_empty_dir(&self, dir: &str) -> io::Result<()>;

    /// Where the root is, for who opens it again later.
    fn location(&self) -> String;
}

/// An object that is being written: nobody sees it before it is published, and nothing is left of one that is dropped, as far as the
/// store can be told. Calls block.
pub trait ObjectWriter: Send + fmt::Debug {
    /// Appends bytes.
    ///
    /// # Errors
    /// Whatever the store says; the object cannot be published any more.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the object, durably, if there is none.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one. After any other error it may exist or not.
    fn publish(self: Box<Self>) -> io::Result<()>;
}

/// Names that begin so are being written; they are nobody's object.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

#[cfg(test)]
mod tests;
