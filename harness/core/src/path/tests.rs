//! Observations made by hand: what curl's socket and the token decide, and what is waited for.

use std::net::SocketAddr;

use super::*;
use crate::access_log::{Format, Record};
use crate::evidence::{ClientResult, GatewaySeen, Observation, PodSeen, ServerEvent, ServerRecord};
use crate::scenario::schema::Got;

const TOKEN: &str = "0123456789abcdef";
const CURL: &str = "10.244.0.8:50000";
const SIDECAR: &str = "10.244.0.8:50001";
const GATEWAY: &str = "10.244.0.4:50002";
const SERVER: &str = "192.0.2.7:80";

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("a socket")
}

fn format() -> Format {
    Format::istio_text("1.31.0").expect("a known version")
}

/// A line with these fields.
fn line(fields: &[(&str, &str)]) -> String {
    let mut record = Record::default();
    record.set("start_time", "2026-11-21T01:00:00.000Z");
    record.set("response_code", "0");
    for (field, value) in fields {
        record.set(field, value);
    }
    format().render(&record)
}

fn tcp(from: &str, local: &str, to: &str) -> String {
    line(&[("downstream_remote_address", from), ("upstream_local_address", local), ("upstream_host", to)])
}

fn http(token: &str, path: &str, from: &str, local: &str, to: &str) -> String {
    line(&[
        ("method", "GET"),
        ("path", path),
        ("protocol", "HTTP/1.1"),
        ("response_code", "200"),
        ("user_agent", &format!("curl probe/{token} x")),
        ("downstream_remote_address", from),
        ("upstream_local_address", local),
        ("upstream_host", to),
    ])
}

fn client() -> ClientResult {
    ClientResult {
        exit: 0,
        status: Some(200),
        headers: vec![],
        body: String::new(),
        stderr: String::new(),
        local: Some(socket(CURL)),
        remote: Some(socket(SERVER)),
        addresses: Vec::new(),
        total_ms: 1.0,
        connects: 1,
    }
}

fn observation() -> Observation {
    let pod = |name: &str, ip: &str| PodSeen { name: name.to_owned(), ip: ip.parse().ok() };
    Observation {
        token: Some(TOKEN.to_owned()),
        client: Some(client()),
        client_pod: pod("ns/meshed", "10.244.0.8"),
        sidecar: Some(vec![]),
        gateways: vec![GatewaySeen { pod: pod("istio-system/gw", "10.244.0.4"), lines: vec![] }],
        servers: vec![],
        sentinel: None,
    }
}

fn record(connection: u64, peer: &str, event: ServerEvent) -> ServerRecord {
    ServerRecord {
        time: jiff::Timestamp::UNIX_EPOCH,
        destination: "server".to_owned(),
        connection,
        local: socket(SERVER),
        peer: socket(peer),
        event,
    }
}

fn request(connection: u64, peer: &str, token: &str, path: &str) -> ServerRecord {
    let headers = vec![("user-agent".to_owned(), format!("curl probe/{token} x"))];
    let event =
        ServerEvent::Request { method: "GET".into(), path: path.into(), host: Some("h".into()), headers, sni: None };
    record(connection, peer, event)
}

fn joined(observation: &Observation) -> Joined {
    join(observation, &format())
}

/// The hops in short: kind, how joined, and the path of a request.
fn hops(joined: &Joined) -> Vec<String> {
    let short = |hop: &SeenHop| match hop {
        SeenHop::Sidecar(p) | SeenHop::Gateway(p) => format!("{} {}", hop.kind(), p.joined_by.as_str()),
        SeenHop::Destination(d) => {
            format!("destination {} {}", d.joined_by.as_str(), d.path.as_deref().unwrap_or("-"))
        }
    };
    joined.path.hops.iter().map(short).collect()
}

fn waits(joined: &Joined, part: &str) {
    match &joined.state {
        State::Open { waiting_for } => assert!(waiting_for.contains(part), "{waiting_for}"),
        other => panic!("expected to wait for {part:?}, got {other:?}"),
    }
}

