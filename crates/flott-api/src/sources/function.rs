//! A closure per split.

use crate::source::{Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput};
use crate::split_source::{SplitReader, SplitSource};
use crate::{BoxError, UserResult};
use flott_env::Env;
use flott_types::{Data, Error, Result, SplitId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a split that had nothing waits before it is asked again, unless the source says otherwise.
const POLL_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);

type Read<T, P> = Box<dyn FnMut(&mut P, &mut SplitOutput<T>) -> UserResult<InputStatus> + Send>;
type Open<T, P> = dyn Fn(&str, &P) -> UserResult<Read<T, P>> + Send + Sync;

/// A source of splits that closures read: the short way to write a source whose splits are known at the start.
///
/// A split is a name and a position of type `P`, which is kept in checkpoints. `open` is called where a split is read, with the position to
/// go on from: at the start, after a restart, or in another subtask. What it returns is called again and again; it reads one record or
/// some, hands them to [`SplitOutput`] (those that cannot be read too, see [`OnError`](crate::OnError)), and moves the position behind them. After a call the position must
/// be that of the next record: a checkpoint may be taken then.
///
/// [`InputStatus::EndOfInput`] ends the split. A call that returns [`InputStatus::MoreAvailable`] without a record says that there is nothing now,
/// and the next call comes a [`FnSource::poll_interval`] later. Closures may block, but the subtask takes no checkpoint meanwhile; a source that is
/// woken by what it reads from implements [`SplitSource`].
///
/// ```
/// use flott_api::sources::FnSource;
/// use flott_api::{InputStatus, SplitOutput};
///
/// let countdowns = FnSource::new([("a", 3_u64), ("b", 2)], |name: &str, _: &u64| {
///     let name = name.to_owned();
///     Ok(move |left: &mut u64, out: &mut SplitOutput<String>| {
///         if *left == 0 {
///             return Ok(InputStatus::EndOfInput);
///         }
///         out.collect(format!("{name}{left}"));
///         *left -= 1;
///         Ok(InputStatus::MoreAvailable)
///     })
/// });
/// # let _source: FnSource<String, u64> = countdowns;
/// ```
pub struct FnSource<T, P> {
    splits: Vec<FnSplit<P>>,
    open: Arc<Open<T, P>>,
    boundedness: Boundedness,
    poll_interval: Duration,
}

impl<T, P: Clone> Clone for FnSource<T, P> {
    fn clone(&self) -> Self {
        let Self { splits, open, boundedness, poll_interval } = self;
        Self {
            splits: splits.clone(),
            open: Arc::clone(open),
            boundedness: *boundedness,
            poll_interval: *poll_interval,
        }
    }
}

impl<T, P: fmt::Debug> fmt::Debug for FnSource<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnSource").field("splits", &self.splits).finish_non_exhaustive()
    }
}

impl<T, P> FnSource<T, P> {
    /// A source of splits, each with its name and the position where it starts, that ends when all of them have ended. An error of a closure fails
    /// the subtask, and a restart strategy decides; a [`flott_types::Error`] keeps its kind.
    pub fn new<N, R>(
        splits: impl IntoIterator<Item = (N, P)>,
        open: impl Fn(&str, &P) -> UserResult<R> + Send + Sync + 'static,
    ) -> Self
    where
        N: Into<String>,
        R: FnMut(&mut P, &mut SplitOutput<T>) -> UserResult<InputStatus> + Send + 'static,
    {
        let splits = splits.into_iter().map(|(name, position)| FnSplit { name: name.into(), position });
        Self {
            splits: splits.collect(),
            open: Arc::new(move |name, position| Ok(Box::new(open(name, position)?))),
            boundedness: Boundedness::Bounded,
            poll_interval: POLL_INTERVAL_DEFAULT,
        }
    }

    /// Declares that the splits do not end.
    #[must_use]
    pub fn unbounded(self) -> Self {
        Self { boundedness: Boundedness::ContinuousUnbounded, ..self }
    }

    /// How long a split that had nothing waits before it is asked again: 100 ms unless set.
    #[must_use]
    pub fn poll_interval(self, poll_interval: Duration) -> Self {
        Self { poll_interval, ..self }
    }
}

/// A split by its name, from a position on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FnSplit<P> {
    name: String,
    position: P,
}

impl<P: Data + fmt::Debug> SourceSplit for FnSplit<P> {
    fn split_id(&self) -> SplitId {
        SplitId(self.name.clone())
    }
}

impl<T: Data, P: Data + fmt::Debug + Sync> SplitSource for FnSource<T, P> {
    type Record = T;
    type Split = FnSplit<P>;
    type Reader = FnReader<T, P>;

    fn boundedness(&self) -> Boundedness {
        self.boundedness
    }

    fn splits(&self, _: u32) -> Result<Vec<FnSplit<P>>> {
        let mut names = BTreeSet::new();
        for FnSplit { name, .. } in &self.splits {
            if !names.insert(name) {
                return Err(Error::user(format!(
                    "two splits of a source are called '{name}': give each a name of its own"
                )));
            }
        }
        Ok(self.splits.clone())
    }

    fn open(&self, split: FnSplit<P>, ctx: &SourceReaderContext) -> Result<FnReader<T, P>> {
        let read = (self.open)(&split.name, &split.position).map_err(|error| failed("open", error))?;
        Ok(FnReader { read, split, env: ctx.env.clone(), poll_interval: self.poll_interval, pause: None })
    }
}

/// What a closure reads is outside, and may be there again at the next attempt.
fn failed(what: &str, error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::subtask(format!("the function failed to {what} it")).with_source(error),
    }
}

/// Reads one split by its closure.
pub struct FnReader<T, P> {
    read: Read<T, P>,
    split: FnSplit<P>,
    env: Env,
    poll_interval: Duration,
    /// There was nothing: until when nobody asks.
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T, P: fmt::Debug> fmt::Debug for FnReader<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: Data, P: Data + fmt::Debug + Sync> SplitReader for FnReader<T, P> {
    type Record = T;
    type Split = FnSplit<P>;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        let n_read = |out: &SplitOutput<T>| out.batch.len() + out.bad_records.len();
        let n_before = n_read(out);
        if out.batch.is_empty() {
            out.position = Some(format!("position {:?}", self.split.position));
        }
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let n_so_far = n_read(out);
            let status = (self.read)(&mut self.split.position, out).map_err(|error| failed("read", error))?;
            if status == InputStatus::EndOfInput {
                return Poll::Ready(Ok(status));
            }
            if n_read(out) == n_so_far {
                self.pause = Some(self.env.sleep(self.poll_interval));
                // What was read before goes on its way first.
                if n_so_far > n_before {
                    return Poll::Ready(Ok(InputStatus::MoreAvailable));
                }
            } else if n_read(out) - n_before >= records_max {
                return Poll::Ready(Ok(InputStatus::MoreAvailable));
            }
        }
    }

    fn split(&self) -> FnSplit<P> {
        self.split.clone()
    }
}
