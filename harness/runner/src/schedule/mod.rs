//! Running scenarios: the engine ([`engine`]), one step ([`step`]), what a step's objects need before a probe
//! ([`readiness`]), the world outside ([`world`]), and the run as a whole ([`session`]).

pub mod engine;
mod look;
pub mod readiness;
pub mod session;
pub mod step;
pub mod world;
