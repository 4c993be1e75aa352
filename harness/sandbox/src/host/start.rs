//! The order of a start. What does not depend on each other runs at once; every wait is for a
//! condition, bounded.
//!
//! ```text
//! network ─────┬─ etcd, API server answers ─┬─ API server ready ─ controllers
//!              │                            ├─ DNS watches
//!              │                            ├─ DNS Service ──────┬─ Services
//!              │                            └─ node ─ kube-proxy ┘
//! certificates ┴─ external server
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use egress_dns::Dns;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use tokio::net::{TcpListener, UdpSocket, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::phases::Phases;
use crate::authorities::Authorities;
use crate::component::Components;
use crate::enter::NODE_NAME;
use crate::events::ComponentFault;
use crate::layout::Layout;
use crate::network::{API_SERVICE, DNS_SERVICE, NODE_ADDRESS, Network};
use crate::node::{self, NodeConfig, Signs};
use crate::options::Options;
use crate::pki::Pki;
use crate::protocol::StartFailure;
use crate::store::Store;
use crate::wait::{self, Seen};
use crate::{control_plane, door, world};

/// How long one condition may take. Generous: the owner bounds the whole start.
const BOUND: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);
/// How long the node agent may take to end its pods when the sandbox stops.
const NODE_STOP: Duration = Duration::from_secs(5);

/// What runs, once everything is ready.
pub(super) struct Cluster {
    pub(super) dns: Dns,
    pub(super) network: Arc<Network>,
    pub(super) authorities: Authorities,
    node: tokio::task::JoinHandle<()>,
}

impl Cluster {
    /// Waits until the node agent has ended its pods, or until that has taken too long.
    pub(super) async fn node_ended(self: &Cluster) {
        let ended = wait::until("the node agent's end", INTERVAL, NODE_STOP, async || {
            if self.node.is_finished() { Seen::Done(()) } else { Seen::NotYet("it still runs".to_owned()) }
        });
        if let Err(error) = ended.await {
            tracing::warn!(%error, "pods are killed with the sandbox");
        }
    }
}

/// Starts everything; returns when all of it is ready.
pub(super) async fn start(
    options: Options,
    layout: Layout,
    door: std::net::TcpListener,
    components: Components,
    faults: mpsc::UnboundedSender<ComponentFault>,
    phases: Phases,
    stopping: CancellationToken,
) -> Result<Cluster, StartFailure> {
    let programs = &options.programs;
    let door_port = door.local_addr().map_err(setting_up)?.port();
    let restores = options.restore.is_some();
    let certificates = phases.run("certificates", async {
        let (folder, outside) = (layout.pki(), layout.kubeconfig());
        let made = tokio::task::spawn_blocking(move || {
            if restores { Pki::reopen(&folder, &outside, door_port) } else { Pki::create(&folder, &outside, door_port) }
        });
        let made = made.await;
        made.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    });
    let (network, pki) = tokio::try_join!(phases.run("network", Network::set_up()), certificates)?;

    components.start(control_plane::etcd(programs, &layout));
    if restores {
        // The API server must not look into an etcd that is half full.
        phases.run("objects", load_objects(&layout)).await?;
    }
    components.start(control_plane::api_server(programs, &pki));
    components.start(world::spec(&network.outside_namespace(), &layout.world_socket()));
    let dns = Dns::default();
    phases.run("DNS sockets", dns.serve(NODE_ADDRESS)).await?;
    door.set_nonblocking(true).map_err(setting_up)?;
    let door = TcpListener::from_std(door).map_err(setting_up)?;
    let api_address = SocketAddr::from((NODE_ADDRESS, control_plane::API_PORT));
    tokio::spawn(door::serve(door, api_address));

    let client = client(&pki).await.map_err(setting_up)?;
    phases.run("API server answers", api_server_answers(&client)).await?;
    let authorities = Authorities::create(layout.authorities()).map_err(setting_up)?;
    let config = NodeConfig {
        name: NODE_NAME.to_owned(),
        address: NODE_ADDRESS,
        kubeconfig: pki.inside.clone(),
        state: layout.node(),
        logs: layout.logs(),
        authorities: authorities.file().map(Path::to_owned),
        images: options.images.clone(),
        programs: programs.clone(),
        kubelet_cert: pki.kubelet.certificate.clone(),
        kubelet_key: pki.kubelet.key.clone(),
        client_ca: pki.ca.clone(),
        cluster_dns: DNS_SERVICE,
        api_service: (API_SERVICE, 443),
        first: options.restore.as_ref().and_then(|restore| restore.first.clone()),
        kubernetes_version: options.kubernetes_version.clone(),
    };
    let signs = Signs::default();
    let (registered, node_ready) = oneshot::channel();
    let node =
        tokio::spawn(run_node(config, network.clone(), registered, signs.clone(), stopping, faults, layout.clone()));
    let node_and_proxy = async {
        if restores {
            // It knows the node already.
            components.start(control_plane::proxy(programs, &pki));
        }
        phases.run("node", async { node_ready.await.map_err(|_| "the node agent ended before it was ready") }).await?;
        if !restores {
            components.start(control_plane::proxy(programs, &pki));
        }
        Ok(())
    };
    let old_pods = async { if restores { phases.run("old pods", forget_pod_status(&client)).await } else { Ok(()) } };
    // Neither pods nor controllers may look at old pods before.
    let forgotten = old_pods.shared();
    tokio::try_join!(
        async {
            forgotten.clone().await?;
            signs.pods.cancel();
            Ok(())
        },
        async {
            tokio::try_join!(phases.run("API server", api_server_ready(&client)), forgotten.clone())?;
            // Not earlier: it looks for a healthy API server once a second.
            components.start(control_plane::controller_manager(programs, &pki));
            phases.run("controllers", controllers_ready(&client)).await
        },
        phases.run("external server", world_ready(&layout)),
        phases.run("DNS", async {
            dns.follow(client.clone()).await;
            Ok::<(), std::convert::Infallible>(())
        }),
        async {
            tokio::try_join!(phases.run("DNS Service", dns_service(&client)), node_and_proxy)?;
            phases.run("Services", services_work()).await?;
            // A pod that does not reach the API server at once tries again only a second later.
            signs.containers.cancel();
            Ok(())
        },
    )?;
    Ok(Cluster { dns, network, authorities, node })
}

