//! The one way in from the host: a port on its loopback, carried to the API server inside.
//!
//! The socket was bound before the namespaces were made, and a listening socket keeps its network
//! namespace. Bytes are copied as they are; TLS ends at the API server, whose certificate names
//! 127.0.0.1. Start at [`serve`].

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

/// Accepts connections for ever and connects each to `target`.
pub(crate) async fn serve(door: TcpListener, target: SocketAddr) {
    loop {
        match door.accept().await {
            Ok((client, _)) => drop(tokio::spawn(carry(client, target))),
            // Out of descriptors, or a client that hung up early: others may still come.
            Err(error) => {
                tracing::warn!(%error, "the door could not accept a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr) {
    let result = async {
        let mut server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    };
    if let Err(error) = result.await {
        tracing::debug!(%error, "a connection through the door ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_end_of_one_way_too() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = door.local_addr().unwrap();
        tokio::spawn(serve(door, target.local_addr().unwrap()));
        let server = async {
            let (mut peer, _) = target.accept().await.unwrap();
            let mut all = String::new();
            peer.read_to_string(&mut all).await.unwrap();
            peer.write_all(all.to_uppercase().as_bytes()).await.unwrap();
        };
        let client = async {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        assert_eq!(tokio::join!(server, client).1, "HELLO");
    }
}
