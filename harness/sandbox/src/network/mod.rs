//! The sandbox's network: node, pods and the outside world, as routed point-to-point veth pairs.
//!
//! Everything is done through netlink from inside the sandbox's own network namespace; the host's
//! interfaces, routes and sysctls are never touched, and no namespace made here has a route out.
//!
//! ```text
//!   pod netns            node netns (the sandbox)            outside netns
//!   eth0 10.244.0.N ---- veth  lo 10.20.0.1  world ---- eth0  lo 192.168.0.78, …
//!   default via 10.20.0.1      10.244.0.N dev veth           10.244.0.0/16 via 10.20.0.1
//!                              192.168.0.0/24 dev world
//! ```
//!
//! There is no bridge and no proxy ARP: the node address answers ARP on every veth, and each pod
//! is a /32 route. All pod traffic therefore passes the node's netfilter hooks, where the real
//! kube-proxy has its rules. Start at [`Network::set_up`], then [`Network::add_pod`].

mod address_pool;
mod link;
mod namespace;
mod outside;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use address_pool::AddressPool;
use link::Links;
pub(crate) use namespace::{connect as connect_inside, enter_file as enter_namespace};

/// Address of the node: on `lo`, so that it exists before any pod does. Pods use it as gateway.
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
/// First address and prefix length of the range pods get addresses from.
pub(crate) const POD_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 244, 0, 0), 24);
/// First address and prefix length of the Services' range.
pub(crate) const SERVICE_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 12);
/// ClusterIP of the `kubernetes` Service: the API server takes the first of its range.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// ClusterIP of the `kube-dns` Service.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// First address and prefix length of the subnet the external servers live in.
pub(crate) const OUTSIDE_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(192, 168, 0, 0), 24);

/// Where network namespaces are bound by name, as `ip netns` does.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// What a pod got from [`Network::add_pod`].
#[derive(Debug, Clone)]
pub(crate) struct PodNetwork {
    /// The pod's address, a /32 on its `eth0`.
    pub(crate) ip: Ipv4Addr,
    /// The pod's network namespace: a file under [`NETNS_DIR`] to open and `setns` into.
    pub(crate) netns: PathBuf,
}

/// Why a change to the network did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The kernel refused a netlink request.
    #[error("netlink: cannot {doing}: {source}")]
    Netlink {
        /// What was asked for, in words.
        doing: String,
        /// The kernel's answer.
        source: Box<rtnetlink::Error>,
    },
    /// A system call or file operation failed.
    #[error("network: cannot {doing}: {source}")]
    Os {
        /// What was tried.
        doing: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Every address of the pod range is in use.
    #[error(
        "no free pod address: all {0} addresses of the pod range are in use; delete pods or wait until terminating ones are gone"
    )]
    Exhausted(usize),
    /// A pod with this uid has no network here.
    #[error("pod {0} has no network: it was never added, or was removed already")]
    UnknownPod(String),
    /// A pod with this uid has a network already.
    #[error("pod {0} has a network already: remove it before adding it again")]
    PodExists(String),
    /// An external server's address lies outside the subnet that is routed there.
    #[error("address {address} is neither a host of the outside subnet {subnet} nor a public one: choose one of these")]
    NotOutside {
        /// The address asked for.
        address: Ipv4Addr,
        /// The subnet, as `address/length`.
        subnet: String,
    },
}

impl NetworkError {
    pub(crate) fn os(doing: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        NetworkError::Os { doing: doing.into(), source: source.into() }
    }

    pub(crate) fn netlink(doing: impl Into<String>, source: rtnetlink::Error) -> Self {
        NetworkError::Netlink { doing: doing.into(), source: Box::new(source) }
    }
}

/// The sandbox's network. One per sandbox, shared behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Network {
    links: Links,
    outside: outside::Outside,
    pods: Mutex<Pods>,
}

#[derive(Debug)]
struct Pods {
    addresses: AddressPool,
    by_uid: HashMap<String, Pod>,
    next_link: u64,
}

#[derive(Debug, Clone)]
struct Pod {
    ip: Ipv4Addr,
    link: String,
    namespace: String,
}

