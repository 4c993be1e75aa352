//! SPDY/3.1, the server's side: what `kubectl port-forward` and older clients' streams travel in.
//!
//! As much of the protocol as Kubernetes uses: streams that the client opens, data, half-close, reset, ping, go-away.
//! There is no flow control, because the clients have none either, and no stream is opened from this side. It knows
//! nothing of pods. Start at [`upgrade::accept`] and [`connection::run`]; [`frame`] and [`headers`] are pure.

#[cfg(test)]
pub(super) mod client;
pub(super) mod connection;
mod dictionary;
pub(super) mod frame;
mod headers;
pub(super) mod upgrade;

pub(super) use self::connection::{Gone, Incoming, Opened, StreamReader, StreamWriter};
pub(super) use self::headers::Headers;