#[test]
fn tcp_straight_and_through_the_gateway() {
    let mut o = observation();
    o.sidecar = Some(vec![tcp(CURL, SIDECAR, SERVER)]);
    o.servers = vec![record(1, SIDECAR, ServerEvent::Connection), request(1, SIDECAR, TOKEN, "/")];
    let straight = joined(&o);
    assert_eq!(hops(&straight), ["sidecar sockets", "destination sockets+token /"]);
    assert_eq!(straight.state, State::Closed);

    o.sidecar = Some(vec![tcp(CURL, SIDECAR, "10.244.0.4:2234")]);
    o.gateways[0].lines = vec![tcp(SIDECAR, GATEWAY, SERVER)];
    o.servers = vec![request(1, GATEWAY, TOKEN, "/")];
    let through = joined(&o);
    assert_eq!(hops(&through), ["sidecar sockets", "gateway sockets", "destination sockets+token /"]);
    assert_eq!(through.state, State::Closed);
    let Some(SeenHop::Destination(seen)) = through.path.hops.last() else { panic!() };
    assert_eq!(seen.source, PeerOf::Gateway);
}

#[test]
fn the_token_tells_requests_on_one_pooled_connection_apart() {
    let mut o = observation();
    let other = "ffffffffffffffff";
    o.sidecar = Some(vec![
        http(other, "/a", "10.244.0.8:49999", SIDECAR, "10.244.0.4:8080"),
        http(TOKEN, "/b", CURL, SIDECAR, "10.244.0.4:8080"),
    ]);
    o.gateways[0].lines =
        vec![http(other, "/a", SIDECAR, GATEWAY, SERVER), http(TOKEN, "/b", SIDECAR, GATEWAY, SERVER)];
    o.servers = vec![request(1, GATEWAY, other, "/a"), request(1, GATEWAY, TOKEN, "/b")];
    let joined = joined(&o);
    assert_eq!(hops(&joined), ["sidecar sockets+token", "gateway sockets+token", "destination sockets+token /b"]);
    assert_eq!(joined.state, State::Closed);
    let whys: Vec<_> = joined
        .leftovers
        .iter()
        .map(|l| matches!(l, Leftover::Line { why, .. } if why == "carries another token"))
        .collect();
    assert_eq!(whys, [true, true]);
}

#[test]
fn two_exchanges_of_one_curl_on_one_connection_keep_their_order() {
    let mut o = observation();
    o.sidecar = Some(vec![http(TOKEN, "/1", CURL, SIDECAR, SERVER), http(TOKEN, "/2", CURL, SIDECAR, SERVER)]);
    o.servers = vec![request(1, SIDECAR, TOKEN, "/1"), request(1, SIDECAR, TOKEN, "/2")];
    let two = joined(&o);
    let want = |by: &str, n: u8| format!("destination {by} /{n}");
    let by = "sockets+token";
    assert_eq!(hops(&two), ["sidecar sockets+token".into(), want(by, 1), "sidecar sockets+token".into(), want(by, 2)]);
    assert_eq!(two.state, State::Closed);
}

#[test]
fn where_a_proxy_names_no_upstream_the_chain_ends() {
    for fields in [
        &[("response_flags", "UH"), ("upstream_cluster", "BlackHoleCluster")][..],
        &[("response_flags", "NC")],
        &[("response_flags", "UF,URX"), ("upstream_host", "10.244.0.4:2234")],
    ] {
        let mut o = observation();
        let fields: Vec<_> = fields.iter().copied().chain([("downstream_remote_address", CURL)]).collect();
        o.sidecar = Some(vec![line(&fields)]);
        let ended = joined(&o);
        assert_eq!((hops(&ended), &ended.state), (vec!["sidecar sockets".to_owned()], &State::Closed), "{fields:?}");
    }
    let mut o = observation();
    o.sidecar = Some(vec![tcp(CURL, SIDECAR, "10.244.0.4:2234")]);
    o.gateways[0].lines =
        vec![line(&[("downstream_remote_address", SIDECAR), ("response_flags", "UF,URX"), ("upstream_host", SERVER)])];
    let ended = joined(&o);
    assert_eq!(hops(&ended), ["sidecar sockets", "gateway sockets"]);
    assert_eq!(ended.state, State::Closed);
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let mut o = observation();
    waits(&joined(&o), "no witness has spoken");
    o.servers = vec![request(1, SIDECAR, TOKEN, "/")];
    waits(&joined(&o), "ns/meshed's sidecar whose upstream socket is 10.244.0.8:50001");
    o.servers = vec![request(1, GATEWAY, TOKEN, "/")];
    waits(&joined(&o), "the gateway's line whose upstream socket is 10.244.0.4:50002");
    o.servers.clear();
    o.sidecar = Some(vec![tcp(CURL, SIDECAR, "10.244.0.4:2234")]);
    waits(&joined(&o), "the egress gateway's line for the connection from ns/meshed");
    o.sidecar = Some(vec![tcp(CURL, SIDECAR, SERVER)]);
    waits(&joined(&o), "the record at 192.0.2.7:80 of the connection from ns/meshed (10.244.0.8:50001)");
    o.servers = vec![record(1, SIDECAR, ServerEvent::Connection)];
    waits(&joined(&o), "what server got on the connection from 10.244.0.8:50001");
    o.servers.push(record(1, SIDECAR, ServerEvent::Closed));
    assert_eq!(joined(&o).state, State::Closed);
}

