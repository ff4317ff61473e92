//! Reads the log, and runs what writes to it.

use crate::config::{HttpSource, Options};
use crate::ingest::Ingest;
use crate::log::reader::LogReader;
use crate::log::{Log, Shared, oldest};
use crate::server::{Server, listen};
use crate::split::HttpSplit;
use flott_api::message::{DeserializationSchema, MessageCollector, MessageDecoder, RawMessage};
use flott_api::{InputStatus, SplitOutput, SplitReader};
use flott_env::sync::watch;
use flott_env::{Env, Instant};
use flott_types::{Data, Error, ErrorKind, Result};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// An attempt before this one may still hold address and log, for a moment.
const TRY_AGAIN: Duration = Duration::from_millis(50);
const TRY_FOR: Duration = Duration::from_secs(30);

/// Reads the records that clients have posted.
pub struct HttpReader<T> {
    options: Options,
    format: Arc<dyn DeserializationSchema<T>>,
    decoder: Box<dyn MessageDecoder<T>>,
    split: HttpSplit,
    env: Env,
    stage: Stage,
    collector: MessageCollector<T, Number>,
}

/// Where a record stands in the log.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "record {}", self.0)
    }
}

enum Stage {
    Starting {
        /// Where to go on; `None` for the oldest record that there is then.
        from: Option<u64>,
        until: Instant,
        wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    },
    Running {
        log: LogReader,
        shared: Arc<Shared>,
        _stop: watch::Sender<()>,
    },
}

impl<T> fmt::Debug for HttpReader<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: Data> HttpReader<T> {
    pub(crate) fn new(source: &HttpSource<T>, mut split: HttpSplit, env: Env) -> Result<Self> {
        let stage = Stage::Starting { from: split.position, until: env.now() + TRY_FOR, wait: None };
        let HttpSource { options, format } = source.clone();
        // A checkpoint may come before the log can be opened. If it held no position, a restart from it could not tell that records behind it are
        // deleted by then, and would leave them out without a word.
        if split.position.is_none() {
            split.position = Some(oldest(env.fs().as_ref(), &options.directory)?);
        }
        let decoder = format.create_decoder()?;
        Ok(Self { options, format, decoder, split, env, stage, collector: MessageCollector::default() })
    }

    /// Opens the log and listens, if nobody else does.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while let Stage::Starting { from, until, wait } = &mut self.stage {
            if let Some(wait) = wait {
                ready!(wait.as_mut().poll(cx));
            }
            let (from, until) = (*from, *until);
            let why = match self.try_start(from) {
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(Some(why)) => why,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if self.env.now() >= until {
                return Poll::Ready(Err(why));
            }
            self.stage = Stage::Starting { from, until, wait: Some(self.env.sleep(TRY_AGAIN)) };
        }
        Poll::Ready(Ok(()))
    }

    /// Returns why it cannot start now.
    fn try_start(&mut self, from: Option<u64>) -> Result<Option<Error>> {
        let Options { directory, segment_bytes, max_log_bytes, key_limits, .. } = &self.options;
        let Some(log) = Log::open(self.env.fs(), directory, *segment_bytes)? else {
            let message =
                format!("the log in '{}' is in use: one source writes to a log", directory.display());
            return Ok(Some(Error::new(ErrorKind::Retry, message)));
        };
        let listener = match listen(&self.options)? {
            Ok(listener) => listener,
            Err(error) => {
                let message = format!("cannot listen at '{}'", self.options.address);
                return Ok(Some(Error::new(ErrorKind::Retry, message).with_source(error)));
            }
        };
        let log = log.with_key_limits(*key_limits);
        let shared = Arc::clone(log.shared());
        let reader = LogReader::new(Arc::clone(&shared), from)?;
        self.split.position = Some(reader.position());
        let (ingest, write) = Ingest::new(log, *max_log_bytes);
        let (stop, stopped) = watch::channel(());
        let (options, format, env) = (self.options.clone(), Arc::clone(&self.format), self.env.clone());
        let server = Arc::new(Server { options, format, ingest, env });
        // Both end when the reader is dropped: the server sees the channel close, and the writer that nobody can append any more.
        drop(self.env.spawn_subtask("http-log", write));
        drop(self.env.spawn("http-server", server.run(listener, stopped)));
        self.stage = Stage::Running { log: reader, shared, _stop: stop };
        Ok(None)
    }
}

impl<T: Data> SplitReader for HttpReader<T> {
    type Record = T;
    type Split = HttpSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        ready!(self.poll_start(cx))?;
        let Stage::Running { log, .. } = &mut self.stage else { return Poll::Pending };
        if !log.is_ready(cx)? {
            return Poll::Pending;
        }
        let (decoder, collector) = (self.decoder.as_mut(), &mut self.collector);
        let mut decoded = Ok(());
        let read = log.read(records_max, |number, record| {
            if decoded.is_ok() {
                let position = Number(number);
                let message = RawMessage { position, key: None, value: record, timestamp: None };
                decoded = collector.decode(decoder, message, out);
            }
        });
        decoded.and_then(|()| collector.flush(decoder, out))?;
        self.split.position = Some(log.position());
        Poll::Ready(read.map(|()| InputStatus::MoreAvailable))
    }

    fn split(&self) -> HttpSplit {
        self.split.clone()
    }

    fn checkpoint_complete(&mut self, split: &HttpSplit) -> Result<()> {
        if let (Stage::Running { shared, .. }, Some(position)) = (&self.stage, split.position)
            && let Err(error) = shared.delete_before(position)
        {
            // It is tried again with the next checkpoint; until then the log is larger than it need be.
            tracing::warn!(
                "cannot delete what was read of the log in '{}': {error}",
                shared.directory.display()
            );
        }
        Ok(())
    }
}
