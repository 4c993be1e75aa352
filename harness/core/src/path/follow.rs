//! Following a request from witness to witness.
//!
//! Every line and record is used at most once, so following ends. Start at [`Chain::follow_sidecar`].

use std::net::{IpAddr, SocketAddr};

use super::join::by_sockets;
use super::model::{DestinationSeen, JoinedBy, PeerOf, SeenHop};
use super::witness::Witnesses;

/// The chain as far as it has been followed.
pub(super) struct Chain<'a> {
    pub(super) witnesses: Witnesses<'a>,
    pub(super) hops: Vec<SeenHop>,
    /// The first thing that a witness points to and that is not there yet.
    pub(super) waiting: Option<String>,
    /// Why the path cannot be known.
    pub(super) unclear: Option<String>,
    /// Whether the request's own chain, from the client on, is complete.
    pub(super) complete: bool,
    /// Addresses of servers that keep no record for us: a way that leads there ends there.
    pub(super) without_record: Vec<IpAddr>,
}

/// A proxy's line, as the hop that others follow from.
struct From {
    pod: String,
    socket: SocketAddr,
    http: bool,
    path: Option<String>,
    /// How many lines of the path leave by the same socket.
    sharing: usize,
}

impl<'a> Chain<'a> {
    pub(super) fn new(witnesses: Witnesses<'a>) -> Self {
        Self { witnesses, hops: Vec::new(), waiting: None, unclear: None, complete: false, without_record: Vec::new() }
    }

    /// Notes what is missing; the first is what is reported.
    pub(super) fn wait_for(&mut self, what: impl FnOnce() -> String) {
        if self.waiting.is_none() {
            self.waiting = Some(what());
        }
    }

    /// The sidecar's lines of this request, each followed to its end.
    pub(super) fn follow_sidecar(&mut self) {
        let mut starts = self.sidecar_lines();
        starts.sort_by_key(|(line, _)| (self.witnesses.lines[*line].record.start_time(), *line));
        let sockets: Vec<_> =
            starts.iter().map(|(line, _)| self.witnesses.lines[*line].record.upstream_local_address()).collect();
        for (line, joined_by) in starts {
            let socket = self.witnesses.lines[line].record.upstream_local_address();
            let sharing = sockets.iter().filter(|s| s.is_some() && **s == socket).count();
            self.take_line(line, joined_by, sharing);
        }
    }

    /// Which lines of the sidecar's log are this request's.
    fn sidecar_lines(&mut self) -> Vec<(usize, JoinedBy)> {
        let w = &self.witnesses;
        let several = w.observation.client.as_ref().is_some_and(|c| c.connects > 1);
        let mut found = Vec::new();
        let mut guesses = Vec::new();
        for (n, line) in w.lines.iter().enumerate().filter(|(_, line)| !line.gateway) {
            let token = w.token_in(line);
            if w.local.is_some() && line.downstream() == w.local {
                if token != Some(false) {
                    found.push((n, by_sockets(token)));
                }
            } else if token == Some(true) {
                found.push((n, JoinedBy::Token));
            } else if token.is_none() && line.downstream().map(|s| s.ip()) == w.client_ip {
                guesses.push((n, JoinedBy::Unknown));
            }
        }
        // Without curl's socket, or with only the last of several, what comes from its pod and cannot be told apart
        // may be its own. One such line is taken and marked; more are not guessed at.
        let incomplete = w.local.is_none() || several;
        let old_recording = w.token.is_none();
        if incomplete && (found.is_empty() || several) && !guesses.is_empty() {
            if guesses.len() == 1 || old_recording {
                found.extend(guesses);
            } else {
                self.unclear = Some(format!(
                    "{} lines of the sidecar could be of this request, and curl's socket is unknown",
                    guesses.len()
                ));
            }
        }
        found
    }

    /// What was reached by curl's own socket, past the sidecar or without one.
    pub(super) fn follow_client(&mut self) {
        self.earlier_connections();
        let w = &self.witnesses;
        if let Some(socket) = w.local {
            let from = From { pod: w.observation.client_pod.name.clone(), socket, http: false, path: None, sharing: 1 };
            self.next(&from);
        } else if w.token.is_none() && self.hops.is_empty() {
            self.by_client_address();
        }
    }

    /// Where a client without a sidecar made several connections, curl names the socket of the last. What the servers got
    /// on the others carries the token; it is taken in the order in which it came.
    fn earlier_connections(&mut self) {
        let w = &self.witnesses;
        let several = w.observation.client.as_ref().is_some_and(|c| c.connects > 1);
        let Some(token) = w.token.filter(|_| several && w.observation.sidecar.is_none()) else { return };
        let local = w.local;
        for n in 0..w.connections.len() {
            let peer = self.witnesses.connections[n].peer;
            if self.witnesses.owner(peer.ip()) == PeerOf::Gateway {
                continue;
            }
            let joined_by = if Some(peer) == local { JoinedBy::SocketsAndToken } else { JoinedBy::Token };
            let ours = |request: &super::connection::Request<'_>| request.carries(token).then_some(joined_by);
            if self.witnesses.connections[n].requests.iter().any(|request| request.carries(token)) {
                self.take_connection(n, ours, joined_by, false);
            }
        }
    }