#[test]
fn a_connection_without_a_request_is_its_own_hop() {
    let mut o = observation();
    o.sidecar = Some(vec![tcp(CURL, SIDECAR, SERVER)]);
    let tls = ServerEvent::Tls { sni: Some("h".into()) };
    let failed = ServerEvent::TlsError { sni: Some("h".into()), message: "bad".into() };
    for (event, got) in [(tls, Got::Connection), (failed, Got::TlsError)] {
        o.servers = vec![record(1, SIDECAR, event), record(1, SIDECAR, ServerEvent::Closed)];
        let joined = joined(&o);
        let Some(SeenHop::Destination(seen)) = joined.path.hops.last() else { panic!() };
        assert_eq!((seen.got, seen.sni.as_deref()), (got, Some("h")));
        assert_eq!(joined.state, State::Closed);
    }
}

#[test]
fn silence_is_proved_by_a_sentinel_or_by_curl_itself() {
    let mut o = observation();
    o.client = Some(ClientResult { exit: 28, status: None, local: None, connects: 0, ..client() });
    waits(&joined(&o), "no witness has spoken");
    let sentinel = http("sentinel", "/", "10.244.0.8:50009", SIDECAR, SERVER);
    o.sidecar = Some(vec![sentinel.clone()]);
    o.sentinel = Some(sentinel);
    let silent = joined(&o);
    assert_eq!((silent.path.hops.len(), &silent.state), (0, &State::Closed));
    // A response that nobody sent is no silence.
    o.client = Some(client());
    assert!(matches!(joined(&o).state, State::Inconclusive { .. }));
    // A name that does not resolve never left.
    let mut o = observation();
    o.client = Some(ClientResult { exit: 6, status: None, local: None, connects: 0, ..client() });
    assert_eq!(joined(&o).state, State::Closed);
    // Nothing stands between a plain client and the server: a connect that timed out reached nobody.
    o.sidecar = None;
    o.client = Some(ClientResult { exit: 28, status: None, local: None, connects: 0, ..client() });
    assert_eq!(joined(&o).state, State::Closed);
}

#[test]
fn an_answer_that_is_not_whole_is_inconclusive_whatever_else_was_seen() {
    let mut o = observation();
    o.sidecar = Some(vec![http(TOKEN, "/", CURL, SIDECAR, SERVER)]);
    o.servers = vec![request(1, SIDECAR, TOKEN, "/")];
    o.client = None;
    let unknown = joined(&o);
    assert!(matches!(unknown.state, State::Inconclusive { .. }));
    assert_eq!(hops(&unknown), ["sidecar token", "destination sockets+token /"]);
}

#[test]
fn a_client_that_bypasses_its_sidecar_or_has_none() {
    for sidecar in [Some(vec![]), None] {
        let mut o = observation();
        o.sidecar = sidecar;
        o.servers = vec![request(1, CURL, TOKEN, "/")];
        let direct = joined(&o);
        assert_eq!((hops(&direct), &direct.state), (vec!["destination sockets+token /".to_owned()], &State::Closed));
        o.servers.clear();
        o.gateways[0].lines = vec![tcp(CURL, GATEWAY, SERVER)];
        o.servers = vec![request(1, GATEWAY, TOKEN, "/")];
        assert_eq!(hops(&joined(&o)), ["gateway sockets", "destination sockets+token /"]);
        assert_eq!(joined(&o).state, State::Closed);
    }
    let mut o = observation();
    o.sidecar = None;
    waits(&joined(&o), "a record of the connection of curl");
}

