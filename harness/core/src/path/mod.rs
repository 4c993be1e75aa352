//! The path of one request: its hops in order, joined from what the four witnesses said.
//!
//! [`join`] follows sockets: curl's own to the sidecar's line, each proxy's upstream socket to the next witness. A token
//! in the `User-Agent` tells requests on one pooled connection apart. What cannot be joined is a [`Leftover`], and what
//! may still come is named in [`State::Open`]. Nothing here compares with an expectation. Start at [`join`].

mod connection;
mod follow;
mod join;
mod model;
mod render;
mod state;
#[cfg(test)]
mod tests;
mod witness;

pub use join::{join, join_pod};
pub use model::{DestinationSeen, Joined, JoinedBy, Leftover, Path, PeerOf, ProxySeen, SeenHop, State};
pub use render::render_path;
