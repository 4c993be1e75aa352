//! Running scenarios: what one runs on ([`stage`]), the engine ([`engine`]), one step ([`step`]), what a step's objects
//! need before a probe ([`readiness`]), the world outside ([`world`]), and this process's part in a mesh ([`session`]).

pub mod engine;
mod look;
pub mod readiness;
pub mod session;
pub mod stage;
pub mod step;
pub mod world;
