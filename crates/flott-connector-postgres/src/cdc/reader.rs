//! Reads snapshot and log on a thread of its own, and hands on batches with the position behind each.

use super::config::PostgresCdcSource;
use super::enumerator;
use super::log::{Item, Log, item};
use super::pgoutput;
use super::snapshot::{Rows, Table};
use super::split::{Frontier, Lsn, PostgresCdcSplit, Progress, Seen};
use super::stream::{Event, LogStream};
use crate::client::PgError;
use crate::link::Link;
use flott_api::{InputStatus, SplitOutput, SplitReader};
use flott_env::sync::{mpsc, watch};
use flott_env::{Env, Instant, TaskHandle};
use flott_types::{Data, Error, ErrorKind, Result, RowChange, RowKind};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Batches that wait to be taken.
const BATCHES_MAX: usize = 4;
/// Records of a batch, about.
const RECORDS_MAX: usize = 1_000;
/// How often the server hears of us: it gives up after `wal_sender_timeout`, a minute by default.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long to wait for a message before looking around.
const WAIT: Duration = Duration::from_millis(100);
const WAIT_IN_SNAPSHOT: Duration = Duration::from_millis(10);
/// How often to connect again without having read anything.
const FAILURES_MAX: u32 = 3;
/// How many transactions of dropped changes are remembered before somebody looks which are still needed.
const DROPPED_MAX: usize = 1_000;

struct Batch<T> {
    items: Vec<Item<T>>,
    split: PostgresCdcSplit,
}

/// Reads a table and its log.
pub struct PostgresCdcReader<T> {
    split: PostgresCdcSplit,
    batches: mpsc::Receiver<Result<Batch<T>>>,
    acknowledged: watch::Sender<Lsn>,
    /// The thread ends when nobody takes its batches.
    _thread: TaskHandle,
}

impl<T> fmt::Debug for PostgresCdcReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresCdcReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: Data> PostgresCdcReader<T> {
    pub(super) fn open(source: PostgresCdcSource<T>, split: PostgresCdcSplit, env: &Env) -> Result<Self> {
        let (sender, batches) = mpsc::channel(BATCHES_MAX);
        let (acknowledged, of_checkpoints) = watch::channel(Lsn(0));
        let env_of_thread = env.clone();
        let capture = Capture {
            source,
            split: split.clone(),
            env: env_of_thread,
            sender,
            of_checkpoints,
            told_at: env.now(),
            n_failures: 0,
        };
        let thread = env.spawn_subtask("postgres-cdc", capture.run());
        Ok(Self { split, batches, acknowledged, _thread: thread })
    }
}

impl<T: Data> SplitReader for PostgresCdcReader<T> {
    type Record = RowChange<T>;
    type Split = PostgresCdcSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _: usize,
        out: &mut SplitOutput<RowChange<T>>,
    ) -> Poll<Result<InputStatus>> {
        // Positions are between batches, so a batch is taken whole.
        let Some(batch) = ready!(self.batches.poll_recv(cx)) else {
            return Poll::Ready(Err(Error::subtask("the thread that reads the log is gone")));
        };
        let Batch { items, split } = batch?;
        for item in items {
            match item {
                Item::Record(record, at_ms) => {
                    if out.batch.is_empty() {
                        out.position = Some(format!("behind {}", self.split.lsn));
                    }
                    out.collect_with_timestamp(record, at_ms);
                }
                Item::Bad { position, raw, message } => out.bad_record(position, raw.as_bytes(), message),
            }
        }
        self.split = split;
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }

    fn split(&self) -> PostgresCdcSplit {
        self.split.clone()
    }

    fn checkpoint_complete(&mut self, split: &PostgresCdcSplit) -> Result<()> {
        self.acknowledged.send_replace(split.lsn);
        Ok(())
    }
}

/// What the thread does.
struct Capture<T> {
    source: PostgresCdcSource<T>,
    /// Behind what has been handed on.
    split: PostgresCdcSplit,
    env: Env,
    sender: mpsc::Sender<Result<Batch<T>>>,
    /// Up to where a complete checkpoint has everything.
    of_checkpoints: watch::Receiver<Lsn>,
    told_at: Instant,
    /// Since something was handed on.
    n_failures: u32,
}

/// Nobody takes batches any more.
struct Closed;

impl<T: Data> Capture<T> {
    async fn run(mut self) {
        loop {
            let Err(error) = self.capture().await else { return };
            if error.kind() != ErrorKind::Retry
                || self.n_failures >= FAILURES_MAX
                || is_ended_by_somebody(&error)
            {
                // Whoever would hear of it may be gone.
                drop(self.sender.send(Err(error)).await);
                return;
            }
            self.n_failures += 1;
            self.env.sleep(WAIT).await;
        }
    }

