//! The threads on which clients talk to their servers.
//!
//! Whoever uses a store blocks, and may do so inside of another runtime, where one cannot wait for a future: so futures run here, and the
//! caller waits at a channel.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Threads for requests: they wait more than they compute, but for checksums and TLS.
const THREADS: usize = 2;

/// Runs requests; joined by nobody, because whoever needs a request waits for it, and one that nobody waits for has no effect that counts.
#[derive(Debug)]
pub(crate) struct IoRuntime {
    /// There until the drop.
    runtime: Option<Runtime>,
}

impl IoRuntime {
    #[expect(
        clippy::disallowed_methods,
        reason = "the client library needs tokio's reactor; nothing here is simulated"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("flott-objectstore")
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs `future` and waits for it on the calling thread, whatever that is.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let receiver = self.start(future)?;
        receiver.recv().unwrap_or_else(|_| Err(io::Error::other("the client of the object store panicked")))
    }

    /// Runs `future`; the receiver gets what it returns, or nothing if it panics.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        future: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<mpsc::Receiver<io::Result<T>>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("the runtime has ended"))?;
        runtime.spawn(async move {
            // Nobody may wait any more.
            drop(sender.send(future.await));
        });
        Ok(receiver)
    }
}

/// The last to hold it may be a thread of another runtime, which must not wait.
impl Drop for IoRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// `future`, given up after `limit`: whatever a client waits for, nobody waits for ever.
#[expect(clippy::disallowed_methods, reason = "real requests under a real clock; nothing here is simulated")]
pub(crate) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| {
        let source = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
        Err(object_store::Error::Generic { store: "client", source: Box::new(source) })
    })
}

/// Waits before the next try.
#[expect(clippy::disallowed_methods, reason = "real requests under a real clock; nothing here is simulated")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
