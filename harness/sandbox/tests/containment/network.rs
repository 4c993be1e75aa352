//! Tries against networks: the host's, the node's, and what lies behind them.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use crate::attack::{Attack, Attempt};
use crate::scene::{HOSTILE, Scene, done};
use crate::support::{look, process_named};

/// The node's address, as pods know it.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
/// Ports of the node that are there for pods: DNS, the API server, the kubelet's API.
const OPEN: [u16; 3] = [53, 6443, 10250];

fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    (ip, port).into()
}

/// A listener on the host's loopback, and the door, are connected to on the host and by no pod.
pub(crate) fn the_loopback_of_the_host_is_another(scene: &Scene) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let kubeconfig = std::fs::read_to_string(scene.sandbox.kubeconfig()).expect("the kubeconfig is there");
    let door = kubeconfig.split("https://127.0.0.1:").nth(1).expect("the kubeconfig names the door");
    let digits: String = door.chars().take_while(char::is_ascii_digit).collect();
    let door: u16 = digits.parse().expect("a port");
    let mut hosts = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    // The address with which the host would go out, where it can.
    hosts.extend(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok().and_then(|socket| {
        socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }));
    let mut targets: Vec<_> = hosts.into_iter().map(|host| at(host, port)).collect();
    targets.push(at(Ipv4Addr::LOCALHOST, door));
    for target in &targets {
        assert!(TcpStream::connect(target).is_ok(), "{target} is open on the host");
    }
    targets.extend([at(NODE, port), at(NODE, door)]);
    for pod in HOSTILE {
        assert_eq!(done(&scene.attack(pod, &Attack::Connect(vec![at(NODE, 6443)]))), [format!("{NODE}:6443")]);
        assert_eq!(done(&scene.attack(pod, &Attack::Connect(targets.clone()))), [""; 0], "{pod}");
        assert_eq!(done(&scene.attack(pod, &Attack::ConnectThroughEth0(targets.clone()))), [""; 0], "{pod}");
    }
}

/// Whatever listens on the node: pods reach what is there for them, at the node's address alone.
pub(crate) fn the_loopback_of_the_node_is_closed(scene: &Scene) {
    let init = process_named(std::process::id(), "egress-init").expect("pid 1 lives");
    let ports = listening(init);
    assert!(OPEN.iter().chain(&[2379]).all(|port| ports.contains(port)), "{ports:?}");
    assert!(look::connect(init, Ipv4Addr::LOCALHOST, 2379).is_ok(), "the node itself reaches etcd");
    let on = |address| ports.iter().map(|port| at(address, *port)).collect::<Vec<_>>();
    for pod in HOSTILE {
        let reached = scene.attack(pod, &Attack::Connect(on(NODE)));
        let expected: Vec<_> = ports.iter().filter(|port| OPEN.contains(port)).map(|p| format!("{NODE}:{p}")).collect();
        assert_eq!(done(&reached), expected, "{pod}");
        let through = scene.attack(pod, &Attack::ConnectThroughEth0(on(NODE)));
        assert_eq!(done(&through), expected, "the control of the next: {pod}");
        let loopback = scene.attack(pod, &Attack::ConnectThroughEth0(on(Ipv4Addr::LOCALHOST)));
        assert_eq!(done(&loopback), [""; 0], "{pod}: {loopback:?}");
    }
}

/// TCP ports that something listens on in the network of a process, by the kernel's table.
fn listening(pid: u32) -> Vec<u16> {
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let port = words[1].rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            // State 0A is TCP_LISTEN.
            ports.extend(port.filter(|_| words[3] == "0A"));
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The metadata service of clouds, and an address of the documentation: there is no route, and the pod is told so.
pub(crate) fn nothing_outside_is_in_reach(scene: &Scene) {
    let far = [([169, 254, 169, 254], 80), ([203, 0, 113, 1], 443), ([203, 0, 113, 1], 53)];
    let far: Vec<_> = far.into_iter().map(|(ip, port)| at(ip, port)).collect();
    let dns = at([10, 96, 0, 10], 53);
    let no_route = |all: &[Attempt]| {
        for (what, outcome) in all {
            let seen = outcome.as_ref().err().map(String::as_str);
            assert!(matches!(seen, Some("ENETUNREACH" | "EHOSTUNREACH")), "{what}: {outcome:?}");
        }
    };
    for pod in HOSTILE {
        assert_eq!(done(&scene.attack(pod, &Attack::Connect(vec![dns]))), [dns.to_string()]);
        assert_eq!(done(&scene.attack(pod, &Attack::Datagram(vec![dns]))), [dns.to_string()]);
        no_route(&scene.attack(pod, &Attack::Connect(far.clone())));
        // A datagram's sender need not be told.
        assert_eq!(done(&scene.attack(pod, &Attack::Datagram(far.clone()))), [""; 0], "{pod}");
    }
    let init = process_named(std::process::id(), "egress-init").expect("pid 1 lives");
    for target in far {
        let IpAddr::V4(ip) = target.ip() else { continue };
        let seen = look::connect(init, ip, target.port()).unwrap_err();
        assert_eq!(seen.kind(), ErrorKind::NetworkUnreachable, "not even the node has a route to {target}");
    }
}
