//! Whether a chain is all there is.

use super::follow::Chain;
use super::model::{SeenHop, State};
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

/// How many of curl's own sockets are on the path.
fn first_sockets(chain: &Chain<'_>) -> usize {
    let meshed = chain.witnesses.observation.sidecar.is_some();
    let mut sockets: Vec<_> = chain
        .hops
        .iter()
        .filter_map(|hop| match hop {
            SeenHop::Sidecar(proxy) => proxy.record.downstream_remote_address(),
            SeenHop::Gateway(proxy) => proxy
                .record
                .downstream_remote_address()
                .filter(|s| !meshed && Some(s.ip()) == chain.witnesses.client_ip || Some(*s) == chain.witnesses.local),
            // Without a sidecar every connection that is no gateway's is curl's, masqueraded or not.
            SeenHop::Destination(seen) => {
                let direct = Some(seen.peer) == chain.witnesses.local;
                (direct || (!meshed && seen.source != super::model::PeerOf::Gateway)).then_some(seen.peer)
            }
        })
        .collect();
    sockets.sort();
    sockets.dedup();
    sockets.len()
}
