//! Interfaces, addresses and routes of one network namespace, through netlink.
//!
//! A [`Links`] acts on the namespace its socket was opened in, whatever thread uses it later. It
//! knows nothing of pods; start at [`Links::open`].

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::NetworkError;

/// A netlink connection to one network namespace. The kernel side is served by a tokio task that
/// ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Links {
    handle: Handle,
}

impl Links {
    /// Opens a netlink socket in the calling thread's network namespace.
    pub(super) fn open() -> Result<Links, NetworkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| NetworkError::os("open a netlink socket", e))?;
        tokio::spawn(connection);
        Ok(Links { handle })
    }

    /// Sets an interface up.
    pub(super) async fn up(&self, name: &str) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_name(name).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(|e| NetworkError::netlink(format!("set interface {name} up"), e))
    }

    /// Adds a veth pair whose far end is born in another namespace: moving it there later would
    /// cost an RCU grace period.
    pub(super) async fn add_veth(&self, near: &str, far: &str, far_namespace: &impl AsFd) -> Result<(), NetworkError> {
        let peer = LinkUnspec::new_with_name(far).setns_by_fd(far_namespace.as_fd().as_raw_fd()).build();
        let message = LinkVeth::new(near, far).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|e| NetworkError::netlink(format!("add the veth pair {near}"), e))
    }

    /// Deletes an interface, and with it its routes and the far end of its pair. One that does not
    /// exist is fine: its namespace may have ended first.
    pub(super) async fn delete(&self, name: &str) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_name(name).build();
        match self.handle.link().del_with_message(message).execute().await {
            Ok(()) => Ok(()),
            Err(e) if os_code(&e) == Some(nix::libc::ENODEV) => Ok(()),
            Err(e) => Err(NetworkError::netlink(format!("delete interface {name}"), e)),
        }
    }

    /// Adds an address as a /32.
    pub(super) async fn add_address(&self, interface: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
        let index = self.index(interface).await?;
        self.handle
            .address()
            .add(index, address.into(), 32)
            .execute()
            .await
            .map_err(|e| NetworkError::netlink(format!("add address {address} to {interface}"), e))
    }

    /// Removes an address that [`Links::add_address`] added.
    pub(super) async fn remove_address(&self, interface: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
        let doing = || format!("remove address {address} from {interface}");
        let index = self.index(interface).await?;
        let found = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .set_address_filter(address.into())
            .execute()
            .try_next()
            .await
            .map_err(|e| NetworkError::netlink(doing(), e))?;
        match found {
            Some(message) => {
                self.handle.address().del(message).execute().await.map_err(|e| NetworkError::netlink(doing(), e))
            }
            None => Ok(()),
        }
    }

    /// Adds a route to a subnet whose hosts are on the link itself.
    pub(super) async fn add_subnet_route(
        &self,
        (network, length): (Ipv4Addr, u8),
        interface: &str,
        source: Option<Ipv4Addr>,
    ) -> Result<(), NetworkError> {
        let index = self.index(interface).await?;
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network, length)
            .output_interface(index)
            .scope(RouteScope::Link);
        if let Some(source) = source {
            route = route.pref_source(source);
        }
        self.handle
            .route()
            .add(route.build())
            .execute()
            .await
            .map_err(|e| NetworkError::netlink(format!("add route {network}/{length} on {interface}"), e))
    }

    /// Removes a route that [`Links::add_subnet_route`] added.
    pub(super) async fn remove_subnet_route(
        &self,
        (network, length): (Ipv4Addr, u8),
        interface: &str,
    ) -> Result<(), NetworkError> {
        let index = self.index(interface).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network, length)
            .output_interface(index)
            .scope(RouteScope::Link);
        let doing = || format!("remove route {network}/{length} on {interface}");
        self.handle.route().del(route.build()).execute().await.map_err(|e| NetworkError::netlink(doing(), e))
    }

    /// Adds a route through a gateway on the given interface.
    pub(super) async fn add_gateway_route(
        &self,
        (network, length): (Ipv4Addr, u8),
        gateway: Ipv4Addr,
        interface: &str,
    ) -> Result<(), NetworkError> {
        let index = self.index(interface).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network, length)
            .gateway(gateway)
            .output_interface(index);
        self.handle
            .route()
            .add(route.build())
            .execute()
            .await
            .map_err(|e| NetworkError::netlink(format!("add route {network}/{length} via {gateway} on {interface}"), e))
    }

    /// Forgets what is known of a neighbour's hardware address, so that the next packet asks again.
    pub(super) async fn forget_neighbour(&self, interface: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
        let doing = || format!("forget neighbour {address} on {interface}");
        let index = self.index(interface).await?;
        let known: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| NetworkError::netlink(doing(), e))?;
        for neighbour in known {
            use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
            let is_it = neighbour.header.ifindex == index
                && neighbour.attributes.contains(&NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
            if is_it {
                match self.handle.neighbours().del(neighbour).execute().await {
                    Ok(()) => {}
                    // It expired between the two requests.
                    Err(e) if os_code(&e) == Some(nix::libc::ENOENT) => {}
                    Err(e) => return Err(NetworkError::netlink(doing(), e)),
                }
            }
        }
        Ok(())
    }

    async fn index(&self, name: &str) -> Result<u32, NetworkError> {
        let doing = || format!("find interface {name}");
        let link = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await
            .map_err(|e| NetworkError::netlink(doing(), e))?;
        link.map(|link| link.header.index)
            .ok_or_else(|| NetworkError::os(doing(), std::io::Error::from(std::io::ErrorKind::NotFound)))
    }
}

/// The errno in a netlink answer.
fn os_code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}
