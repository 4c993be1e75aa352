//! The namespace of the external servers: another network, one veth away.
//!
//! The servers see a peer's true address, because nothing on the way masquerades. Their subnet is
//! on the link, and so is each public address that they have; so an address nobody has is answered with "no route to host" once ARP has given up
//! (about three seconds), as on a real network. It forwards nothing. Start at [`Outside::set_up`].

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use tokio::sync::Mutex;

use super::link::Links;
use super::{NODE_ADDRESS, NetworkError, OUTSIDE_RANGE, POD_RANGE, namespace, subnet_contains, subnet_text};

/// Name of the namespace.
pub(super) const NAMESPACE: &str = "outside";
const NODE_SIDE: &str = "world";
const FAR_SIDE: &str = "eth0";
/// The servers' addresses are on `lo`, and answer ARP on `eth0` all the same: when the last address
/// of an interface goes, the kernel drops the interface's routes.
const ADDRESSES_ON: &str = "lo";

#[derive(Debug)]
pub(super) struct Outside {
    inside: Links,
    addresses: Mutex<BTreeSet<Ipv4Addr>>,
}

impl Outside {
    /// Makes the namespace and connects it to the node.
    pub(super) async fn set_up(node: &Links) -> Result<Outside, NetworkError> {
        let namespace = namespace::create(NAMESPACE).await?;
        node.add_veth(NODE_SIDE, FAR_SIDE, &namespace.file).await?;
        let inside = namespace.links().await?;
        inside.up("lo").await?;
        inside.up(FAR_SIDE).await?;
        inside.add_subnet_route((NODE_ADDRESS, 32), FAR_SIDE, None).await?;
        inside.add_gateway_route(POD_RANGE, NODE_ADDRESS, FAR_SIDE).await?;
        node.up(NODE_SIDE).await?;
        node.add_subnet_route(OUTSIDE_RANGE, NODE_SIDE, Some(NODE_ADDRESS)).await?;
        Ok(Outside { inside, addresses: Mutex::new(BTreeSet::new()) })
    }

    /// Makes exactly these addresses exist here.
    pub(super) async fn set_addresses(&self, node: &Links, wanted: &[Ipv4Addr]) -> Result<(), NetworkError> {
        let subnet = || subnet_text(OUTSIDE_RANGE);
        if let Some(&address) = wanted.iter().find(|a| !is_host(**a) && !is_public(**a)) {
            return Err(NetworkError::NotOutside { address, subnet: subnet() });
        }
        let wanted: BTreeSet<Ipv4Addr> = wanted.iter().copied().collect();
        let mut present = self.addresses.lock().await;
        let (old, new): (Vec<_>, Vec<_>) =
            (present.difference(&wanted).copied().collect(), wanted.difference(&present).copied().collect());
        for address in old {
            self.inside.remove_address(ADDRESSES_ON, address).await?;
            present.remove(&address);
            if !is_host(address) {
                node.remove_subnet_route((address, 32), NODE_SIDE).await?;
            }
            // Else the node would go on sending there, unanswered, instead of saying that nobody has it.
            node.forget_neighbour(NODE_SIDE, address).await?;
        }
        for address in new {
            self.inside.add_address(ADDRESSES_ON, address).await?;
            present.insert(address);
            if !is_host(address) {
                node.add_subnet_route((address, 32), NODE_SIDE, Some(NODE_ADDRESS)).await?;
            }
            node.forget_neighbour(NODE_SIDE, address).await?;
        }
        Ok(())
    }
}

fn is_host(address: Ipv4Addr) -> bool {
    let (network, length) = OUTSIDE_RANGE;
    let broadcast = Ipv4Addr::from(u32::from(network) | (u32::MAX >> length));
    subnet_contains(OUTSIDE_RANGE, address) && address != network && address != broadcast
}

/// Whether an address is one of the internet's: each gets a route of its own, since nothing else leads outside.
fn is_public(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let special = first == 0 || first >= 224;
    !(address.is_private() || address.is_loopback() || address.is_link_local() || shared || special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_subnet_are_taken() {
        assert!(is_host(Ipv4Addr::new(192, 168, 0, 78)));
        assert!(is_public(Ipv4Addr::new(198, 35, 26, 96)));
        for other in [[192, 168, 1, 1], [10, 244, 0, 1], [127, 0, 0, 1], [169, 254, 169, 254], [100, 64, 0, 1]] {
            assert!(!is_public(Ipv4Addr::from(other)), "{other:?}");
        }
        for other in [[192, 168, 0, 0], [192, 168, 0, 255], [192, 168, 1, 1], [10, 244, 0, 1]] {
            assert!(!is_host(Ipv4Addr::from(other)), "{other:?}");
        }
    }
}
