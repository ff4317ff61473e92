//! Connections that ask, each on a thread of its own.

use super::PostgresLookup;
use crate::catalog;
use crate::decode;
use crate::link::Link;
use crate::schema::{quoted, quoted_list, quoted_table};
use flott_api::UserResult;
use flott_env::sync::{mpsc, oneshot};
use flott_env::{Env, TaskHandle};
use flott_types::{Data, Error, ErrorKind, Result};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Questions that wait for one connection.
const QUESTIONS_MAX: usize = 256;

struct Question<T> {
    lookup: PostgresLookup<T>,
    key: Vec<String>,
    answer: oneshot::Sender<Result<Vec<T>>>,
}

/// They end when nobody can ask any more.
pub(super) struct Workers<T> {
    senders: Vec<mpsc::Sender<Question<T>>>,
    next: AtomicUsize,
    _threads: Vec<TaskHandle>,
}

impl<T> fmt::Debug for Workers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("n", &self.senders.len()).finish_non_exhaustive()
    }
}

impl<T: Data> Workers<T> {
    pub(super) fn new(env: &Env, n: usize) -> Self {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..n).map(|_| mpsc::channel(QUESTIONS_MAX)).unzip();
        let threads =
            receivers.into_iter().map(|questions| env.spawn_subtask("postgres-lookup", work(questions)));
        Self { senders, next: AtomicUsize::new(0), _threads: threads.collect() }
    }

    pub(super) async fn ask(&self, lookup: &PostgresLookup<T>, key: Vec<String>) -> UserResult<Vec<T>> {
        let gone =
            || Error::subtask(format!("the thread that looks up rows of table '{}' is gone", lookup.table));
        let idx = self.next.fetch_add(1, Ordering::Relaxed) % self.senders.len().max(1);
        let sender = self.senders.get(idx).ok_or_else(gone)?;
        let (answer, received) = oneshot::channel();
        sender.send(Question { lookup: lookup.clone(), key, answer }).await.map_err(|_| gone())?;
        Ok(received.await.map_err(|_| gone())??)
    }
}

async fn work<T: Data>(mut questions: mpsc::Receiver<Question<T>>) {
    let mut asker = Asker::default();
    while let Some(Question { lookup, key, answer }) = questions.recv().await {
        let mut n_retries = 0;
        let rows = loop {
            match asker.ask(&lookup, &key) {
                Err(error) if error.kind() == ErrorKind::Retry && n_retries < lookup.max_retries => {
                    n_retries += 1
                }
                rows => break rows,
            }
        };
        // Whoever asked may have been cancelled.
        drop(answer.send(rows));
    }
}

/// A connection, and the statement, which has the types of the key's columns.
#[derive(Default)]
struct Asker {
    link: Option<(Link, String)>,
}

impl Asker {
    fn ask<T: Data>(&mut self, lookup: &PostgresLookup<T>, key: &[String]) -> Result<Vec<T>> {
        let open = match self.link.take().filter(|(link, _)| link.client.is_open()) {
            Some(open) => open,
            None => {
                let mut link = Link::connect(&lookup.address.parse()?, &lookup.table)?;
                let sql = statement(lookup, &mut link)?;
                (link, sql)
            }
        };
        let (link, sql) = self.link.insert(open);
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        let answer = link.query(sql, &key)?;
        let record = |row| {
            decode::record(&answer.columns, row).map_err(|error| {
                link.refuse(&format!("the row of {key:?} is not as the program expects: {error}"))
            })
        };
        answer.rows.iter().map(record).collect()
    }
}

fn statement<T>(lookup: &PostgresLookup<T>, link: &mut Link) -> Result<String> {
    let table = catalog::look_up(link)?;
    if lookup.key.is_empty() {
        return Err(link.refuse("the key of a lookup has no columns"));
    }
    let mut conditions = Vec::new();
    for (idx, name) in lookup.key.iter().enumerate() {
        let Some(column) = table.column(name) else {
            return Err(link.refuse(&format!(
                "there is no column '{name}' of the key; name columns that the table has"
            )));
        };
        conditions.push(format!("{} = ${}::{}", quoted(name), idx + 1, column.type_name));
    }
    let columns = match &lookup.columns {
        Some(columns) => quoted_list(columns.iter().map(String::as_str)),
        None => "*".to_owned(),
    };
    Ok(format!("SELECT {columns} FROM {} WHERE {}", quoted_table(&lookup.table), conditions.join(" AND ")))
}