#[test]
fn a_record_beside_a_complete_chain_is_a_hop_too_many() {
    let mut o = observation();
    o.sidecar = Some(vec![http(TOKEN, "/", CURL, SIDECAR, SERVER)]);
    o.servers = vec![request(1, SIDECAR, TOKEN, "/"), request(2, "10.244.0.8:50077", TOKEN, "/")];
    let twice = joined(&o);
    assert_eq!(hops(&twice), ["sidecar sockets+token", "destination sockets+token /", "destination token /"]);
    assert_eq!(twice.state, State::Closed);
    // A mirrored request that went through the gateway.
    o.gateways[0].lines = vec![http(TOKEN, "/", "10.244.0.8:50077", GATEWAY, SERVER)];
    o.servers[1] = request(2, GATEWAY, TOKEN, "/");
    assert_eq!(hops(&joined(&o))[2..], ["gateway token", "destination sockets+token /"]);
}

#[test]
fn a_blocked_request_that_a_server_saw_is_not_blocked() {
    let mut o = observation();
    o.sidecar = Some(vec![line(&[("downstream_remote_address", CURL), ("response_flags", "UH")])]);
    o.servers = vec![request(1, "10.244.0.8:50077", TOKEN, "/")];
    assert_eq!(hops(&joined(&o)), ["sidecar sockets", "destination token /"]);
}

#[test]
fn a_node_that_masquerades_is_passed_by_the_token() {
    let mut o = observation();
    o.sidecar = Some(vec![http(TOKEN, "/", CURL, SIDECAR, SERVER)]);
    o.servers = vec![request(1, "172.18.0.2:61000", TOKEN, "/")];
    let masked = joined(&o);
    assert_eq!((hops(&masked)[1].as_str(), &masked.state), ("destination token /", &State::Closed));
    let Some(SeenHop::Destination(seen)) = masked.path.hops.last() else { panic!() };
    assert_eq!(seen.source, PeerOf::Other);
    // Without the token, a peer that changed proves nothing.
    o.servers = vec![request(1, "172.18.0.2:50001", "other", "/")];
    waits(&joined(&o), "the record at 192.0.2.7:80");
}

#[test]
fn a_port_that_is_used_again_does_not_lead_to_another_request() {
    let mut o = observation();
    o.sidecar = Some(vec![http("other", "/", CURL, SIDECAR, SERVER)]);
    let reused = joined(&o);
    assert_eq!(hops(&reused), Vec::<String>::new());
    assert!(matches!(reused.state, State::Open { .. }));
}

#[test]
fn several_connections_need_as_many_witnesses() {
    let mut o = observation();
    o.client = Some(ClientResult { connects: 2, ..client() });
    let first = http(TOKEN, "/1", "10.244.0.8:49000", SIDECAR, SERVER);
    o.sidecar = Some(vec![http(TOKEN, "/2", CURL, SIDECAR, SERVER)]);
    o.servers = vec![request(1, SIDECAR, TOKEN, "/1"), request(1, SIDECAR, TOKEN, "/2")];
    waits(&joined(&o), "1 more connection");
    o.sidecar.as_mut().expect("a sidecar").insert(0, first);
    let two = joined(&o);
    assert_eq!(two.state, State::Closed);
    assert_eq!(hops(&two)[0], "sidecar token");
    // TCP lines of unknown sockets: one can be taken, two cannot be told apart.
    o.servers.clear();
    let other =
        |port: u16| line(&[("downstream_remote_address", &format!("10.244.0.8:{port}")), ("response_flags", "UH")]);
    let own = line(&[("downstream_remote_address", CURL), ("response_flags", "UH")]);
    o.sidecar = Some(vec![own.clone(), other(49000)]);
    assert_eq!(hops(&joined(&o)), ["sidecar sockets", "sidecar unknown"]);
    o.sidecar = Some(vec![own, other(49000), other(49001)]);
    assert!(matches!(joined(&o).state, State::Inconclusive { .. }));
}

#[test]
fn a_client_without_a_sidecar_makes_its_exchanges_in_order() {
    let mut o = observation();
    o.sidecar = None;
    o.client = Some(ClientResult { connects: 2, ..client() });
    o.servers = vec![request(1, "10.244.0.8:49000", TOKEN, "/1")];
    waits(&joined(&o), "1 more connection");
    o.servers.push(request(2, "10.244.0.8:49001", "other", "/other"));
    o.servers.push(request(3, CURL, TOKEN, "/2"));
    let two = joined(&o);
    assert_eq!(two.state, State::Closed);
    assert_eq!(hops(&two), ["destination token /1", "destination sockets+token /2"]);
    // A source port that is used again at once is one more connection all the same.
    o.servers = vec![request(1, CURL, TOKEN, "/1"), request(2, CURL, TOKEN, "/2")];
    let again = joined(&o);
    assert_eq!(again.state, State::Closed);
    assert_eq!(hops(&again), ["destination sockets+token /1", "destination sockets+token /2"]);
    o.servers.pop();
    waits(&joined(&o), "1 more connection");
}

