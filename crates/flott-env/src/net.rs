//! Byte streams.

use tokio::io::AsyncRead;

/// A connection that can be read without blocking, by any executor.
pub trait AsyncStream: AsyncRead + Send + Unpin {}
impl<T: AsyncRead + Send + Unpin> AsyncStream for T {}
