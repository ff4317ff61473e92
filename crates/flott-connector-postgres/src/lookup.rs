//! Looks rows up by key, for records that are to be enriched.

mod cache;
mod worker;

use crate::PostgresValue;
use crate::options::{Address, credentials};
use cache::Cache;
use flott_api::{AsyncFunction, UserResult};
use flott_env::Env;
use flott_types::Data;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use worker::Workers;

/// As in Flink's connector for JDBC.
const MAX_RETRIES_DEFAULT: u32 = 3;
const CONNECTIONS_DEFAULT: usize = 4;

/// Looks up rows of a table by the values of some columns: what a stream of records is enriched with, by
/// `async_wait`.
///
/// An answer is as old as the cache lets it be, and after a restart it may be another one: the table has no versions.
pub struct PostgresLookup<T> {
    pub(crate) address: Address,
    pub(crate) table: String,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) key: Vec<String>,
    pub(crate) max_retries: u32,
    connections: usize,
    max_rows: usize,
    expire_after_write: Option<Duration>,
    caching_missing_key: bool,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for PostgresLookup<T> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            table: self.table.clone(),
            columns: self.columns.clone(),
            key: self.key.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for PostgresLookup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLookup")
            .field("address", &self.address)
            .field("table", &self.table)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<T: Data + Sync> PostgresLookup<T> {
    /// Rows of `table` by the columns `key`. Without one of the options of the cache, each record asks the database.
    pub fn new<C: Into<String>>(
        url: impl Into<String>,
        table: impl Into<String>,
        key: impl IntoIterator<Item = C>,
    ) -> Self {
        Self {
            address: Address::new(url),
            table: table.into(),
            columns: None,
            key: key.into_iter().map(Into::into).collect(),
            max_retries: MAX_RETRIES_DEFAULT,
            connections: CONNECTIONS_DEFAULT,
            max_rows: 0,
            expire_after_write: None,
            caching_missing_key: true,
            record: PhantomData,
        }
    }

    credentials!(address);

    /// Reads only these columns.
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// How many keys the cache has; those that were not asked for longest make room: `lookup.partial-cache.max-rows`. By default there is none.
    #[must_use]
    pub fn partial_cache_max_rows(mut self, max_rows: usize) -> Self {
        self.max_rows = max_rows;
        self
    }

    /// How old an answer of the cache may be: `lookup.partial-cache.expire-after-write`. By default as old as it gets.
    #[must_use]
    pub fn partial_cache_expire_after_write(mut self, age: Duration) -> Self {
        self.expire_after_write = Some(age);
        self
    }

    /// Whether the cache remembers that there is no row: `lookup.partial-cache.caching-missing-key`, which it does by default.
    #[must_use]
    pub fn partial_cache_caching_missing_key(mut self, is_cached: bool) -> Self {
        self.caching_missing_key = is_cached;
        self
    }

    /// How often a question is asked again when the connection broke: `lookup.max-retries`.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// How many questions are asked at once, by all subtasks together.
    #[must_use]
    pub fn connections(mut self, n: usize) -> Self {
        self.connections = n.max(1);
        self
    }

    /// The function for `async_wait`: `key_of` says what is looked up for a record, as many values as the key has columns, and `join` makes results of the
    /// record and the rows that were found.
    pub fn function<I, O>(
        self,
        env: &Env,
        key_of: impl Fn(&I) -> Vec<PostgresValue> + Send + Sync + 'static,
        join: impl Fn(I, &[T]) -> Vec<O> + Send + Sync + 'static,
    ) -> LookupFunction<I, O, T> {
        let cache = Cache::new(self.max_rows, self.expire_after_write, self.caching_missing_key);
        let shared = Shared {
            cache: Mutex::new(cache),
            workers: Workers::new(env, self.connections),
            lookup: self,
            env: env.clone(),
            key_of: Box::new(key_of),
            join: Box::new(join),
        };
        LookupFunction(Arc::new(shared))
    }
}

type KeyOf<I> = dyn Fn(&I) -> Vec<PostgresValue> + Send + Sync;
type Join<I, O, T> = dyn Fn(I, &[T]) -> Vec<O> + Send + Sync;

struct Shared<I, O, T> {
    lookup: PostgresLookup<T>,
    env: Env,
    cache: Mutex<Cache<T>>,
    workers: Workers<T>,
    key_of: Box<KeyOf<I>>,
    join: Box<Join<I, O, T>>,
}

/// What [`PostgresLookup::function`] makes. Clones share cache and connections.
pub struct LookupFunction<I, O, T>(Arc<Shared<I, O, T>>);

impl<I, O, T> Clone for LookupFunction<I, O, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I, O, T> fmt::Debug for LookupFunction<I, O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LookupFunction").field(&self.0.lookup).finish()
    }
}

impl<I, O, T> AsyncFunction<I, O> for LookupFunction<I, O, T>
where
    I: Send + 'static,
    O: Send + 'static,
    T: Data + Sync,
{
    fn async_invoke(&self, record: I) -> impl Future<Output = UserResult<Vec<O>>> + Send + 'static {
        let shared = Arc::clone(&self.0);
        async move {
            let key: Vec<Option<String>> =
                (shared.key_of)(&record).iter().map(PostgresValue::to_text).collect();
            let n_columns = shared.lookup.key.len();
            if key.len() != n_columns {
                return Err(format!("the key has {} values for {n_columns} columns", key.len()).into());
            }
            // Nothing equals NULL.
            if key.iter().any(Option::is_none) {
                return Ok((shared.join)(record, &[]));
            }
            let key: Vec<String> = key.into_iter().flatten().collect();
            let cached = shared.cache.lock().map_err(|_| "a lookup panicked")?.get(&key, shared.env.now());
            let rows = match cached {
                Some(rows) => rows,
                None => {
                    let rows = Arc::new(shared.workers.ask(&shared.lookup, key.clone()).await?);
                    let mut cache = shared.cache.lock().map_err(|_| "a lookup panicked")?;
                    cache.put(key, Arc::clone(&rows), shared.env.now());
                    rows
                }
            };
            Ok((shared.join)(record, &rows))
        }
    }
}