#[test]
fn two_connections_may_leave_by_one_port_to_different_servers() {
    let mut o = observation();
    o.client = Some(ClientResult { connects: 2, ..client() });
    let blocked = |to: &str| {
        line(&[("downstream_remote_address", CURL), ("downstream_local_address", to), ("response_flags", "UH")])
    };
    o.sidecar = Some(vec![blocked("192.0.2.7:443")]);
    waits(&joined(&o), "1 more connection");
    o.sidecar = Some(vec![blocked("192.0.2.7:443"), blocked("192.0.2.8:443")]);
    assert_eq!(joined(&o).state, State::Closed);
}

#[test]
fn a_failed_tls_handshake_is_waited_for_where_the_server_must_have_seen_it() {
    let mut o = observation();
    o.sidecar = Some(vec![line(&[
        ("downstream_remote_address", CURL),
        ("response_flags", "UF,URX"),
        ("upstream_host", SERVER),
        ("upstream_transport_failure_reason", "TLS_error:|268435581:SSL routines:x:TLS_error_end"),
    ])]);
    waits(&joined(&o), "the record of the failed TLS handshake");
    let failed = |n| record(n, "10.244.0.8:50003", ServerEvent::TlsError { sni: None, message: "bad".into() });
    o.servers = vec![failed(1), failed(2)];
    let tried = joined(&o);
    assert_eq!(tried.state, State::Closed);
    let Some(SeenHop::Destination(seen)) = tried.path.hops.last() else { panic!() };
    assert_eq!((seen.connections, seen.joined_by), (2, JoinedBy::Unknown));
}

#[test]
fn a_path_is_rendered_hop_by_hop() {
    let mut o = observation();
    o.sidecar = Some(vec![http(TOKEN, "/", CURL, SIDECAR, SERVER)]);
    o.servers = vec![request(1, SIDECAR, TOKEN, "/")];
    insta::assert_snapshot!(render_path(&joined(&o).path), @r#"
    1. sidecar ns/meshed, 200, cluster none, upstream 192.0.2.7:80 (joined by sockets+token)
       [2026-11-21T01:00:00.000Z] "GET / HTTP/1.1" 200 - - - "-" - - - - "-" "curl probe/0123456789abcdef x" "-" "-" "192.0.2.7:80" - 10.244.0.8:50001 - 10.244.0.8:50000 - -
    2. destination server at 192.0.2.7:80, got a request, from 10.244.0.8:50001 (joined by sockets+token)
       GET /, Host h; user-agent: curl probe/0123456789abcdef x
    "#);
}

#[test]
fn all_that_a_pod_has_sent_is_joined_without_a_token() {
    let mut o = observation();
    (o.token, o.client) = (None, None);
    let second = "10.244.0.8:49000";
    o.sidecar = Some(vec![http("any", "/1", CURL, SIDECAR, SERVER), http("any", "/2", second, SIDECAR, SERVER)]);
    o.servers = vec![request(1, SIDECAR, "any", "/1"), request(1, SIDECAR, "any", "/2")];
    let open = super::join_pod(&o, &Format::istio_text("1.31.0").expect("a format"), &[]);
    assert!(matches!(open.state, State::Open { .. }), "{:?}", open.state);
    o.sentinel = Some("a later line".into());
    let closed = super::join_pod(&o, &Format::istio_text("1.31.0").expect("a format"), &[]);
    assert_eq!(closed.state, State::Closed);
    let kinds: Vec<_> = closed.path.hops.iter().map(|h| h.kind()).collect();
    assert_eq!(kinds, ["sidecar", "destination", "sidecar", "destination"]);
    o.servers.clear();
    waits(&super::join_pod(&o, &Format::istio_text("1.31.0").expect("a format"), &[]), "the record at 192.0.2.7:80");
    let inside = ["192.0.2.7".parse().expect("an address")];
    let ended = super::join_pod(&o, &Format::istio_text("1.31.0").expect("a format"), &inside);
    assert_eq!((ended.state, ended.path.hops.len()), (State::Closed, 2));
}
