//! The world outside of one run: which external server has which address and name.
//!
//! [`deploy`] makes the servers; the plan has decided what there is. Nothing is shared with another run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use egress_core::check::Directory;
use egress_core::scenario::World as WorldPlan;
use egress_core::scenario::{CaValues, schema};
use external_server::model::{DestinationSpec, ListenerSpec, Serves};
use serde::{Deserialize, Serialize};

use crate::cluster::sandbox::names;
use crate::cluster::{EnvironmentError, Provider};

/// The external servers of a run, as they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct World {
    /// Addresses by destination.
    pub destinations: BTreeMap<String, Vec<IpAddr>>,
    /// An address that is routed, where nobody answers.
    pub unused: Ipv4Addr,
    /// The CA of the servers, and what a client may show them.
    pub ca: CaValues,
}

impl World {
    /// Who has which address, for the check.
    #[must_use]
    pub fn directory(&self, gateways: Vec<IpAddr>) -> Directory {
        let mut destinations: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for (name, addresses) in &self.destinations {
            for address in addresses {
                destinations.entry(*address).or_default().push(name.clone());
            }
        }
        Directory { destinations, gateways }
    }
}

/// Gives every destination of the plan its addresses, names and servers; all are in force when it returns.
///
/// # Errors
/// [`EnvironmentError`] when there are too few addresses, or the servers cannot be set up.
pub async fn deploy(provider: &dyn Provider, plan: &WorldPlan) -> Result<World, EnvironmentError> {
    let assigned = plan
        .assign(provider.address_pool())
        .map_err(|e| EnvironmentError::new(format!("the external servers cannot all be placed: {e}")))?;
    let unused = provider.unused_address();
    let hosts = plan.dns(&assigned, unused);
    let destinations = assigned.destinations;
    let mut all: Vec<Ipv4Addr> = destinations.values().flatten().copied().collect();
    all.sort();
    all.dedup();
    provider.set_outside(all, names(&hosts)).await?;
    let specs: Vec<_> = plan
        .destinations
        .iter()
        .map(|(name, d)| server(name, &d.spec, destinations.get(name).map_or(&[][..], Vec::as_slice)))
        .collect();
    provider
        .servers()
        .put_destinations(&specs)
        .await
        .map_err(|e| EnvironmentError::new(format!("the external servers do not start: {e}")))?;
    let destinations = destinations.into_iter().map(|(n, a)| (n, a.into_iter().map(IpAddr::V4).collect())).collect();
    let credentials = provider.servers().credentials().await;
    let credentials =
        credentials.map_err(|e| EnvironmentError::new(format!("the external servers have no certificates: {e}")))?;
    provider.trust(plan.public.then(|| credentials.ca.clone())).await?;
    let ca = CaValues {
        certificate: credentials.ca,
        client_certificate: credentials.certificate,
        client_key: credentials.key,
    };
    Ok(World { destinations, unused, ca })
}

fn server(name: &str, spec: &schema::DestinationSpec, addresses: &[Ipv4Addr]) -> DestinationSpec {
    let listener =
        |address: &Ipv4Addr| ListenerSpec { address: SocketAddr::new(IpAddr::V4(*address), spec.port), tls: spec.tls };
    DestinationSpec {
        name: name.to_owned(),
        serves: match spec.serves {
            schema::Serves::Files => Serves::Files,
            schema::Serves::Httpbin => Serves::Httpbin,
            schema::Serves::Page => Serves::Page,
            schema::Serves::Redirect => Serves::Redirect,
            schema::Serves::Tcp => Serves::Tcp,
            schema::Serves::Proxy => Serves::Proxy,
        },
        listeners: addresses.iter().map(listener).collect(),
        hosts: spec.hosts.clone(),
        mutual: spec.mutual,
        title: spec.title.clone(),
        titles: spec.titles.clone(),
    }
}
