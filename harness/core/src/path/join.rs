//! Joining: from the client's socket hop by hop, then what carries the token beside the chain.

use std::net::IpAddr;

use super::follow::Chain;
use super::model::{Joined, JoinedBy, Leftover, Path};
use super::state;
use super::witness::Witnesses;
use crate::access_log::Format;
use crate::evidence::Observation;

/// Joins the witnesses of one probe into its path.
///
/// Pure: the same observation always gives the same path. While more evidence can come the state is
/// [`Open`](super::State::Open); a caller that waits calls again with more.
#[must_use]
pub fn join(observation: &Observation, format: &Format) -> Joined {
    let mut chain = Chain::new(Witnesses::read(observation, format));
    chain.follow_sidecar();
    chain.follow_client();
    chain.complete = chain.waiting.is_none() && !chain.hops.is_empty();
    chain.beside();
    let state = state::of(&chain);
    let Chain { witnesses, hops, .. } = chain;
    Joined { path: Path { hops }, leftovers: leftovers(witnesses), state }
}

/// Joins all that a pod has sent since the bookmark: requests without a token, made by commands that are not ours. Nobody
/// else sends from that pod meanwhile, so every line of its sidecar is theirs; onward it goes by sockets.
///
/// An observation with a sentinel has everything that the sidecar will write. At the addresses `without_record` are servers
/// that are not ours: a way that leads to one ends with the line of the proxy before it.
#[must_use]
pub fn join_pod(observation: &Observation, format: &Format, without_record: &[IpAddr]) -> Joined {
    let mut chain = Chain::new(Witnesses::read(observation, format));
    chain.without_record = without_record.to_vec();
    chain.follow_sidecar();
    chain.follow_client();
    let state = state::of_pod(&chain);
    let Chain { witnesses, hops, .. } = chain;
    Joined { path: Path { hops }, leftovers: leftovers(witnesses), state }
}

fn leftovers(witnesses: Witnesses<'_>) -> Vec<Leftover> {
    let why_line = |other: Option<bool>| match other {
        Some(false) => "carries another token",
        _ => "no socket of this request leads here",
    };
    let lines: Vec<_> = witnesses
        .lines
        .iter()
        .filter(|line| !line.used)
        .map(|line| Leftover::Line {
            pod: line.pod.to_owned(),
            line: line.text.to_owned(),
            why: why_line(witnesses.token_in(line)).to_owned(),
        })
        .collect();
    let connections = witnesses.connections.iter().filter(|c| !c.used && c.requests.iter().all(|r| !r.used));
    let connections = connections.map(|c| Leftover::Connection {
        record: c.first.clone(),
        why: "no hop of this request has this socket".to_owned(),
    });
    let mut all = lines;
    all.extend(connections);
    all.splice(0..0, witnesses.unparsed);
    all
}

/// How a witness is joined that names the right socket, and carries the token or does not show one.
pub(super) fn by_sockets(token: Option<bool>) -> JoinedBy {
    if token == Some(true) { JoinedBy::SocketsAndToken } else { JoinedBy::Sockets }
}