fn setting_up(error: impl std::fmt::Display) -> StartFailure {
    StartFailure::Phase { phase: "set-up".to_owned(), message: error.to_string() }
}

async fn client(pki: &Pki) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let kubeconfig = kube::config::Kubeconfig::read_from(&pki.inside)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

/// From here on administrators can work. The API server's own roles come about a second later, which
/// is why every component of the sandbox is an administrator.
async fn api_server_answers(client: &Client) -> Result<(), wait::TimedOut> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let needed = ["default", "kube-system", "kube-node-lease"];
    wait::until("the API server's own namespaces", INTERVAL, BOUND, async || {
        match tokio::time::timeout(LOOK, namespaces.list(&Default::default())).await {
            Ok(Ok(list)) => {
                let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
                if needed.iter().all(|needed| names.iter().any(|name| name == needed)) {
                    return Seen::Done(());
                }
                Seen::NotYet(format!("{names:?}"))
            }
            Ok(Err(e)) => Seen::NotYet(e.to_string()),
            Err(_) => Seen::NotYet(format!("no answer within {LOOK:?}")),
        }
    })
    .await
}

/// Puts the objects of a snapshot into the new etcd.
async fn load_objects(layout: &Layout) -> Result<(), String> {
    let store = Store::at(control_plane::ETCD).map_err(|e| e.to_string())?;
    let answers = wait::until("etcd's answer", Duration::from_millis(5), BOUND, async || match store.answers().await {
        Ok(()) => Seen::Done(()),
        Err(e) => Seen::NotYet(e.to_string()),
    });
    answers.await.map_err(|e| e.to_string())?;
    let count = store.load(&layout.restored_objects()).await.map_err(|e| e.to_string())?;
    tracing::info!(count, "objects restored");
    Ok(())
}

/// Takes back what was said of pods that ran elsewhere: nobody may take one for ready, or call its old address. The node
/// then starts them as after a power cut.
async fn forget_pod_status(client: &Client) -> Result<(), kube::Error> {
    let forgotten = json!({"status": {
        "phase": "Pending", "conditions": null, "podIP": null, "podIPs": null, "hostIP": null, "hostIPs": null,
        "startTime": null, "containerStatuses": null, "initContainerStatuses": null,
    }});
    let pods = Api::<Pod>::all(client.clone()).list(&Default::default()).await?;
    let forget = pods.iter().map(async |pod| {
        let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&forgotten)).await
    });
    futures::future::try_join_all(forget).await.map(drop)
}

