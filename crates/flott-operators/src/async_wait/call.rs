//! The calls of one record: tries, delays between them, and the time they may take together.

use flott_api::{AsyncFunction, AsyncRetryStrategy, UserResult};
use flott_env::Env;
use futures_util::future::{Either, select};
use std::pin::{Pin, pin};
use std::time::Duration;

/// What came of the calls of one record.
pub(super) enum Outcome<O> {
    /// The last try has ended.
    Ended(UserResult<Vec<O>>),
    /// They took longer than this.
    TimedOut(Duration),
}

/// The calls of the record with this sequence number.
pub(super) type Call<O> = Pin<Box<dyn Future<Output = (u64, Outcome<O>)> + Send>>;

#[derive(Clone, Copy)]
pub(super) struct CallSettings {
    pub(super) timeout: Option<Duration>,
    pub(super) retry: AsyncRetryStrategy,
}

/// Prepares the calls of a record; the first is made when the future is polled. The time-out runs from now on.
pub(super) fn start_call<I, O, F>(
    seq: u64,
    record: I,
    function: F,
    settings: CallSettings,
    env: &Env,
) -> Call<O>
where
    I: Clone + Send + 'static,
    O: Send + 'static,
    F: AsyncFunction<I, O>,
{
    let time_out = settings.timeout.map(|timeout| (timeout, env.sleep(timeout)));
    let env = env.clone();
    Box::pin(async move {
        let tries = pin!(try_until_given_up(record, function, settings.retry, env));
        let Some((timeout, deadline)) = time_out else {
            return (seq, Outcome::Ended(tries.await));
        };
        match select(tries, deadline).await {
            Either::Left((results, _)) => (seq, Outcome::Ended(results)),
            Either::Right(((), _)) => (seq, Outcome::TimedOut(timeout)),
        }
    })
}

async fn try_until_given_up<I, O, F>(
    record: I,
    function: F,
    retry: AsyncRetryStrategy,
    env: Env,
) -> UserResult<Vec<O>>
where
    I: Clone + Send + 'static,
    F: AsyncFunction<I, O>,
{
    let mut attempt = 1;
    while let Some(delay) = retry.delay(attempt) {
        if let Ok(results) = function.async_invoke(record.clone()).await {
            return Ok(results);
        }
        env.sleep(delay).await;
        attempt += 1;
    }
    function.async_invoke(record).await
}
