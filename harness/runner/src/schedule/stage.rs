//! What one scenario runs on: a lease of the mesh, with everything that steps and probes need of it.
//!
//! Built from what the supervisor granted; it owns nothing that outlives the lease but the logs, which are shared. Start
//! at [`Stage`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use egress_core::access_log::Format;
use external_server::client::ControlClient;

use super::world::World;
use crate::cluster::objects::Objects;
use crate::cluster::workload::{Logs, Workload};
use crate::gate::{Gate, ProxyRef};

/// A lease, in use.
pub struct Stage {
    /// Objects of this lease: they carry its label.
    pub objects: Objects,
    /// The slot's gate.
    pub gate: Arc<Gate>,
    /// The egress gateway's pods.
    pub gateways: Vec<Workload>,
    /// Cluster address of the egress gateway's Service.
    pub gateway_address: String,
    /// The slot's namespace.
    pub namespace: String,
    /// Its further namespaces, by the scenario's names for them.
    pub namespaces: BTreeMap<String, String>,
    /// The slot's warm clients.
    pub clients: Vec<Workload>,
    /// The proxies' logs.
    pub logs: Arc<Logs>,
    /// How access logs are written.
    pub format: Format,
    /// The external servers.
    pub world: Arc<World>,
    /// The control of the external servers.
    pub servers: ControlClient,
    /// How many requests the slot's clients have sent, under this lease and before.
    pub probes: AtomicU32,
}

impl Stage {
    /// Every Envoy that a scenario concerns: the gateways', the warm clients' and those of `others`.
    #[must_use]
    pub fn proxies(&self, others: &[Workload]) -> Vec<ProxyRef> {
        self.gateways.iter().chain(&self.clients).chain(others).filter_map(|w| w.proxy()).collect()
    }

    /// The number of the next request of the slot's clients.
    pub fn next_probe(&self) -> u32 {
        self.probes.fetch_add(1, Ordering::Relaxed)
    }
}