    /// An old recording without curl's socket and token: what came from the client's pod.
    fn by_client_address(&mut self) {
        let Some(ip) = self.witnesses.client_ip else { return };
        let from_client = |s: Option<SocketAddr>| s.is_some_and(|s| s.ip() == ip);
        let lines: Vec<_> = (0..self.witnesses.lines.len())
            .filter(|n| self.witnesses.lines[*n].gateway && from_client(self.witnesses.lines[*n].downstream()))
            .collect();
        for line in lines {
            self.take_line(line, JoinedBy::Unknown, 1);
        }
        for n in 0..self.witnesses.connections.len() {
            let connection = &self.witnesses.connections[n];
            if connection.peer.ip() == ip && !connection.used {
                self.take_connection(n, |_| Some(JoinedBy::Unknown), JoinedBy::Unknown, false);
            }
        }
    }

    /// Puts a line on the path and follows it.
    fn take_line(&mut self, n: usize, joined_by: JoinedBy, sharing: usize) {
        let line = &mut self.witnesses.lines[n];
        if line.used {
            return;
        }
        line.used = true;
        let seen = line.seen(joined_by);
        let socket = line.record.upstream_local_address();
        let from = socket.map(|socket| From {
            pod: line.pod.to_owned(),
            socket,
            http: line.record.is_http(),
            path: line.record.get("path").map(str::to_owned),
            sharing,
        });
        let hop = if line.gateway { SeenHop::Gateway(seen) } else { SeenHop::Sidecar(seen) };
        self.hops.push(hop);
        match from {
            None => self.failed_attempts(n),
            Some(from) => {
                if !self.next(&from) && !self.past_a_masquerade(n) {
                    self.nothing_there(n, &from);
                }
            }
        }
    }

    /// Takes what has `from.socket` as its peer. Returns whether there was anything.
    fn next(&mut self, from: &From) -> bool {
        let w = &self.witnesses;
        let mut lines: Vec<_> = w
            .lines
            .iter()
            .enumerate()
            .filter(|(_, l)| {
                l.gateway && !l.used && l.downstream() == Some(from.socket) && w.token_in(l) != Some(false)
            })
            .map(|(n, l)| (n, w.token_in(l), l.record.get("path") == from.path.as_deref()))
            .collect();
        if from.sharing > 1 {
            // Several requests of this probe on one connection: one each, the same path first.
            lines.sort_by_key(|(n, _, same_path)| (!same_path, *n));
            lines.truncate(1);
        }
        if !lines.is_empty() {
            for (n, token, _) in lines {
                self.take_line(n, by_sockets(token), 1);
            }
            return true;
        }
        let connections: Vec<_> = (0..w.connections.len())
            .filter(|n| w.connections[*n].peer == from.socket && !w.connections[*n].used)
            .collect();
        let mut any = false;
        for n in connections {
            let token = self.witnesses.token;
            // Only a proxy's HTTP connections are shared with other requests.
            let ours = |carries: Option<bool>| match carries {
                Some(false) if from.http => None,
                other => Some(by_sockets(other)),
            };
            let only_one = from.sharing > 1;
            any |=
                self.take_connection(n, |request| ours(token.map(|t| request.carries(t))), JoinedBy::Sockets, only_one);
        }
        any
    }

