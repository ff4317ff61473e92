//! Stands between clients and a server, and breaks connections when it is told to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Which request a [`Proxy`] waits for, and what it does then.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// Whether these bytes, which a client has sent at once, are the request.
    pub is_meant: fn(&[u8]) -> bool,
    /// What is lost when all connections break: the request, or with `true` only its answer.
    pub loses_answer: bool,
}

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
    trap: Mutex<Option<Trap>>,
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
        self.shared.cut()
    }

    /// Whether new connections are taken.
    pub fn set_closed(&self, is_closed: bool) {
        self.shared.is_closed.store(is_closed, Ordering::Relaxed);
    }

    /// Breaks all connections at the next request that is meant; returns the trap that was set before and has not sprung.
    pub fn set_trap(&self, trap: Option<Trap>) -> Option<Trap> {
        std::mem::replace(&mut *self.shared.trap.lock().unwrap_or_else(PoisonError::into_inner), trap)
    }

    /// Whether a trap is set that has not sprung.
    pub fn has_trap(&self) -> bool {
        self.shared.trap.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether nothing is forwarded, on connections that stay open.
    pub fn set_stalled(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::Relaxed);
    }
}

impl Shared {
    fn cut(&self) -> u64 {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let ends: Vec<TcpStream> = open.drain(..).collect();
        for end in &ends {
            end.shutdown(Shutdown::Both).ok();
        }
        ends.len() as u64 / 2
    }

    /// Takes the trap if this is the request that it is for.
    fn spring(&self, bytes: &[u8]) -> Option<Trap> {
        let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        trap.take_if(|trap| (trap.is_meant)(bytes))
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(client.try_clone()?);
        open.push(server.try_clone()?);
        drop(open);
        let loses_answer = Arc::new(AtomicBool::new(false));
        for (from, to, is_request) in
            [(client.try_clone()?, server.try_clone()?, true), (server, client, false)]
        {
            let (shared, loses_answer) = (Arc::clone(self), Arc::clone(&loses_answer));
            thread::spawn(move || shared.forward(from, to, is_request, &loses_answer).ok());
        }
        Ok(())
    }

    fn forward(
        &self,
        mut from: TcpStream,
        mut to: TcpStream,
        is_request: bool,
        loses_answer: &AtomicBool,
    ) -> io::Result<()> {
        let mut bytes = [0; 1 << 16];
        loop {
            let n = from.read(&mut bytes).unwrap_or(0);
            while self.is_stalled.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
            let chunk = bytes.get(..n).unwrap_or_default();
            match is_request.then(|| self.spring(chunk)).flatten() {
                Some(Trap { loses_answer: true, .. }) => loses_answer.store(true, Ordering::Relaxed),
                Some(_) => drop(self.cut()),
                None => {}
            }
            if !is_request && loses_answer.load(Ordering::Relaxed) {
                self.cut();
            }
            if chunk.is_empty() || to.write_all(chunk).is_err() {
                from.shutdown(Shutdown::Both).ok();
                return to.shutdown(Shutdown::Both);
            }
        }
    }
}
