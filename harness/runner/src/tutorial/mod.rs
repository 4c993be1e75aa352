//! Running tutorials: a page's commands in a real shell, against a real mesh, with the way of each request.
//!
//! Pages are read and judged by [`egress_core::tutorial`]; here is what acts: the folder and its programs ([`workspace`]),
//! the shell ([`shell`]), the cluster around them ([`surroundings`]), the witnesses ([`witness`]). It changes no command.
//! Start at [`run::run`].

pub mod run;
pub mod shell;
pub mod surroundings;
pub mod witness;
pub mod workspace;
