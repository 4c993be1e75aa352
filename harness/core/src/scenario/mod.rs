//! Scenarios: the language ([`schema`], [`matcher`]), loading a tree of them with every reference checked, and what a
//! run of them needs. Files are handed in as text; nothing here reads a disk.
//!
//! [`load`] turns files into a [`ScenarioSet`], [`plan`] selects and orders scenarios and merges the world that they
//! need, and [`expand`] replaces variables once their values are known.

pub mod by_hand;
pub mod expand;
pub mod expect;
mod json_schema;
pub mod load;
pub mod matcher;
pub mod model;
pub mod plan;
pub mod schema;
pub mod variable;
pub mod variant;

pub use expand::{CaValues, ExpandError, GatewayValues, Values, expand, expand_in, object_references, references_in};
pub use json_schema::schema_json;
pub use load::{LoadError, LoadErrors, load};
pub use model::{Manifest, ManifestObject, Position, Positions, Scenario, ScenarioId, ScenarioSet};
pub use plan::{
    Addresses, Capability, Lease, Lock, Locks, Order, Plan, PlanError, PlanErrors, Planned, ProfileGroup, Selection,
    SkipReason, World, WorldDestination, plan,
};
pub use variable::ObjectRef;
pub use variant::{Circumstances, ClusterKind, InForce, envoy_of_istio};