async fn api_server_ready(client: &Client) -> Result<(), wait::TimedOut> {
    wait::until("the API server's /readyz", INTERVAL, BOUND, async || {
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a constant request is well formed");
        match tokio::time::timeout(LOOK, client.request_text(request)).await {
            Ok(Ok(_)) => Seen::Done(()),
            Ok(Err(e)) => Seen::NotYet(e.to_string()),
            Err(_) => Seen::NotYet(format!("no answer within {LOOK:?}")),
        }
    })
    .await
}

async fn world_ready(layout: &Layout) -> Result<(), wait::TimedOut> {
    let socket = layout.world_socket();
    wait::until("the external server's control socket", INTERVAL, BOUND, async || {
        match UnixStream::connect(&socket).await {
            Ok(_) => Seen::Done(()),
            Err(e) => Seen::NotYet(e.to_string()),
        }
    })
    .await
}

/// Without these two objects no pod of a namespace can start.
async fn controllers_ready(client: &Client) -> Result<(), wait::TimedOut> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    wait::until("ServiceAccount and root CA of namespace default", INTERVAL, BOUND, async || {
        let seen = tokio::join!(accounts.get_opt("default"), maps.get_opt("kube-root-ca.crt"));
        match seen {
            (Ok(Some(_)), Ok(Some(_))) => Seen::Done(()),
            (Err(e), _) | (_, Err(e)) => Seen::NotYet(e.to_string()),
            (Ok(account), Ok(map)) => Seen::NotYet(format!(
                "ServiceAccount default: {}, ConfigMap kube-root-ca.crt: {}",
                if account.is_some() { "there" } else { "missing" },
                if map.is_some() { "there" } else { "missing" },
            )),
        }
    })
    .await
}

/// The DNS Service. Cluster addresses can be had only some time after the API server answers.
async fn dns_service(client: &Client) -> Result<(), wait::TimedOut> {
    wait::until("the Service kube-system/kube-dns", INTERVAL, BOUND, async || match create_dns_service(client).await {
        Ok(()) => Seen::Done(()),
        Err(e) => Seen::NotYet(e.to_string()),
    })
    .await
}

/// A Service without selector, and its endpoint: our DNS server, which is no pod.
async fn create_dns_service(client: &Client) -> Result<(), kube::Error> {
    let ports = |target: bool| {
        let port = |name: &str, protocol: &str| {
            let mut port = json!({"name": name, "protocol": protocol, "port": 53});
            if target {
                port["targetPort"] = json!(53);
            }
            port
        };
        json!([port("dns", "UDP"), port("dns-tcp", "TCP")])
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"clusterIP": DNS_SERVICE, "ports": ports(true)},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns-node", "labels": {
            "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "egress-sandbox"}},
        "addressType": "IPv4",
        "ports": ports(false),
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": true}}],
    });
    let apply = PatchParams::apply("egress-sandbox");
    let services = Api::<Service>::namespaced(client.clone(), "kube-system");
    services.patch("kube-dns", &apply, &Patch::Apply(service)).await?;
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), "kube-system");
    slices.patch("kube-dns-node", &apply, &Patch::Apply(slice)).await?;
    Ok(())
}

/// kube-proxy's rules are in force when the DNS Service answers at its ClusterIP.
async fn services_work() -> Result<(), wait::TimedOut> {
    // A question for the name ".": header with id 1 and one question, root, type A, class IN.
    const QUESTION: [u8; 17] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    let ask = async || {
        // A socket per question: conntrack remembers how a flow went before there was a rule.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect((DNS_SERVICE, 53)).await?;
        socket.send(&QUESTION).await?;
        let mut answer = [0; 512];
        match tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut answer)).await {
            Ok(received) => received.map(drop),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    };
    wait::until("an answer from DNS at its ClusterIP", INTERVAL, BOUND, async || match ask().await {
        Ok(()) => Seen::Done(()),
        Err(e) => Seen::NotYet(e.to_string()),
    })
    .await
}

async fn run_node(
    config: NodeConfig,
    network: Arc<Network>,
    ready: oneshot::Sender<()>,
    signs: Signs,
    stopping: CancellationToken,
    faults: mpsc::UnboundedSender<ComponentFault>,
    layout: Layout,
) {
    let result = node::run(config, network, ready, signs, stopping.clone()).await;
    if stopping.is_cancelled() {
        return;
    }
    let status = result.map_or_else(|error| error.to_string(), |()| "it returned".to_owned());
    let fault = ComponentFault { name: "node agent".to_owned(), status, last_lines: Vec::new(), log: layout.own_log() };
    let _ = faults.send(fault);
}
