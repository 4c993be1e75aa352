//! The cluster's DNS server: Services, and the external names of the running scenarios.
//!
//! It answers from memory only and asks nobody: an unknown name does not exist. Services and
//! EndpointSlices come from watches of the API server, external names from its owner: in a sandbox by
//! a call, in a cluster's pod through a Unix socket ([`send_names`]). Start at [`Dns::serve`]; what is answered is
//! decided in [`store`], purely.

mod control;
mod handler;
mod names;
mod store;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hickory_server::Server;
use kube::Client;
use tokio::net::{TcpListener, UdpSocket};

use store::Store;

pub use control::{DEFAULT_CONTROL, send_names, take_names};
pub use names::{NameAnswer, Names};

/// The DNS server's data, shared by the server, the watches and the owner's requests.
#[derive(Debug, Clone, Default)]
pub struct Dns {
    store: Arc<RwLock<Store>>,
}

impl Dns {
    /// Serves UDP and TCP on port 53 of an address, in the background, until the runtime ends.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn serve(&self, address: Ipv4Addr) -> std::io::Result<()> {
        let at = SocketAddr::from((address, 53));
        let udp = UdpSocket::bind(at).await?;
        let tcp = TcpListener::bind(at).await?;
        let mut server = Server::new(handler::Handler::new(self.clone()));
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(30), 16);
        tokio::spawn(async move {
            if let Err(error) = server.block_until_done().await {
                tracing::error!(%error, "the DNS server ended");
            }
        });
        Ok(())
    }

    /// Follows the cluster's Services and EndpointSlices, in the background. Returns once those
    /// that exist now are known.
    pub async fn follow(&self, client: Client) {
        watch::follow(self.clone(), client).await;
    }

    /// Replaces the external names, in force when it returns.
    pub fn set_names(&self, names: &Names) {
        self.write(|store| store.set_names(names));
    }

    fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.store.read().expect("no code panics while it holds the store"))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        change(&mut self.store.write().expect("no code panics while it holds the store"))
    }
}
