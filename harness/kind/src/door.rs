//! Ways into the engine's network from the host: connections made inside its namespace, and local ports that lead there.
//!
//! A socket belongs to the network namespace of the thread that made it, for ever. So one thread of this process enters
//! the engine's namespace, does nothing but connect, and hands the sockets out. Start at [`Dialer`] and [`Door`].

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Error;

/// A connection inside the engine is local: it is there, or refused, at once.
const CONNECT: Duration = Duration::from_secs(5);

type Request = (SocketAddr, oneshot::Sender<std::io::Result<TcpStream>>);

/// Connects inside the engine's network. Clones share one thread, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct Dialer {
    requests: mpsc::Sender<Request>,
}

impl Dialer {
    /// A dialer for a network namespace, given as a file (`/proc/PID/ns/net`).
    ///
    /// # Errors
    /// Where the namespace cannot be entered.
    pub fn new(namespace: &Path) -> Result<Self, Error> {
        let file = File::open(namespace).map_err(Error::io("open", namespace))?;
        let (requests, received) = mpsc::channel::<Request>();
        let (entered, outcome) = mpsc::channel();
        std::thread::Builder::new()
            .name("engine-dialer".to_owned())
            .spawn(move || {
                let result = setns(&file, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from);
                let failed = result.is_err();
                let _ = entered.send(result);
                if failed {
                    return;
                }
                while let Ok((address, answer)) = received.recv() {
                    let _ = answer.send(TcpStream::connect_timeout(&address, CONNECT));
                }
            })
            .map_err(Error::io("start a thread for", namespace))?;
        let gone = || std::io::Error::other("the thread is gone");
        outcome.recv().unwrap_or_else(|_| Err(gone())).map_err(Error::io("enter", namespace))?;
        Ok(Self { requests })
    }

    /// Connects to an address inside.
    ///
    /// # Errors
    /// As a connection inside would fail.
    pub async fn connect(&self, address: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        let gone = || std::io::Error::other("the engine's dialer is gone");
        let (answer, outcome) = oneshot::channel();
        self.requests.send((address, answer)).map_err(|_| gone())?;
        let stream = outcome.await.map_err(|_| gone())??;
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    }
}

/// A port on the host's loopback that leads to an address inside; closed when dropped.
#[derive(Debug)]
pub struct Door {
    port: u16,
    task: JoinHandle<()>,
}

impl Door {
    /// Opens one, on any free port.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn open(dialer: Dialer, inside: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut outer, _)) = listener.accept().await else { continue };
                let dialer = dialer.clone();
                tokio::spawn(async move {
                    // Either side may end it at any time; the other then sees it closed.
                    if let Ok(mut inner) = dialer.connect(inside).await {
                        let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                    }
                });
            }
        });
        Ok(Self { port, task })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// In this process's own namespace, which an ordinary user may not even enter.
    #[tokio::test]
    async fn a_door_carries_both_directions() {
        let Ok(dialer) = Dialer::new(Path::new("/proc/self/ns/net")) else {
            assert!(!nix::unistd::geteuid().is_root(), "root can enter its own namespace");
            return;
        };
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Door::open(dialer, server.local_addr().unwrap()).await.unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
        });
        let mut client = tokio::net::TcpStream::connect(("127.0.0.1", door.port())).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        served.await.unwrap();
        assert_eq!(answer, "HELLO");
    }
}
