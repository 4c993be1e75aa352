//! The supervisor: one detached process per mesh, which several processes share.
//!
//! `up`, `down`, `shell`, `run` and `cargo test` are its clients. It brings the mesh up, gives out leases of slots or of the
//! whole mesh, cleans up after each, however the client ended, and takes the mesh down when nobody wants it any more. It
//! runs no scenario and judges nothing.
//!
//! Reading order: [`protocol`] (what is said), [`home`] (how a client finds or starts it), [`grants`] (who is next),
//! [`keeper`] (what it does), [`link`] (the client's end).

mod bring_up;
mod grants;
pub mod home;
mod keeper;
mod life;
pub mod link;
pub mod protocol;
mod serve;

/// Hidden first argument of a supervisor's process.
const SUPERVISOR: &str = "__egress-supervisor";

/// Turns this process into one of the harness's own, if it was started as one; then it never returns. Else it does
/// nothing. Call it first in `main`, before any thread is started.
pub fn run_if_child() {
    egress_sandbox::run_if_child();
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == SUPERVISOR) {
        serve::main(arguments.next());
    }
}
