//! The real control plane: how etcd, the API server, the controllers and kube-proxy are run, and
//! when each is ready. It knows their flags and nothing of processes; start at [`etcd`].

use std::path::Path;

use crate::component::Spec;
use crate::enter::NODE_NAME;
use crate::layout::Layout;
use crate::network::{NODE_ADDRESS, SERVICE_RANGE, subnet_text};
use crate::options::Programs;
use crate::pki::Pki;

/// Port of the API server on every address of the node.
pub(crate) const API_PORT: u16 = 6443;
/// Where etcd answers.
pub(crate) const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The controllers a mesh and its scenarios need. All others would only make the start longer:
/// each opens watches of its own.
const CONTROLLERS: [&str; 16] = [
    "clusterrole-aggregation-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
];

/// The API server's store. Its data is thrown away with the sandbox, so it never syncs to disk.
pub(crate) fn etcd(programs: &Programs, layout: &Layout) -> Spec {
    Spec {
        name: "etcd",
        program: programs.etcd.clone(),
        arguments: flags([
            ("name", "sandbox"),
            ("data-dir", &text(&layout.etcd())),
            ("listen-client-urls", ETCD),
            ("advertise-client-urls", ETCD),
            ("listen-peer-urls", ETCD_PEER),
            ("initial-advertise-peer-urls", ETCD_PEER),
            ("initial-cluster", &format!("sandbox={ETCD_PEER}")),
            ("unsafe-no-fsync", "true"),
            ("log-level", "warn"),
        ]),
    }
}

/// The API server.
pub(crate) fn api_server(programs: &Programs, pki: &Pki) -> Spec {
    Spec {
        name: "kube-apiserver",
        program: programs.kube_apiserver.clone(),
        arguments: flags([
            ("etcd-servers", ETCD),
            ("secure-port", &API_PORT.to_string()),
            ("advertise-address", &NODE_ADDRESS.to_string()),
            ("service-cluster-ip-range", &subnet_text(SERVICE_RANGE)),
            ("tls-cert-file", &text(&pki.api_server.certificate)),
            ("tls-private-key-file", &text(&pki.api_server.key)),
            ("client-ca-file", &text(&pki.ca)),
            ("service-account-issuer", ISSUER),
            ("service-account-key-file", &text(&pki.service_account_public_key)),
            ("service-account-signing-key-file", &text(&pki.service_account_key)),
            ("authorization-mode", "Node,RBAC"),
            ("allow-privileged", "true"),
            ("kubelet-certificate-authority", &text(&pki.ca)),
            ("kubelet-client-certificate", &text(&pki.api_server_to_kubelet.certificate)),
            ("kubelet-client-key", &text(&pki.api_server_to_kubelet.key)),
            ("kubelet-preferred-address-types", "InternalIP"),
            ("profiling", "false"),
        ]),
    }
}

/// The controllers.
pub(crate) fn controller_manager(programs: &Programs, pki: &Pki) -> Spec {
    let kubeconfig = text(&pki.controller_manager);
    Spec {
        name: "kube-controller-manager",
        program: programs.kube_controller_manager.clone(),
        arguments: flags([
            ("kubeconfig", kubeconfig.as_str()),
            ("controllers", &CONTROLLERS.join(",")),
            ("root-ca-file", &text(&pki.ca)),
            ("service-account-private-key-file", &text(&pki.service_account_key)),
            ("leader-elect", "false"),
            ("bind-address", "127.0.0.1"),
            ("profiling", "false"),
        ]),
    }
}

/// kube-proxy, which needs the node to be registered. Conntrack's limits are left alone: they
/// belong to the machine, not to the sandbox.
pub(crate) fn proxy(programs: &Programs, pki: &Pki) -> Spec {
    Spec {
        name: "kube-proxy",
        program: programs.kube_proxy.clone(),
        arguments: flags([
            ("kubeconfig", text(&pki.proxy).as_str()),
            ("hostname-override", NODE_NAME),
            ("proxy-mode", "iptables"),
            // A change of endpoints is in force after this, instead of up to a second.
            ("iptables-min-sync-period", "50ms"),
            ("conntrack-max-per-core", "0"),
            ("conntrack-tcp-timeout-established", "0s"),
            ("conntrack-tcp-timeout-close-wait", "0s"),
            ("healthz-bind-address", "127.0.0.1:10256"),
            ("metrics-bind-address", "127.0.0.1:10249"),
        ]),
    }
}

fn flags<const N: usize>(flags: [(&str, &str); N]) -> Vec<String> {
    flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
