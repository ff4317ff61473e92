//! Stands between clients and a server, and breaks connections when it is told to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Forwards connections to a server. It runs until the process ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Both ends of what is open.
    open: Mutex<Vec<TcpStream>>,
    is_closed: AtomicBool,
    is_stalled: AtomicBool,
    n_cut: AtomicU64,
}

impl Proxy {
    /// Listens at a free port for the server at `upstream`.
    ///
    /// # Errors
    /// If there is no port.
    pub fn start(upstream: impl Into<String>) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("no proxy: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(cannot)?;
        let port = listener.local_addr().map_err(cannot)?.port();
        let (upstream, shared) = (upstream.into(), Arc::<Shared>::default());
        let for_all = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if for_all.is_closed.load(Ordering::Relaxed) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(&upstream) {
                    // An error is a connection that breaks, which is what this is for.
                    for_all.join(client, server).ok();
                }
            }
        });
        Ok(Self { port, shared })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks all connections; returns how many there were.
    pub fn cut(&self) -> u64 {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let ends: Vec<TcpStream> = open.drain(..).collect();
        for end in &ends {
            end.shutdown(Shutdown::Both).ok();
        }
        let n_cut = ends.len() as u64 / 2;
        self.shared.n_cut.fetch_add(n_cut, Ordering::Relaxed);
        n_cut
    }

    /// Whether new connections are taken.
    pub fn set_closed(&self, is_closed: bool) {
        self.shared.is_closed.store(is_closed, Ordering::Relaxed);
    }

    /// Whether nothing is forwarded, on connections that stay open.
    pub fn set_stalled(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::Relaxed);
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(client.try_clone()?);
        open.push(server.try_clone()?);
        drop(open);
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.forward(from, to).ok());
        }
        Ok(())
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
        let mut bytes = [0; 1 << 16];
        loop {
            let n = from.read(&mut bytes).unwrap_or(0);
            while self.is_stalled.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
            let chunk = bytes.get(..n).unwrap_or_default();
            if chunk.is_empty() || to.write_all(chunk).is_err() {
                from.shutdown(Shutdown::Both).ok();
                return to.shutdown(Shutdown::Both);
            }
        }
    }
}
