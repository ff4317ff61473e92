//! Bytes to and from the server, encrypted or not.

use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Another way to a server than the network: tests have a server in memory.
pub(crate) trait Dial: Send + Sync + 'static {
    /// Opens a connection. A read of it does not wait: if nothing is there it fails with [`io::ErrorKind::WouldBlock`], as if the time were over.
    fn dial(&self) -> io::Result<Box<dyn Wire>>;
}

/// What [`Dial`] opens.
pub(crate) trait Wire: Read + Write + Send {}

/// A connection to the server.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Dialled(Box<dyn Wire>),
}

impl Stream {
    /// How long a read or a write may take.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
            Self::Dialled(_) => return Ok(()),
        };
        tcp.set_read_timeout(Some(timeout))
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buf),
            Self::Tls(tls) => tls.read(buf),
            Self::Dialled(wire) => wire.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(buf),
            Self::Tls(tls) => tls.write(buf),
            Self::Dialled(wire) => wire.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
            Self::Dialled(wire) => wire.flush(),
        }
    }
}
