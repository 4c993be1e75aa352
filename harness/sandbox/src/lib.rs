//! A Kubernetes cluster without containers: the real control plane and proxies as processes, pods
//! as Linux namespaces.
//!
//! [`Sandbox::start`] gives a cluster with an ordinary kubeconfig, owned by the process that
//! started it and ended with it, however that process ends. It never changes the host's network,
//! files or sysctls, and nothing inside has a route out.
//!
//! Any program that starts a sandbox must call [`run_if_child`] as the first line of its `main`:
//! the sandbox runs that same program again, under hidden arguments, as its own processes.
//!
//! Reading order: `enter` (how a process gets inside), `host` (the program inside),
//! `network`, `control_plane`, `dns`, `node` (the node agent), `sandbox` (the owner's
//! side).

mod authorities;
mod component;
mod control_plane;
mod doctor;
mod door;
mod enter;
mod events;
mod host;
mod layout;
mod network;
mod node;
mod options;
mod os;
mod pki;
mod protocol;
mod sandbox;
pub mod snapshot;
pub mod state;
mod store;
mod userns;
mod wait;
mod world;

pub use doctor::{Check, doctor};
pub use egress_dns::{NameAnswer, Names};
pub use events::{ComponentFault, Event};
pub use options::{Options, Programs, Restore};
pub use sandbox::{ControlError, Sandbox, StartError, StopError, copy_logs};
pub use state::sweep;
pub use userns::{Setting, UserNamespaceError};

/// Whether this user can have a sandbox at all: root can, and everybody for whom a user namespace
/// with 65536 ids can be made, which is tried. The calling program must run [`run_if_child`] first
/// in its `main`. [`doctor`] looks closer.
///
/// # Errors
/// What is missing; [`UserNamespaceError::remedy`] tells how to get it.
pub fn preflight() -> Result<(), UserNamespaceError> {
    if userns::needed() { userns::try_out() } else { Ok(()) }
}

/// Turns this process into one of a sandbox's own, if it was started as one; then it never
/// returns. Else it does nothing. Call it first in `main`, before any thread is started.
pub fn run_if_child() {
    let mut arguments = std::env::args_os().skip(1);
    let Some(first) = arguments.next() else { return };
    match first.to_str() {
        Some(enter::ENTER) => enter::main(arguments),
        Some(userns::INSIDE) => userns::inside_main(arguments),
        Some(world::WORLD) => world::main(arguments),
        Some(doctor::DOCTOR) => doctor::child_main(),
        Some(node::container::CONTAINER) => node::container::main(),
        Some(node::container::EXEC) => node::container::exec::main(),
        _ => {}
    }
}
