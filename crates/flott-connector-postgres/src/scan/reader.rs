//! Reads a part of a table, page by page, on a thread of its own.

use super::config::PostgresSource;
use super::split::PostgresSplit;
use crate::client::{Answer, Column, Row};
use crate::decode;
use crate::link::Link;
use crate::schema::{quoted, quoted_list, quoted_table};
use flott_api::{InputStatus, SplitOutput, SplitReader};
use flott_env::sync::mpsc;
use flott_env::{Env, TaskHandle};
use flott_types::{Data, Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, ready};

/// Pages that wait to be taken.
const PAGES_MAX: usize = 2;
/// How often a query is tried again when the connection broke, since the last one that was answered.
const RETRIES_MAX: u32 = 3;

/// A row, as a record if it is one.
struct Item<T> {
    key: String,
    record: Result<T, (String, String)>,
}

type Page<T> = VecDeque<Item<T>>;

/// Reads one part of a table.
pub struct PostgresReader<T> {
    split: PostgresSplit,
    pages: mpsc::Receiver<Result<Page<T>>>,
    page: Page<T>,
    /// The thread ends when nobody takes its pages.
    _thread: TaskHandle,
}

impl<T> fmt::Debug for PostgresReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: Data> PostgresReader<T> {
    pub(super) fn open(source: PostgresSource<T>, split: PostgresSplit, env: &Env) -> Result<Self> {
        let (sender, pages) = mpsc::channel(PAGES_MAX);
        let pager = Pager { source, split: split.clone(), link: None };
        let thread = env.spawn_subtask("postgres-scan", pager.run(sender));
        Ok(Self { split, pages, page: Page::new(), _thread: thread })
    }
}

impl<T: Data> SplitReader for PostgresReader<T> {
    type Record = T;
    type Split = PostgresSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        if self.page.is_empty() {
            match ready!(self.pages.poll_recv(cx)) {
                Some(Ok(page)) if page.is_empty() => return Poll::Ready(Ok(InputStatus::EndOfInput)),
                Some(page) => self.page = page?,
                None => return Poll::Ready(Err(Error::subtask("the thread that reads the table is gone"))),
            }
        }
        let mut n = 0;
        while let Some(item) = self.page.pop_front() {
            let is_last = self.page.front().is_none_or(|next| next.key != item.key);
            let position = || format!("{} = {}", self.split.column, item.key);
            match item.record {
                Ok(record) => {
                    if out.batch.is_empty() {
                        out.position = Some(position());
                    }
                    out.collect(record);
                }
                Err((raw, message)) => out.bad_record(position(), raw.as_bytes(), message),
            }
            n += 1;
            if is_last {
                // Between rows with the same value there is no position.
                self.split.after = Some(item.key);
                if n >= records_max {
                    break;
                }
            }
        }
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }

    fn split(&self) -> PostgresSplit {
        self.split.clone()
    }
}

/// Asks for page after page.
struct Pager<T> {
    source: PostgresSource<T>,
    split: PostgresSplit,
    link: Option<Link>,
}

impl<T: Data> Pager<T> {
    async fn run(mut self, sender: mpsc::Sender<Result<Page<T>>>) {
        loop {
            let page = self.next_page();
            let is_last = page.as_ref().map_or(true, VecDeque::is_empty);
            if sender.send(page).await.is_err() || is_last {
                return;
            }
        }
    }

    /// An empty one is the last. A page begins behind the one before, so it may be asked for again.
    fn next_page(&mut self) -> Result<Page<T>> {
        let mut n_retries = 0;
        let answer = loop {
            match self.ask() {
                Err(error) if error.kind() == ErrorKind::Retry && n_retries < RETRIES_MAX => n_retries += 1,
                answer => break answer?,
            }
        };
        let Some((_, columns)) = answer.columns.split_last() else { return Ok(Page::new()) };
        let n_rows = answer.rows.len();
        let page: Page<T> = answer.rows.into_iter().filter_map(|row| item(columns, row)).collect();
        if page.len() < n_rows {
            let PostgresSplit { column, .. } = &self.split;
            return Err(Error::user(format!(
                "partition column '{column}' of table '{}' has NULLs by now",
                self.source.table
            )));
        }
        if let Some(last) = page.back() {
            self.split.after = Some(last.key.clone());
        }
        Ok(page)
    }

    fn ask(&mut self) -> Result<Answer> {
        let link = match self.link.take().filter(|link| link.client.is_open()) {
            Some(link) => link,
            None => Link::connect(&self.source.address.parse()?, &self.source.table)?,
        };
        let (sql, parameters) = statement(&self.source, &self.split);
        self.link.insert(link).query(&sql, &parameters)
    }
}

/// The next page, whole groups of rows with the same value.
fn statement<'a, T>(source: &PostgresSource<T>, split: &'a PostgresSplit) -> (String, Vec<&'a str>) {
    let PostgresSplit { column, type_name, from, after, upto, .. } = split;
    let key = if type_name == "tid" { column.clone() } else { quoted(column) };
    let columns = match &source.columns {
        Some(columns) => quoted_list(columns.iter().map(String::as_str)),
        None => "*".to_owned(),
    };
    let mut conditions = vec![format!("({})", source.filter.as_deref().unwrap_or("true"))];
    let mut parameters = Vec::new();
    for (operator, value) in [(">=", from), (">", after), ("<=", upto)] {
        if let Some(value) = value {
            parameters.push(value.as_str());
            conditions.push(format!("{key} {operator} ${}::{type_name}", parameters.len()));
        }
    }
    let sql = format!(
        "SELECT {columns}, {key}::text AS flott_key FROM {} WHERE {} ORDER BY {key} FETCH FIRST {} ROWS WITH TIES",
        quoted_table(&source.table),
        conditions.join(" AND "),
        source.fetch_size
    );
    (sql, parameters)
}

/// A row whose last value is its key.
fn item<T: DeserializeOwned>(columns: &[Column], row: Row) -> Option<Item<T>> {
    let mut cells = row.into_cells();
    let key = cells.pop()??;
    let row = Row::new(cells);
    let record = decode::record(columns, &row).map_err(|error| (format!("{row:?}"), error.to_string()));
    Some(Item { key, record })
}
