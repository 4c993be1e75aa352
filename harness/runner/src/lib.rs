//! End-to-end test harness and conformance suite for Istio egress.
//!
//! The effects around the pure core (`egress-core`): a cluster and its mesh ([`cluster`], [`mesh`]), the process that owns
//! it and lets others share it ([`supervisor`]), the gate that says when a configuration has arrived ([`gate`]), probes and
//! the evidence they leave ([`probe`], [`collect`]), the engine that runs scenarios ([`schedule`]) and the command
//! ([`cli`]). Verdicts are the core's business; nothing here judges.
//!
//! Start at [`schedule::engine`] for what a run does, at [`cli`] for how it is asked for. A program that uses this library
//! calls [`run_if_child`] first in its `main`.

pub mod cli;
pub mod cluster;
pub mod collect;
pub mod components;
pub mod embedded;
pub mod gate;
pub mod mesh;
pub mod probe;
pub mod progress;
pub mod schedule;
pub mod supervisor;
pub mod tutorial;
pub mod wait;

pub use supervisor::run_if_child;
