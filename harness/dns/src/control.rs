//! How names reach a server that runs in a pod: JSON over a Unix socket in its own container, so that only whoever may
//! exec there can change them.
//!
//! One connection carries one request: all names, then the end of the stream; the answer is `ok`, or what is wrong.
//! Start at [`take_names`] and [`send_names`].

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::{Dns, Names};

/// Where the socket is, unless told otherwise.
pub const DEFAULT_CONTROL: &str = "/run/egress-dns.sock";

const DONE: &str = "ok";

/// Takes names from the socket, in the background, until the runtime ends.
///
/// # Errors
/// Where the socket cannot be made. One left by an earlier server is replaced.
pub fn take_names(dns: Dns, path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        loop {
            let served = match listener.accept().await {
                Ok((stream, _)) => serve(&dns, stream).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::warn!(%error, "a control connection failed");
            }
        }
    });
    Ok(())
}

async fn serve(dns: &Dns, mut stream: UnixStream) -> io::Result<()> {
    let mut body = Vec::new();
    stream.read_to_end(&mut body).await?;
    let answer = match serde_json::from_slice::<Names>(&body) {
        Ok(names) => {
            dns.set_names(&names);
            tracing::info!(names = names.len(), "external names replaced");
            DONE.to_owned()
        }
        Err(error) => format!("expected a map of names as JSON: {error}"),
    };
    stream.write_all(answer.as_bytes()).await
}

/// Replaces the names of the server behind that socket; they are in force when it returns.
///
/// # Errors
/// Where the server cannot be reached, or refuses.
pub async fn send_names(path: &Path, json: &[u8]) -> io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(json).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer == DONE { Ok(()) } else { Err(io::Error::other(answer)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_in_force_when_the_call_returns_and_nonsense_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let dns = Dns::default();
        take_names(dns.clone(), &path).unwrap();
        send_names(&path, br#"{"my.server.com": {"addresses": ["192.0.2.7"]}}"#).await.unwrap();
        let known = |dns: &Dns| dns.read(|store| store.look_up("my.server.com."));
        assert_eq!(known(&dns).addresses, Some(vec!["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]));
        let refused = send_names(&path, b"[1]").await.unwrap_err();
        assert!(refused.to_string().contains("expected a map of names"), "{refused}");
        assert!(known(&dns).addresses.is_some());
    }
}
