//! The Node object and its Lease: what makes the cluster believe in this node.
//!
//! Start at [`register`] and [`renew`].

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::NodeConfig;
use super::facts::Capacity;

/// How often the lease is renewed; the cluster gives up a node after 40 s.
const RENEWAL: Duration = Duration::from_secs(10);
/// Who owns the fields.
const MANAGER: &str = "egress-sandbox-node";
/// Port of the kubelet API.
pub(crate) const KUBELET_PORT: u16 = 10250;

/// This machine's size.
pub(crate) fn capacity() -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let kibibytes = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Capacity { cpus, memory: kibibytes.unwrap_or(1 << 20) << 10 }
}

/// Makes the node and its status. The lease follows with [`renew`].
pub(crate) async fn register(
    client: &kube::Client,
    config: &NodeConfig,
    capacity: Capacity,
) -> Result<(), kube::Error> {
    let nodes = Api::<NodeObject>::all(client.clone());
    let apply = PatchParams::apply(MANAGER).force();
    let name = &config.name;
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture(),
        }},
        // Pods are bound here whatever taints say, but people read them.
        "spec": {"taints": []},
    });
    nodes.patch(name, &apply, &Patch::Apply(&node)).await?;
    let status =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status(config, capacity)});
    nodes.patch_status(name, &apply, &Patch::Apply(&status)).await?;
    write_lease(client, name).await
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(config: &NodeConfig, capacity: Capacity) -> Value {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string();
    let condition = |name: &str, holds: bool, reason: &str, message: &str| {
        json!({"type": name, "status": if holds { "True" } else { "False" }, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let resources = json!({
        "cpu": capacity.cpus.to_string(), "memory": format!("{}Ki", capacity.memory >> 10), "pods": "110",
        "ephemeral-storage": "0",
    });
    let host = rustix::system::uname();
    json!({
        "addresses": [
            {"type": "InternalIP", "address": config.address.to_string()},
            {"type": "Hostname", "address": config.name},
        ],
        "capacity": resources, "allocatable": resources,
        "conditions": [
            condition("Ready", true, "KubeletReady", "the sandbox's node agent runs"),
            condition("MemoryPressure", false, "NotMeasured", ""),
            condition("DiskPressure", false, "NotMeasured", ""),
            condition("PIDPressure", false, "NotMeasured", ""),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": {
            "kubeletVersion": format!("v{}", config.kubernetes_version), "kubeProxyVersion": "",
            "containerRuntimeVersion": concat!("egress-sandbox://", env!("CARGO_PKG_VERSION")),
            "operatingSystem": "linux", "architecture": architecture(), "osImage": "namespaces of the host",
            "kernelVersion": host.release().to_string_lossy(), "machineID": "", "systemUUID": "", "bootID": "",
        },
        // Exec then comes as a plain WebSocket, which is what the kubelet API here speaks.
        "declaredFeatures": ["ExtendWebSocketsToKubelet"],
    })
}

async fn write_lease(client: &kube::Client, name: &str) -> Result<(), kube::Error> {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": format!("{:.6}", Timestamp::now())},
    });
    let apply = PatchParams::apply(MANAGER).force();
    leases.patch(name, &apply, &Patch::Apply(&lease)).await.map(drop)
}

/// Renews the lease until `shutdown`.
pub(crate) async fn renew(client: kube::Client, name: String, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = write_lease(&client, &name).await {
            tracing::warn!(%error, "the node's lease was not renewed");
        }
    }
}
