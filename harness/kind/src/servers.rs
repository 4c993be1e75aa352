//! The external servers of a cluster: one container on the nodes' network that plays them all, with as many addresses as
//! are wanted.
//!
//! Its addresses are of a range of their own, on the same link as the nodes: the node has a route to the range, the
//! container one back to the pods, and nothing between them changes an address, so a server sees the pod that called.
//! An address of the range that nobody has is routed, and unanswered. The container is made by testcontainers, which
//! speaks to the daemon that `DOCKER_HOST` names in this process's environment. Start at [`Servers::start`].

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use egress_image::SERVER;
use ipnet::Ipv4Net;
use testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers::core::{IntoContainerPort, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use crate::cluster::Cluster;
use crate::docker::Docker;
use crate::error::Error;
use crate::node::{self, PODS};
use crate::wait;

/// The range of the servers' addresses.
pub const OUTSIDE: &str = "192.168.0.0/24";
/// The servers' container has this label, with its cluster's name.
pub(crate) const LABEL: &str = "egress-conformance";
/// kind's Docker network.
const NETWORK: &str = "kind";
/// Where the control API listens inside the container, where it is not a Unix socket.
const CONTROL_PORT: u16 = 9000;
const START: Duration = Duration::from_secs(30);

/// Where the servers are controlled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A Unix socket of the machine.
    Unix(PathBuf),
    /// A port of the machine's loopback.
    Tcp(SocketAddr),
}

/// The servers' container.
#[derive(Debug)]
pub struct Servers {
    name: String,
    /// The image that gives this one its addresses: a node's, which has `ip`.
    tools: String,
    control: Control,
    container: ContainerAsync<GenericImage>,
}

impl Servers {
    /// Starts the container beside a cluster's nodes, and the routes between them.
    ///
    /// # Errors
    /// Where the image is not there, or the container does not come up.
    pub async fn start(docker: &Docker, cluster: &Cluster) -> Result<Self, Error> {
        let name = format!("{}-external-servers", cluster.name());
        let (image, tag) = SERVER.rsplit_once(':').unwrap_or((SERVER, "latest"));
        let image = GenericImage::new(image, tag);
        let image = match docker {
            Docker::Own(_) => image,
            Docker::Machine(_) => image.with_exposed_port(CONTROL_PORT.tcp()),
        };
        let request = image
            .with_container_name(&name)
            .with_network(NETWORK)
            .with_label(LABEL, cluster.name())
            .with_startup_timeout(START);
        let failed = |error: testcontainers::TestcontainersError| Error::Servers { why: error.to_string() };
        let (container, control) = match docker {
            // Inside the engine its run folder is at /run/engine; a socket works across network namespaces.
            Docker::Own(engine) => {
                let file = format!("{}.sock", cluster.name());
                let control = Control::Unix(engine.run_folder().join(&file));
                let request = request
                    .with_cmd(["--control".to_owned(), format!("unix:/control/{file}")])
                    .with_mount(Mount::bind_mount("/run/engine", "/control"));
                (request.start().await.map_err(failed)?, control)
            }
            Docker::Machine(_) => {
                let request = request
                    .with_cmd(["--control".to_owned(), format!("tcp:0.0.0.0:{CONTROL_PORT}")])
                    .with_host_config_modifier(publish_on_loopback);
                let container = request.start().await.map_err(failed)?;
                let port = container.get_host_port_ipv4(CONTROL_PORT).await.map_err(failed)?;
                (container, Control::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
            }
        };
        let image = ["inspect", "--format", "{{.Config.Image}}", &cluster.node()];
        let tools = docker.run("asking for the node's image", &image).await?.trim().to_owned();
        let servers = Self { name, tools, control, container };
        servers.answer().await?;
        servers.add_routes(docker, cluster).await?;
        Ok(servers)
    }

    async fn answer(&self) -> Result<(), Error> {
        let connected = wait::until(START, async || {
            let connected = match &self.control {
                Control::Unix(path) => tokio::net::UnixStream::connect(path).await.map(drop),
                Control::Tcp(address) => tokio::net::TcpStream::connect(address).await.map(drop),
            };
            connected.map_err(|error| error.to_string())
        });
        connected.await.map_err(|seen| Error::Servers {
            why: format!("their control does not answer within {} s: {seen}", START.as_secs()),
        })
    }

    async fn add_routes(&self, docker: &Docker, cluster: &Cluster) -> Result<(), Error> {
        let node = cluster.node();
        let format = format!("{{{{(index .NetworkSettings.Networks \"{NETWORK}\").IPAddress}}}}");
        let address = docker.run("asking for the node's address", &["inspect", "--format", &format, &node]).await?;
        let back = format!("ip route replace {PODS} via {}", address.trim());
        self.in_network(docker, "routing the servers' answers to pods", &back).await?;
        node::route_outside(docker, &node).await
    }

    /// Where they are controlled.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Gives the container exactly these addresses, beside its own, and leads pods to those that are not of [`OUTSIDE`].
    ///
    /// # Errors
    /// Where the container or the node is gone.
    pub async fn set_addresses(&self, docker: &Docker, cluster: &Cluster, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        let (outside, public): (Vec<Ipv4Addr>, Vec<Ipv4Addr>) = addresses.iter().partition(|one| is_outside(**one));
        let script = address_script(&outside, &public);
        self.in_network(docker, "giving the external servers their addresses", &script).await?;
        node::lead_to(docker, &cluster.node(), &public).await
    }

    /// Runs a script in the container's network, by the tools of another image: this one has a single program.
    async fn in_network(&self, docker: &Docker, what: &str, script: &str) -> Result<(), Error> {
        let network = format!("container:{}", self.name);
        let mut args = vec!["run", "--rm", "--network", &network, "--cap-add", "NET_ADMIN", "--pull", "never"];
        args.extend(["--entrypoint", "/bin/sh", &self.tools, "-euc", script]);
        docker.run(what, &args).await.map(|_| ())
    }

    /// Removes the container.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn stop(self) -> Result<(), Error> {
        self.container.rm().await.map_err(|error| Error::Servers { why: error.to_string() })
    }
}

