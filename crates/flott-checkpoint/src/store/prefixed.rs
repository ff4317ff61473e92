//! A part of a store as a store.

use super::{ObjectStore, ObjectWriter};
use flott_env::Metadata;
use std::io;
use std::sync::Arc;

/// What is below a prefix in another store.
#[derive(Debug)]
pub struct PrefixedStore {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl PrefixedStore {
    /// What is below `prefix`, which is a path of `store`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: String) -> Self {
        Self { store, prefix }
    }

    fn full(&self, path: &str) -> String {
        if path.is_empty() { self.prefix.clone() } else { format!("{}/{path}", self.prefix) }
    }
}

impl ObjectStore for PrefixedStore {
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.store.put_if_absent(&self.full(path), bytes)
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn ObjectWriter>> {
        self.store.create(&self.full(path))
    }
    fn get_range(&self, path: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        self.store.get_range(&self.full(path), offset, len)
    }
    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>> {
        self.store.get(&self.full(path), len_max)
    }
    fn metadata(&self, path: &str) -> io::Result<Metadata> {
        self.store.metadata(&self.full(path))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.store.list(&self.full(dir))
    }
    fn list_with_metadata(&self, dir: &str) -> io::Result<Vec<(String, Metadata)>> {
        self.store.list_with_metadata(&self.full(dir))
    }
    fn copy_if_absent(&self, from: &str, to: &str) -> io::Result<()> {
        self.store.copy_if_absent(&self.full(from), &self.full(to))
    }
    fn delete(&self, path: &str) -> io::Result<()> {
        self.store.delete(&self.full(path))
    }
    fn sync(&self, dir: &str) -> io::Result<()> {
        self.store.sync(&self.full(dir))
    }
    fn remove_empty_dir(&self, dir: &str) -> io::Result<()> {
        self.store.remove_empty_dir(&self.full(dir))
    }
    fn location(&self) -> String {
        format!("{}/{}", self.store.location(), self.prefix)
    }
}
