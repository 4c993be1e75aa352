//! kind clusters without side effects on the machine: a contained Docker engine, clusters made in it, and a door through
//! which a process of the host reaches them.
//!
//! The engine ([`Engine`]) is a dockerd in network, mount and pid namespaces of its own that have only a loopback device
//! and no way out; its programs come from Debian packages in the component cache, not from the machine. It ends with the
//! process that started it, however that ends; [`sweep`] removes what a killed one left. What this crate never does:
//! decide which images or scenarios there are.
//!
//! Linux, root. Start at [`Kind::start`]; its parts are [`Engine`], [`Cluster`] and [`Servers`].

mod cluster;
mod door;
mod engine;
mod error;
mod kind;
mod servers;
mod tool;
mod wait;

pub use cluster::{Cluster, ClusterOptions, config};
pub use door::{Dialer, Door};
pub use engine::{ENGINE_ROOT, Engine, Phase, Phases, Swept, sweep};
pub use error::Error;
pub use kind::{Kind, KindOptions};
pub use servers::{OUTSIDE, Servers};