/// Whoever reaches the port may tell the servers what to be, so nobody outside this machine can.
fn publish_on_loopback(config: &mut HostConfig) {
    let binding = PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: None };
    config.publish_all_ports = Some(false);
    config.port_bindings = Some(HashMap::from([(format!("{CONTROL_PORT}/tcp"), Some(vec![binding]))]));
}

fn is_outside(address: Ipv4Addr) -> bool {
    OUTSIDE.parse().is_ok_and(|range: Ipv4Net| range.contains(&address))
}

/// Sets exactly these addresses. Those of the range have its length, so that the container answers for the link; public ones
/// are on the loopback, for which it answers, too.
fn address_script(outside: &[Ipv4Addr], public: &[Ipv4Addr]) -> String {
    let prefix = OUTSIDE.split_once('/').map_or("32", |(_, length)| length);
    let mut script = format!("ip -4 address flush dev eth0 to {OUTSIDE}\nip -4 address flush dev lo label lo:public\n");
    for address in outside {
        script.push_str(&format!("ip address add {address}/{prefix} dev eth0\n"));
    }
    for address in public {
        script.push_str(&format!("ip address add {address}/32 dev lo label lo:public\n"));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_no_longer_wanted_go() {
        let script = address_script(&[Ipv4Addr::new(192, 168, 0, 78)], &[Ipv4Addr::new(203, 0, 113, 9)]);
        let lines: Vec<&str> = script.lines().collect();
        assert_eq!(
            lines,
            [
                "ip -4 address flush dev eth0 to 192.168.0.0/24",
                "ip -4 address flush dev lo label lo:public",
                "ip address add 192.168.0.78/24 dev eth0",
                "ip address add 203.0.113.9/32 dev lo label lo:public",
            ]
        );
    }

    #[test]
    fn the_servers_range_ends_where_it_says() {
        let octets = [[192, 168, 0, 200], [192, 168, 1, 1], [198, 35, 26, 96]];
        assert_eq!(octets.map(|octets| is_outside(octets.into())), [true, false, false]);
    }

    #[test]
    fn the_control_is_for_this_machine_only() {
        let mut config = HostConfig { publish_all_ports: Some(true), ..HostConfig::default() };
        publish_on_loopback(&mut config);
        let bindings = config.port_bindings.unwrap();
        assert_eq!(config.publish_all_ports, Some(false));
        assert_eq!(bindings["9000/tcp"].as_ref().unwrap()[0].host_ip.as_deref(), Some("127.0.0.1"));
    }
}