    /// Reads on behind what was handed on, until nobody wants more.
    async fn capture(&mut self) -> Result<()> {
        let mut link = Link::connect(&self.source.address.parse()?, &self.source.table)?;
        let table = Table::new(enumerator::look_up(&self.source, &mut link)?);
        enumerator::check(&self.source, &mut link, &self.split)?;
        // An attempt that is over must not end the session of its successor, as it would to read the slot.
        if self.sender.is_closed() {
            return Ok(());
        }
        let mut stream = LogStream::open(&self.source, &mut link, self.split.lsn)?;
        let name = (table.info.schema.clone(), table.info.name.clone());
        let mut log = Log::new(name, table.key().to_vec(), self.source.changelog_mode, self.split.clone());
        while !self.sender.is_closed() {
            if self.is_due() {
                self.tell(&mut stream)?;
            }
            if log.wants_chunk() {
                // Its position is behind what has been read of the log, all of which has been handed on.
                assert_eq!(log.n_items(), 0, "records wait that the position of the chunk has behind it");
                let Some(rows) = table.read_chunk(&mut link, log.progress(), self.source.chunk_size)? else {
                    self.env.sleep(WAIT_IN_SNAPSHOT).await;
                    continue;
                };
                if self.hand_on_chunk(rows, &mut log, &mut stream).await?.is_err() {
                    return Ok(());
                }
                stream.ask()?;
            }
            let wait = if log.awaits_log() { WAIT_IN_SNAPSHOT } else { WAIT };
            stream.set_timeout(wait)?;
            let mut regions = |progress: &Progress, keys: &[_]| table.regions(&mut link, progress, keys);
            match stream.next()? {
                Event::Log(bytes) => {
                    let message = pgoutput::read(&bytes).map_err(|error| stream.describe(error))?;
                    log.message(message, &mut regions)?;
                }
                Event::Keepalive(lsn) => log.passed(lsn),
                Event::Idle => {
                    if log.awaits_log() {
                        stream.ask()?;
                    }
                    // There the connection has not waited either.
                    if !self.env.may_block() {
                        self.env.sleep(wait).await;
                    }
                }
            }
            if log.n_items() >= RECORDS_MAX || log.wants_chunk() || !stream.has_more() {
                let (items, split) = log.take(&mut regions)?;
                if self.hand_on(Batch { items, split }, &mut stream).await?.is_err() {
                    return Ok(());
                }
                forget_dropped(&mut log, &mut link)?;
            }
        }
        Ok(())
    }

    /// Rows, then the log goes on with the chunk as it is.
    async fn hand_on_chunk(
        &mut self,
        rows: Rows,
        log: &mut Log<T>,
        stream: &mut LogStream,
    ) -> Result<Result<(), Closed>> {
        let Rows { columns, rows, chunk, is_last } = rows;
        let mut rows = rows.into_iter().peekable();
        loop {
            let (mut items, mut last) = (Vec::new(), None);
            for (key, row) in rows.by_ref().take(RECORDS_MAX) {
                let position = format!("key {key:?} of the snapshot");
                items.push(item(row, &columns, RowKind::Insert, 0, &position, None));
                last = Some(key);
            }
            let is_end = rows.peek().is_none();
            let frontier = match last {
                Some(key) if !(is_end && is_last) => Frontier::UpTo(key),
                _ => Frontier::Everything,
            };
            log.chunk_read(chunk.clone(), frontier);
            let handed_on = self.hand_on(Batch { items, split: log.split().clone() }, stream).await?;
            if is_end || handed_on.is_err() {
                return Ok(handed_on);
            }
        }
    }

    /// Waits until there is room, and does not let the server believe that nobody is there meanwhile.
    async fn hand_on(&mut self, batch: Batch<T>, stream: &mut LogStream) -> Result<Result<(), Closed>> {
        // The position alone is worth a message only if it says more.
        if batch.items.is_empty() && batch.split == self.split {
            return Ok(Ok(()));
        }
        loop {
            let permit = {
                let mut reserved = pin!(self.sender.clone().reserve_owned());
                let mut pause = self.env.sleep(TELL_EVERY);
                poll_fn(|cx| match reserved.as_mut().poll(cx) {
                    Poll::Ready(permit) => Poll::Ready(Some(permit)),
                    Poll::Pending => pause.as_mut().poll(cx).map(|()| None),
                })
                .await
            };
            match permit {
                Some(Ok(permit)) => {
                    self.split = batch.split.clone();
                    self.n_failures = 0;
                    drop(permit.send(Ok(batch)));
                    return Ok(Ok(()));
                }
                Some(Err(_)) => return Ok(Err(Closed)),
                None => self.tell(stream)?,
            }
        }
    }

    fn is_due(&self) -> bool {
        self.of_checkpoints.has_changed().unwrap_or(false) || self.env.now() - self.told_at >= TELL_EVERY
    }

    /// Only what a complete checkpoint has may be forgotten.
    fn tell(&mut self, stream: &mut LogStream) -> Result<()> {
        self.told_at = self.env.now();
        let acknowledged = *self.of_checkpoints.borrow_and_update();
        stream.tell(acknowledged, self.split.lsn)
    }
}

/// A successor reads the slot: to connect again would end it in turn.
fn is_ended_by_somebody(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<PgError>());
    cause.is_some_and(|cause| cause.code() == "57P01")
}

/// Of many transactions of which changes were dropped, most are such that every new snapshot sees them.
fn forget_dropped<T: Data>(log: &mut Log<T>, link: &mut Link) -> Result<()> {
    let Some(dropped) = log.dropped().filter(|dropped| dropped.len() > DROPPED_MAX) else { return Ok(()) };
    let answer = link.batch("SELECT pg_current_snapshot()::text")?;
    if let Some(seen) = answer.first().and_then(|text| text.parse::<Seen>().ok()) {
        dropped.retain(|xid| !seen.sees(*xid));
    }
    Ok(())
}