impl Network {
    /// Brings up the node's own network and the outside namespace. Must run in the sandbox's fresh
    /// network and mount namespaces, once, on a tokio runtime.
    pub(crate) async fn set_up() -> Result<Arc<Network>, NetworkError> {
        namespace::apply_node_sysctls()?;
        let links = Links::open()?;
        links.up("lo").await?;
        links.add_address("lo", NODE_ADDRESS).await?;
        // A route lookup comes before kube-proxy's DNAT for traffic of the node itself (the API
        // server's webhook calls), so Service addresses need a route although none is ever used.
        links.add_subnet_route(SERVICE_RANGE, "lo", Some(NODE_ADDRESS)).await?;
        let outside = outside::Outside::set_up(&links).await?;
        let pods = Pods { addresses: AddressPool::new(POD_RANGE), by_uid: HashMap::new(), next_link: 0 };
        Ok(Arc::new(Network { links, outside, pods: Mutex::new(pods) }))
    }

    /// Makes the network of the pod with this uid: a namespace with `lo`, `eth0` and its routes,
    /// and the route to it. Fails if the pod has one already.
    pub(crate) async fn add_pod(&self, uid: &str) -> Result<PodNetwork, NetworkError> {
        let pod = {
            let mut pods = self.lock();
            if pods.by_uid.contains_key(uid) {
                return Err(NetworkError::PodExists(uid.to_owned()));
            }
            let ip = pods.addresses.take()?;
            // Interface names hold 15 characters, and two uids may share a prefix: count instead.
            let number = pods.next_link;
            pods.next_link += 1;
            let pod = Pod { ip, link: format!("v{number}"), namespace: format!("pod-{uid}") };
            pods.by_uid.insert(uid.to_owned(), pod.clone());
            pod
        };
        match self.connect(&pod).await {
            Ok(netns) => Ok(PodNetwork { ip: pod.ip, netns }),
            Err(error) => {
                let _ = self.disconnect(&pod).await;
                self.forget(uid);
                Err(error)
            }
        }
    }

    /// Removes what [`Network::add_pod`] made. Processes still in the namespace keep it alive, but
    /// cut off; end them first.
    pub(crate) async fn remove_pod(&self, uid: &str) -> Result<(), NetworkError> {
        let pod = self.lock().by_uid.get(uid).cloned();
        let pod = pod.ok_or_else(|| NetworkError::UnknownPod(uid.to_owned()))?;
        self.disconnect(&pod).await?;
        self.forget(uid);
        Ok(())
    }

    /// Replaces the set of addresses that external servers can listen on. Returns when in force.
    pub(crate) async fn set_outside_addresses(&self, wanted: &[Ipv4Addr]) -> Result<(), NetworkError> {
        self.outside.set_addresses(&self.links, wanted).await
    }

    /// The namespace of the external servers.
    pub(crate) fn outside_namespace(&self) -> PathBuf {
        namespace::path_of(outside::NAMESPACE)
    }

    async fn connect(&self, pod: &Pod) -> Result<PathBuf, NetworkError> {
        let namespace = namespace::create(&pod.namespace).await?;
        self.links.add_veth(&pod.link, "eth0", &namespace.file).await?;
        let ip = pod.ip;
        namespace
            .configure(async move |links: &Links| {
                links.up("lo").await?;
                links.up("eth0").await?;
                links.add_address("eth0", ip).await?;
                links.add_subnet_route((NODE_ADDRESS, 32), "eth0", None).await?;
                links.add_gateway_route((Ipv4Addr::UNSPECIFIED, 0), NODE_ADDRESS, "eth0").await
            })
            .await?;
        self.links.up(&pod.link).await?;
        self.links.add_subnet_route((pod.ip, 32), &pod.link, Some(NODE_ADDRESS)).await?;
        Ok(namespace.path)
    }

    async fn disconnect(&self, pod: &Pod) -> Result<(), NetworkError> {
        self.links.delete(&pod.link).await?;
        namespace::remove(&pod.namespace)
    }

    fn forget(&self, uid: &str) {
        let mut pods = self.lock();
        if let Some(pod) = pods.by_uid.remove(uid) {
            pods.addresses.give_back(pod.ip);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pods> {
        self.pods.lock().expect("no code panics while it holds the pod table")
    }
}

/// Makes a veth pair in the calling thread's network namespace and removes it again.
pub(crate) async fn try_veth() -> Result<(), NetworkError> {
    let here = std::fs::File::open("/proc/thread-self/ns/net")
        .map_err(|e| NetworkError::os("open this network namespace", e))?;
    let links = Links::open()?;
    links.add_veth("try0", "try1", &here).await?;
    links.delete("try0").await
}

/// A subnet as text, `192.168.0.0/24`.
pub(crate) fn subnet_text((address, length): (Ipv4Addr, u8)) -> String {
    format!("{address}/{length}")
}

/// Whether an address lies in a subnet.
pub(crate) fn subnet_contains((network, length): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    u32::from(network) & mask == u32::from(address) & mask
}
