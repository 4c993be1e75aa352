//! What a node gets beside kind's own: the pod network, a closed way out, routes to the servers, and the authorities that
//! containers trust.
//!
//! All of it is by `docker exec`, so that any node image will do, and goes with the node. Start at [`set_up`].

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::docker::Docker;
use crate::error::Error;
use crate::servers::OUTSIDE;

/// The range of pods' addresses.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// Where pods get their addresses; kind's default range, of which the first node has the first 256.
const POD_RANGE: &str = "10.244.0.0/24";
/// The chain that every packet from a pod to another machine goes through.
const CHAIN: &str = "EGRESS-OUTSIDE";
/// Routes to public addresses have this origin, so that they can be found again.
const PROTOCOL: u8 = 177;
/// Where containers look for the authorities that their system trusts, and where nodes of kind do.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The node's file that containers have in that place.
const AUTHORITIES: &str = "/etc/egress-conformance/authorities.crt";

/// The network of pods: routed veth pairs. Nothing is masqueraded, so whoever a pod reaches sees the pod's own address;
/// whoever is outside needs a route back.
fn pod_network() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "mtu": 1500,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam-state",
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "ranges": [[{"subnet": POD_RANGE}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// Closes the pods' way out but to these, in one step. What is not for the servers or for other pods is refused at once,
/// as where there is no route: pilot-agent alone asks for the address of a cloud's metadata server at every start.
fn way_out(public: &[Ipv4Addr]) -> String {
    let mut rules = format!("*filter\n:{CHAIN} - [0:0]\n-A {CHAIN} -d {OUTSIDE} -j RETURN\n");
    for address in public {
        rules.push_str(&format!("-A {CHAIN} -d {address}/32 -j RETURN\n"));
    }
    rules.push_str(&format!("-A {CHAIN} -j REJECT --reject-with icmp-net-unreachable\nCOMMIT\n"));
    format!("iptables-restore -w --noflush <<'EOF'\n{rules}EOF\n")
}

/// Before the first pod that needs a network.
fn set_up_script() -> String {
    format!(
        "cat >/etc/cni/net.d/10-pods.conflist <<'EOF'\n{}\nEOF\n{}\
         iptables -w -I FORWARD -s {PODS} -o eth0 -j {CHAIN}\n",
        pod_network(),
        way_out(&[]),
    )
}

/// Has containers see [`AUTHORITIES`] in the place of their system's list, by the specification that containerd makes every
/// container from; it reads that when it starts.
fn authorities_script() -> String {
    let mount = json!({
        "destination": BUNDLE,
        "type": "bind",
        "source": AUTHORITIES,
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    });
    format!(
        "base=/etc/containerd/cri-base.json\n\
         install -D -m 644 {BUNDLE} {AUTHORITIES}\n\
         cp {AUTHORITIES} {AUTHORITIES}.own\n\
         jq '.mounts += [{mount}]' $base >$base.new\n\
         mv $base.new $base\n\
         systemctl restart containerd\n",
    )
}

/// Sets a new node up. Pods that it started before keep what they have: the control plane's, which have no network of
/// their own.
///
/// # Errors
/// Where the node lacks one of the programs, or is gone.
pub(crate) async fn set_up(docker: &Docker, node: &str) -> Result<(), Error> {
    run(docker, node, "setting up the pod network", &set_up_script()).await?;
    run(docker, node, "setting up the list of authorities that containers trust", &authorities_script()).await
}

/// Routes pods to the servers.
///
/// # Errors
/// As [`set_up`].
pub(crate) async fn route_outside(docker: &Docker, node: &str) -> Result<(), Error> {
    run(docker, node, "routing pods to the servers", &format!("ip route replace {OUTSIDE} dev eth0")).await
}

/// Exactly these public addresses are on the servers' link, and open to pods.
fn public_script(public: &[Ipv4Addr]) -> String {
    let mut script = format!("ip route flush protocol {PROTOCOL}\n");
    for address in public {
        script.push_str(&format!("ip route replace {address}/32 dev eth0 protocol {PROTOCOL}\n"));
    }
    script + &way_out(public)
}

/// Leads pods to exactly these addresses, beside those of [`OUTSIDE`].
///
/// # Errors
/// As [`set_up`].
pub(crate) async fn lead_to(docker: &Docker, node: &str, public: &[Ipv4Addr]) -> Result<(), Error> {
    run(docker, node, "leading pods to public addresses", &public_script(public)).await
}

/// The list stays the same file, since containers hold it.
fn trust_script(authority: Option<&str>) -> String {
    let mut script = format!("cat {AUTHORITIES}.own >{AUTHORITIES}\n");
    if let Some(pem) = authority {
        script.push_str(&format!("cat >>{AUTHORITIES} <<'EOF'\n\n{}\nEOF\n", pem.trim()));
    }
    script
}

/// Has containers trust this authority (PEM) beside the system's own; `None`: only those.
///
/// # Errors
/// As [`set_up`].
pub(crate) async fn trust(docker: &Docker, node: &str, authority: Option<&str>) -> Result<(), Error> {
    run(docker, node, "changing the authorities that containers trust", &trust_script(authority)).await
}

async fn run(docker: &Docker, node: &str, what: &str, script: &str) -> Result<(), Error> {
    docker.run(what, &["exec", node, "sh", "-euc", script]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_traffic_keeps_its_address() {
        let network = pod_network();
        assert_eq!(network["plugins"][0]["ipMasq"], false);
        assert_eq!(network["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], POD_RANGE);
    }

    #[test]
    fn what_is_not_a_servers_is_refused_last() {
        let script = public_script(&[Ipv4Addr::new(203, 0, 113, 9)]);
        let lines: Vec<&str> = script.lines().collect();
        assert_eq!(
            lines,
            [
                "ip route flush protocol 177",
                "ip route replace 203.0.113.9/32 dev eth0 protocol 177",
                "iptables-restore -w --noflush <<'EOF'",
                "*filter",
                ":EGRESS-OUTSIDE - [0:0]",
                "-A EGRESS-OUTSIDE -d 192.168.0.0/24 -j RETURN",
                "-A EGRESS-OUTSIDE -d 203.0.113.9/32 -j RETURN",
                "-A EGRESS-OUTSIDE -j REJECT --reject-with icmp-net-unreachable",
                "COMMIT",
                "EOF",
            ]
        );
    }

    #[test]
    fn the_list_of_authorities_is_written_in_place() {
        assert_eq!(trust_script(None), format!("cat {AUTHORITIES}.own >{AUTHORITIES}\n"));
        assert!(
            trust_script(Some("PEM\n")).ends_with(">>/etc/egress-conformance/authorities.crt <<'EOF'\n\nPEM\nEOF\n")
        );
        // Moved aside and put back it would be another file.
        assert!(!trust_script(Some("PEM")).contains("mv "));
    }
}