    /// Puts the requests of a connection on the path that `accept` accepts; without any request the connection itself.
    fn take_connection(
        &mut self,
        n: usize,
        accept: impl Fn(&super::connection::Request<'_>) -> Option<JoinedBy>,
        bare: JoinedBy,
        only_one: bool,
    ) -> bool {
        let source = self.witnesses.owner(self.witnesses.connections[n].peer.ip());
        let connection = &mut self.witnesses.connections[n];
        let mut taken = Vec::new();
        for r in 0..connection.requests.len() {
            let request = &connection.requests[r];
            let Some(joined_by) = (if request.used { None } else { accept(request) }) else { continue };
            taken.push(connection.hop(Some(request), source, joined_by));
            connection.requests[r].used = true;
            if only_one {
                break;
            }
        }
        let mut unsettled = None;
        if taken.is_empty() && connection.requests.is_empty() {
            taken.push(connection.hop(None, source, bare));
            connection.used = true;
            if !connection.settled() {
                unsettled = Some((connection.first.destination.clone(), connection.peer));
            }
        }
        if let Some((destination, peer)) = unsettled {
            self.wait_for(|| format!("what {destination} got on the connection from {peer}"));
        }
        let any = !taken.is_empty();
        self.hops.extend(taken.into_iter().map(SeenHop::Destination));
        any
    }

    /// A proxy that names an upstream but has no socket to it: its attempts, where a server saw them, are one hop.
    fn failed_attempts(&mut self, n: usize) {
        let w = &self.witnesses;
        let line = &w.lines[n];
        let (Some(host), Some(ip)) = (line.record.upstream_host(), line.pod_ip) else { return };
        let reason = line.record.get("upstream_transport_failure_reason").unwrap_or_default();
        let tls = reason.contains("TLS_error");
        if !(tls || line.record.has_flag("UF")) {
            return;
        }
        let pod = line.pod.to_owned();
        let attempts: Vec<_> = (0..w.connections.len())
            .filter(|c| {
                let c = &w.connections[*c];
                !c.used && c.peer.ip() == ip && c.local == host && c.requests.is_empty() && c.settled()
            })
            .collect();
        let to_gateway = w.owner(host.ip()) == PeerOf::Gateway;
        let mut hops: Vec<DestinationSeen> = Vec::new();
        for c in attempts {
            let source = self.witnesses.owner(ip);
            let connection = &mut self.witnesses.connections[c];
            connection.used = true;
            let hop = connection.hop(None, source, JoinedBy::Unknown);
            match hops.iter_mut().find(|h| h.name == hop.name && h.got == hop.got && h.sni == hop.sni) {
                Some(same) => same.connections += 1,
                None => hops.push(hop),
            }
        }
        if hops.is_empty() && tls && !to_gateway {
            self.wait_for(|| format!("the record of the failed TLS handshake of {pod} at {host}"));
        }
        self.hops.extend(hops.into_iter().map(SeenHop::Destination));
    }

    /// A node that masquerades changes the socket; then the token at the address that the proxy names must do.
    fn past_a_masquerade(&mut self, n: usize) -> bool {
        let w = &self.witnesses;
        let (Some(token), Some(host)) = (w.token, w.lines[n].record.upstream_host()) else { return false };
        let candidates: Vec<_> = (0..w.connections.len())
            .filter(|c| {
                let c = &w.connections[*c];
                c.local == host && !c.used && w.owner(c.peer.ip()) == PeerOf::Other
            })
            .collect();
        let by_token = |request: &super::connection::Request<'_>| request.carries(token).then_some(JoinedBy::Token);
        let mut any = false;
        for c in candidates {
            if self.witnesses.connections[c].requests.iter().any(|r| !r.used && r.carries(token)) {
                any |= self.take_connection(c, by_token, JoinedBy::Token, false);
            }
        }
        any
    }

    fn nothing_there(&mut self, n: usize, from: &From) {
        let host = self.witnesses.lines[n].record.upstream_host();
        if host.is_some_and(|h| self.without_record.contains(&h.ip())) {
            return;
        }
        let gateway = host.is_some_and(|h| self.witnesses.owner(h.ip()) == PeerOf::Gateway);
        let (pod, socket) = (&from.pod, from.socket);
        let upstream = host.map_or_else(|| "an unknown upstream".to_owned(), |h| h.to_string());
        self.wait_for(|| {
            if gateway {
                format!("the egress gateway's line for the connection from {pod} ({socket} to {upstream})")
            } else {
                format!("the record at {upstream} of the connection from {pod} ({socket})")
            }
        });
    }

    /// What carries the token and is not on the chain from the client.
    pub(super) fn beside(&mut self) {
        let Some(token) = self.witnesses.token else { return };
        for n in 0..self.witnesses.lines.len() {
            let line = &self.witnesses.lines[n];
            if line.gateway && !line.used && self.witnesses.token_in(line) == Some(true) {
                let (pod, peer) = (line.pod.to_owned(), line.downstream());
                self.unexplained(peer, &format!("the line of {pod}"));
                self.take_line(n, JoinedBy::Token, 1);
            }
        }
        for n in 0..self.witnesses.connections.len() {
            let connection = &self.witnesses.connections[n];
            let requests = connection.requests.iter().any(|r| !r.used && r.carries(token));
            let bytes = connection.requests.is_empty() && !connection.used && connection.carries(token);
            if requests || bytes {
                let (name, peer) = (connection.first.destination.clone(), connection.peer);
                self.unexplained(Some(peer), &format!("the record of {name}"));
                let accept = |r: &super::connection::Request<'_>| r.carries(token).then_some(JoinedBy::Token);
                self.take_connection(n, accept, JoinedBy::Token, false);
            }
        }
    }

    /// As long as the chain from the client is not complete, whoever sent this may still say so.
    fn unexplained(&mut self, peer: Option<SocketAddr>, what: &str) {
        if self.complete {
            return;
        }
        let Some(peer) = peer else { return };
        let pod = self.witnesses.observation.client_pod.name.clone();
        match self.witnesses.owner(peer.ip()) {
            PeerOf::Gateway => self.wait_for(|| format!("the gateway's line whose upstream socket is {peer} ({what})")),
            _ if self.witnesses.observation.sidecar.is_some() => {
                self.wait_for(|| format!("the line of {pod}'s sidecar whose upstream socket is {peer} ({what})"));
            }
            // A client without a sidecar: an earlier connection of curl's, or a node that masquerades.
            _ => {}
        }
    }
}
