//! The external servers of a cluster: one container on the nodes' network that plays them all, with as many addresses as
//! are wanted.
//!
//! Its addresses are of a range of their own, on the same link as the nodes: the node has a route to the range, the
//! container one back to the pods, and nothing between them changes an address, so a server sees the pod that called.
//! An address of the range that nobody has is routed, and unanswered. Start at [`Servers::start`].

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use egress_image::SERVER;

use crate::engine::Engine;
use crate::error::Error;
use crate::wait;

/// The range of the servers' addresses.
pub const OUTSIDE: &str = "192.168.0.0/24";
/// The range of pods' addresses.
const PODS: &str = "10.244.0.0/16";
/// kind's Docker network.
const NETWORK: &str = "kind";
const START: Duration = Duration::from_secs(30);

/// The servers' container.
#[derive(Debug)]
pub struct Servers {
    container: String,
    socket: PathBuf,
}

impl Servers {
    /// Starts the container beside a cluster's nodes, and the routes between them.
    ///
    /// # Errors
    /// Where the image is not in the engine, or the container does not come up.
    pub async fn start(engine: &Engine, cluster: &str) -> Result<Self, Error> {
        let container = format!("{cluster}-external-servers");
        // Inside the engine its run folder is at /run/engine; a socket works across network namespaces.
        let file = format!("{cluster}.sock");
        let label = format!("egress-conformance={cluster}");
        let control = format!("unix:/control/{file}");
        let mut run = vec!["run", "--detach", "--name", &container, "--network", NETWORK, "--label", &label];
        run.extend(["--cap-add", "NET_ADMIN", "--volume", "/run/engine:/control", "--pull", "never", SERVER]);
        run.extend(["--control", &control]);
        engine.docker("starting the external servers", &run).await?;
        let servers = Self { container, socket: engine.run_folder().join(file) };
        wait::until(START, async || {
            tokio::net::UnixStream::connect(&servers.socket).await.map(drop).map_err(|error| error.to_string())
        })
        .await
        .map_err(|seen| Error::Engine {
            why: format!("the external servers do not answer within {} s: {seen}", START.as_secs()),
            tail: String::new(),
        })?;
        servers.add_routes(engine, cluster).await?;
        Ok(servers)
    }

    async fn add_routes(&self, engine: &Engine, cluster: &str) -> Result<(), Error> {
        let node = format!("{cluster}-control-plane");
        let format = format!("{{{{(index .NetworkSettings.Networks \"{NETWORK}\").IPAddress}}}}");
        let address = engine.docker("asking for the node's address", &["inspect", "--format", &format, &node]).await?;
        let address = address.trim();
        let back = ["exec", &self.container, "ip", "route", "replace", PODS, "via", address];
        engine.docker("routing the servers' answers to pods", &back).await?;
        let there = ["exec", &node, "ip", "route", "replace", OUTSIDE, "dev", "eth0"];
        engine.docker("routing pods to the servers", &there).await.map(|_| ())
    }

    /// The servers' control socket, on the host.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Gives the container exactly these addresses of [`OUTSIDE`], beside its own.
    ///
    /// # Errors
    /// Where the container is gone.
    pub async fn set_addresses(&self, engine: &Engine, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        let script = address_script(addresses);
        let exec = ["exec", &self.container, "sh", "-euc", &script];
        engine.docker("giving the external servers their addresses", &exec).await.map(|_| ())
    }
}

/// Sets exactly these addresses. They are of the whole range's length, so that the container answers for the link.
fn address_script(addresses: &[Ipv4Addr]) -> String {
    let prefix = OUTSIDE.split_once('/').map_or("32", |(_, length)| length);
    let mut script = format!("ip -4 address flush dev eth0 to {OUTSIDE}\n");
    for address in addresses {
        script.push_str(&format!("ip address add {address}/{prefix} dev eth0\n"));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_no_longer_wanted_go() {
        let script = address_script(&[Ipv4Addr::new(192, 168, 0, 78)]);
        let lines: Vec<&str> = script.lines().collect();
        assert_eq!(
            lines,
            ["ip -4 address flush dev eth0 to 192.168.0.0/24", "ip address add 192.168.0.78/24 dev eth0"]
        );
    }
}
