//! Whether a chain is all there is.

use std::net::SocketAddr;

use super::connection::Connection;
use super::follow::Chain;
use super::model::{PeerOf, SeenHop, State};
use crate::evidence::ClientResult;

/// curl's exit codes after which it had no connection: bad usage, names that do not resolve, connect refused.
const NEVER_CONNECTED: [i32; 7] = [1, 2, 3, 4, 5, 6, 7];

/// The state of a chain that has been followed as far as it goes.
pub(super) fn of(chain: &Chain<'_>) -> State {
    let observation = chain.witnesses.observation;
    let Some(client) = &observation.client else {
        return State::Inconclusive { why: "the client's answer did not come back whole".to_owned() };
    };
    if let Some(why) = &chain.unclear {
        return State::Inconclusive { why: why.clone() };
    }
    if let Some(waiting_for) = &chain.waiting {
        return State::Open { waiting_for: waiting_for.clone() };
    }
    if chain.hops.is_empty() {
        return silence(chain, client);
    }
    let missing = usize::try_from(client.connects).unwrap_or(usize::MAX).saturating_sub(first_sockets(chain));
    if missing > 0 {
        let pod = &observation.client_pod.name;
        return State::Open { waiting_for: format!("witnesses of {missing} more connection(s) of curl's in {pod}") };
    }
    State::Closed
}

/// The same where nothing of the client's own is known but its pod.
pub(super) fn of_pod(chain: &Chain<'_>) -> State {
    let observation = chain.witnesses.observation;
    let pod = &observation.client_pod.name;
    if let Some(why) = &chain.unclear {
        return State::Inconclusive { why: why.clone() };
    }
    if let Some(waiting_for) = &chain.waiting {
        return State::Open { waiting_for: waiting_for.clone() };
    }
    if observation.sidecar.is_some() && observation.sentinel.is_none() {
        return State::Open { waiting_for: format!("a later line in the log of {pod}: more may come") };
    }
    if chain.hops.is_empty() && observation.sidecar.is_none() {
        return State::Open { waiting_for: format!("a record of a connection of {pod}") };
    }
    State::Closed
}

/// No hop at all: is it proved that there was none?
fn silence(chain: &Chain<'_>, client: &ClientResult) -> State {
    let observation = chain.witnesses.observation;
    let no_socket = client.local.is_none() && client.connects == 0;
    if no_socket && NEVER_CONNECTED.contains(&client.exit) {
        return State::Closed;
    }
    let pod = &observation.client_pod.name;
    if observation.sidecar.is_none() {
        // Nothing stands between such a client and the server: a connect that never succeeded reached nobody.
        return if no_socket && client.exit != 0 {
            State::Closed
        } else {
            State::Open { waiting_for: format!("a record of the connection of curl in {pod}") }
        };
    }
    match (&observation.sentinel, client.status) {
        (Some(_), None) => State::Closed,
        (Some(_), Some(status)) => {
            State::Inconclusive { why: format!("curl has a response ({status}), and no hop that it knows of sent one") }
        }
        (None, _) => State::Open { waiting_for: format!("anything about the request of {pod}: no witness has spoken") },
    }
}

/// How many of curl's own connections are on the path. Two may leave by one source port: to different servers, or one
/// after the other.
fn first_sockets(chain: &Chain<'_>) -> usize {
    let w = &chain.witnesses;
    let meshed = w.observation.sidecar.is_some();
    let mut proxied: Vec<_> = chain
        .hops
        .iter()
        .filter_map(|hop| {
            let (SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy)) = hop else { return None };
            let socket = proxy.record.downstream_remote_address()?;
            let own = match hop {
                SeenHop::Sidecar(_) => true,
                _ => !meshed && Some(socket.ip()) == w.client_ip || Some(socket) == w.local,
            };
            own.then(|| (socket, proxy.record.get("downstream_local_address")))
        })
        .collect();
    proxied.sort();
    proxied.dedup();
    // Without a sidecar every connection that is no gateway's is curl's, masqueraded or not.
    let own = |peer: SocketAddr| Some(peer) == w.local || (!meshed && w.owner(peer.ip()) != PeerOf::Gateway);
    let on_path = |c: &&Connection<'_>| c.used || c.requests.iter().any(|request| request.used);
    proxied.len() + w.connections.iter().filter(on_path).filter(|c| own(c.peer)).count()
}
