//! kind clusters: in a contained Docker engine without side effects on the machine, or in the machine's own Docker; with
//! external servers beside the nodes, and a kubeconfig that works from the machine.
//!
//! An own engine ([`Engine`]) is a dockerd in network, mount and pid namespaces of its own that have only a loopback device
//! and no way out; its programs come from Debian packages in the component cache. It ends with the process that started it,
//! however that ends. In the machine's Docker ([`Machine`]) pods have no way out either, but for the servers. [`sweep`]
//! removes what a killed owner left. What this crate never does: decide which images or scenarios there are.
//!
//! Linux; an own engine needs root. Start at [`Kind::start`]; its parts are [`Docker`], [`Cluster`] and [`Servers`].

mod cluster;
mod docker;
mod door;
mod engine;
mod error;
mod kind;
mod machine;
mod node;
mod servers;
mod state;
mod sweep;
mod sysctls;
mod tool;
mod wait;

pub use cluster::{Cluster, ClusterOptions, config};
pub use docker::Docker;
pub use door::{Dialer, Door};
pub use engine::{ENGINE_ROOT, Engine, Phase, Phases};
pub use error::Error;
pub use kind::{Kind, KindOptions, Where};
pub use machine::{Found, Machine};
pub use servers::{Control, OUTSIDE, Servers};
pub use sweep::{Swept, sweep};
